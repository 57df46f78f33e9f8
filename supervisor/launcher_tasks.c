/* The launcher's work for tasks: a supervisor each, and clearing away what one has left. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/msg.h"
#include "isolation/network.h"
#include "isolation/userns.h"
#include "supervisor/files.h"
#include "supervisor/launcher_internal.h"
#include "supervisor/record.h"
#include "supervisor/supervisor.h"

/* LEFTOVERS_MS: for all that is left at start; who cannot be killed must not keep us from serving the others. */
enum { CLEAR_KILL_MS = 10000, LEFTOVERS_MS = 5000, LEFTOVER_MS = 100, SUPERVISOR_END_MS = 10000, BACKLOG = 16 };

static int socket_address(const struct policy *p, const char *id, struct sockaddr_un *a)
{
    char path[256];

    memset(a, 0, sizeof(*a));
    a->sun_family = AF_UNIX;
    task_socket_path(p, id, path, sizeof(path));
    if (strlen(path) >= sizeof(a->sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(a->sun_path, path, strlen(path) + 1);
    return 0;
}

/* Nobody listens there, or there is nothing; any other failure does not tell that it is dead. */
static bool supervisor_lives(const struct policy *p, const char *id)
{
    struct sockaddr_un a;
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || socket_address(p, id, &a) < 0)
        return true;
    return connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 || (errno != ECONNREFUSED && errno != ENOENT);
}

/* One whose task has ended tells so before it goes. 0 when it is gone, -1 with ETIMEDOUT. */
static int await_supervisor(const struct policy *p, const char *id)
{
    int64_t deadline = clock_mono_ms() + SUPERVISOR_END_MS;

    while (supervisor_lives(p, id)) {
        if (clock_mono_ms() >= deadline) {
            errno = ETIMEDOUT;
            return -1;
        }
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return 0;
}

/* Bound before the fork: from here on a restarted server can find the supervisor. */
static int listen_for(const struct policy *p, const char *id)
{
    struct sockaddr_un a;
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || socket_address(p, id, &a) < 0)
        return -1;
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return -1;
    if (chown(a.sun_path, 0, p->server_gid) < 0 || chmod(a.sun_path, 0660) < 0 || listen(fd, BACKLOG) < 0) {
        unlink(a.sun_path);
        return -1;
    }
    return take_fd(&fd);
}

static int make_task_dir(const struct policy *p, const char *id)
{
    char path[256];

    task_dir_path(p, id, path, sizeof(path));
    /* tasks/ is setgid: the new directory belongs to the server's group from its first moment. The bit goes from the
     * directory itself, lest what tasks write below inherits the group. */
    return mkdir(path, 0750) < 0 || chown(path, 0, p->server_gid) < 0 || chmod(path, 0750) < 0 ? -1 : 0;
}

static void refuse(const char *id, int server_fd, const char *what)
{
    struct run_status s;

    record_init(&s, id);
    s.state = RUN_FAILED;
    s.ended_boot_ms = clock_mono_ms();
    err_step(&s.err, "launch", errno, "%s", what);
    message_send(server_fd, &s.head, NULL, 0);
}

void launch_task(struct launcher *l, const char *id, bool again, int spec_fd, int server_fd)
{
    if (make_task_dir(l->policy, id) < 0 && !(again && errno == EEXIST)) {
        refuse(id, server_fd, "cannot make the task's directory");
        return;
    }
    _cleanup_close_ int listen_fd = listen_for(l->policy, id);
    if (listen_fd < 0) {
        refuse(id, server_fd, "cannot make the supervisor's socket");
        return;
    }
    cgroup_host_restore(&l->cgroups);
    pid_t pid = fork();
    if (pid < 0)
        refuse(id, server_fd, "cannot fork a supervisor");
    if (pid != 0)
        return;
    log_init("supervisor");
    supervisor_main(&(struct supervisor_args){
        .policy = l->policy,
        .cgroups = &l->cgroups,
        .id = id,
        .spec_fd = spec_fd,
        .server_fd = server_fd,
        .listen_fd = listen_fd,
        .template_fd = l->template_fd,
        .again = again,
    });
}

/* Without groups: the task's pid 1, which takes its namespace with it (pid_namespaces(7)). The record tells which
 * process that was. */
static int kill_recorded(const struct policy *p, const char *id, int64_t timeout_ms)
{
    struct run_status s, now;
    char path[256];

    task_dir_path(p, id, path, sizeof(path));
    _cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || record_read(dir, id, &s) < 0 || s.pid <= 0)
        return 0; /* nothing has run */
    record_init(&now, id);
    _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, s.pid, 0);
    if (fd < 0 || strcmp(s.boot_id, now.boot_id) != 0 || record_pid_start(s.pid) != s.pid_start)
        return 0; /* it has ended, and its pid may be another's */
    syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    struct pollfd ended = {.fd = fd, .events = POLLIN};
    if (poll(&ended, 1, (int)timeout_ms) == 1)
        return 0;
    errno = ETIMEDOUT;
    return -1;
}

static int clear_now(struct launcher *l, const char *id, bool files, int64_t kill_ms, struct err *e)
{
    char path[256];

    bool tracked = cgroup_tracks(&l->cgroups);

    if (await_supervisor(l->policy, id) < 0)
        return err_step(e, SUPERVISOR_STEP, errno, "the task's supervisor lives");
    if ((tracked ? cgroup_kill(&l->cgroups, id, kill_ms) : kill_recorded(l->policy, id, kill_ms)) < 0)
        return err_step(e, "cgroup_kill", errno, "processes of the task are left");
    if (cgroup_remove(&l->cgroups, id) < 0)
        return err_step(e, "cgroup_remove", errno, "the task's cgroup is left");
    if (userns_clear(l->policy, id) < 0)
        return err_step(e, "userns", errno, "the task's range of ids is left");
    task_socket_path(l->policy, id, path, sizeof(path));
    if (unlink(path) < 0 && errno != ENOENT)
        return err_step(e, "socket", errno, "the supervisor's socket is left");
    if (!files)
        return 0;
    snprintf(path, sizeof(path), "%s/tasks", l->policy->state_dir);
    _cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || file_remove_tree(dir, id) < 0)
        return err_step(e, "task_directory", errno, "the task's directory is left");
    return 0;
}

/* The helper may outlive the launcher: a next one must find our sockets free. */
static void keep_only(int fd)
{
    if (fd > 3)
        close_range(3, (unsigned)fd - 1, 0);
    close_range((unsigned)fd + 1, ~0U, 0);
}

pid_t clear_task(struct launcher *l, const struct launcher_request *r, int reply_sock)
{
    struct launcher_reply reply = {.head = message_head(MSG_LAUNCHER_REPLY), .op = r->op};
    pid_t pid = fork(); /* a large tree or a slow kill must not hold up the next launch */

    if (pid != 0)
        return pid;
    keep_only(reply_sock);
    memcpy(reply.id, r->id, sizeof(reply.id));
    if (clear_now(l, r->id, r->op == REMOVE_TASK, CLEAR_KILL_MS, &reply.err) == 0)
        network_clear(l->policy, r->id);
    _exit(message_send(reply_sock, &reply.head, NULL, 0) < 0);
}

/* While its supervisor lives, that one alone reaches the task's files: they may be on a disk of their own. */
void task_files(struct launcher *l, const char *id, int channel)
{
    struct err e = {0};
    pid_t pid = fork();

    if (pid > 0)
        return;
    if (pid == 0)
        keep_only(channel);
    if (pid < 0)
        err_set(&e, 503, "no_resources", "cannot fork: %s", strerror(errno));
    else if (await_supervisor(l->policy, id) == 0)
        files_of_ended(l, id, channel);
    else
        err_set(&e, 503, "task_ending", "the task's supervisor has not left yet");
    files_refuse(channel, &e);
    if (pid == 0)
        _exit(0);
}

struct leftovers {
    struct launcher *launcher;
    int64_t deadline; /* CLOCK_BOOTTIME, ms */
};

static void clear_leftover(void *arg, const char *id)
{
    const struct leftovers *all = arg;
    int64_t left = all->deadline - clock_mono_ms();
    struct err e = {0};

    if (!id_valid(id) || supervisor_lives(all->launcher->policy, id))
        return;
    log_info("task %s: its supervisor is gone; what it left is cleared", id);
    if (clear_now(all->launcher, id, false, left > LEFTOVER_MS ? left : LEFTOVER_MS, &e) < 0)
        log_error("task %s: %s", id, e.detail);
}

/* Of supervisors that were killed, and of launches that were cut short before there was one. */
static void clear_sockets(const struct policy *p)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/supervisors", p->run_dir);
    DIR *d = opendir(path);
    for (const struct dirent *entry; d && (entry = readdir(d));)
        if (id_valid(entry->d_name) && !supervisor_lives(p, entry->d_name))
            unlinkat(dirfd(d), entry->d_name, 0);
    if (d)
        closedir(d);
}

void clear_leftovers(struct launcher *l)
{
    struct leftovers all = {l, clock_mono_ms() + LEFTOVERS_MS};

    cgroup_each(&l->cgroups, clear_leftover, &all);
    clear_sockets(l->policy);
    userns_each(l->policy, clear_leftover, &all);
    /* Plugins may take their time: no start waits for what is over. */
    if (network_clear_stale(l->policy, true) && fork() == 0) {
        close_range(3, ~0U, 0); /* a next launcher must find our sockets free */
        network_clear_stale(l->policy, false);
        _exit(0);
    }
}
