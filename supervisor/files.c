#include "supervisor/files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/msg.h"
#include "isolation/caps.h"
#include "isolation/mount_tree.h"
#include "supervisor/files_internal.h"
#include "supervisor/record.h"

void files_refuse(int channel, const struct err *e)
{
    struct files_reply r = {.version = FILES_VERSION, .what = FILES_IS_DONE, .err = *e};

    msg_send(channel, &r, sizeof(r), NULL, 0);
}

int files_answer(const struct files_job *job, enum files_what what, int fd, bool created)
{
    struct files_reply r = {.version = FILES_VERSION, .what = what, .created = created};

    return msg_send(job->channel, &r, sizeof(r), &fd, fd >= 0 ? 1 : 0);
}

static int receive(struct files_job *job, struct err *e)
{
    struct files_request *r = &job->request;
    int fds[MSG_FDS_MAX];
    size_t nfds = 0;

    ssize_t n = fcntl(job->channel, F_SETFL, 0) < 0 ? -1 : msg_recv(job->channel, r, sizeof(*r), fds, &nfds);
    for (size_t i = 0; i < nfds; i++)
        close(fds[i]);
    if (n != sizeof(*r) || r->version != FILES_VERSION || !memchr(r->path, 0, sizeof(r->path)) ||
        !memchr(r->after, 0, sizeof(r->after)) || r->limit > 1000 || (r->mode & ~0777U))
        return err_set(e, 500, "protocol", "the request about files is none");
    return 0;
}

/* From here on dir is "/". Without the calls for mounts it is so without the mount's protection. The fd is kept: with
 * it the tree would be taken apart, and every mntput() of a part would then look like a change of mounts to openat2(2),
 * which answers EAGAIN for a path with "..". Returns the fd. */
static int jail(const char *dir, bool writes, struct err *e)
{
    uint64_t attrs = TREE_QUIET | MOUNT_ATTR_NOEXEC | (writes ? 0 : MOUNT_ATTR_RDONLY);
    _cleanup_close_ int tree = tree_clone(AT_FDCWD, dir, attrs, MS_PRIVATE);

    if (tree < 0 && errno == ENOSYS)
        tree = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (tree < 0 && errno == ENOENT) /* it is being removed */
        return err_set(e, 404, "file_not_found", "the task has no files any more");
    if (tree < 0 || fchdir(tree) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return err_step(e, "files", errno, "cannot confine the access to files");
    return take_fd(&tree);
}

static int drop_power(struct err *e)
{
    static const char *const needed[] = {"chown", "dac_override", "fowner"};
    uint64_t keep = 0;

    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        keep |= caps_parse(needed[i]);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
        return err_step(e, "files", errno, "prctl");
    return caps_apply(keep & caps_held(), 0, 0, e);
}

static int run(struct files_job *job, struct err *e)
{
    switch (job->request.op) {
    case FILES_GET:
        return files_get(job, e);
    case FILES_PUT:
        return files_put(job, e);
    case FILES_DELETE:
        return files_delete(job, e);
    case FILES_UNTAR:
        return files_untar(job, e);
    default:
        return err_set(e, 500, "protocol", "unknown operation %u", job->request.op);
    }
}

static int confine(struct files_job *job, const char *dir, struct err *e)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* of the launcher; and it may be ended by SIGTERM */
    signal(SIGPIPE, SIG_IGN);
    umask(0);
    int tree = jail(dir, job->request.op != FILES_GET, e);
    if (tree < 0)
        return -1;
    int channel = fcntl(job->channel, F_DUPFD_CLOEXEC, 5); /* out of the way of the places that both get */
    int root = fcntl(tree, F_DUPFD_CLOEXEC, 5);
    if (channel < 0 || root < 0 || dup3(channel, 3, O_CLOEXEC) < 0 || dup3(root, 4, O_CLOEXEC) < 0)
        return err_step(e, "files", errno, "cannot keep the channel");
    job->channel = 3;
    job->root = 4;
    return close_range(5, ~0U, 0) < 0 ? err_step(e, "files", errno, "close_range") : drop_power(e);
}

_Noreturn static void serve(struct files_job *job, const char *dir, struct err *e)
{
    if (e->status == 0 && confine(job, dir, e) == 0)
        run(job, e);
    if (e->status)
        files_refuse(job->channel, e);
    _exit(0);
}

void files_of_running(struct supervision *s, int channel, struct err *e)
{
    struct files_job job = {.channel = channel, .uid = s->sandbox.host_who.uid, .gid = s->sandbox.host_who.gid};
    pid_t pid = fork();

    if (pid < 0)
        err_set(e, 503, "no_resources", "cannot fork: %s", strerror(errno));
    if (pid != 0)
        return;
    prctl(PR_SET_NAME, "cloister-files");
    if (receive(&job, e) == 0)
        disk_enter(&s->disk, &s->sandbox, e);
    serve(&job, s->sandbox.data_dir, e);
}

/* Where the files of an ended task are: its directory, or what is left of its limited disk. */
static int find_ended(const struct files_job *job, const char *id, char *dir, size_t n, struct err *e)
{
    _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct run_status status;
    size_t len = strlen(dir);

    if (fd < 0 || record_read(fd, id, &status) < 0 || status.disk_mode == DISK_NONE)
        return fd < 0 ? err_set(e, 404, "file_not_found", "the task has no files") : 0;
    if (status.disk_mode == DISK_TMPFS)
        return err_set(e, 410, "disk_gone", "the task's disk was memory: it has gone with the task");
    if (job->request.op != FILES_GET)
        return err_set(e, 409, "read_only", "the limited disk of an ended task can only be read");
    if (disk_look(dir, e) < 0)
        return -1;
    if (len + sizeof("/" DISK_MOUNT) > n)
        return err_step(e, "files", ENAMETOOLONG, "the state directory's path is too long");
    memcpy(dir + len, "/" DISK_MOUNT, sizeof("/" DISK_MOUNT));
    return 0;
}

_Noreturn void files_of_ended(const struct launcher *l, const char *id, int channel)
{
    struct files_job job = {.channel = channel}; /* nobody of the task is left: what is made is root's */
    struct err e = {0};
    char dir[300];

    prctl(PR_SET_NAME, "cloister-files");
    task_dir_path(l->policy, id, dir, sizeof(dir));
    if (receive(&job, &e) == 0)
        find_ended(&job, id, dir, sizeof(dir), &e);
    serve(&job, dir, &e);
}
