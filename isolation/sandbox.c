/* The plan of a sandbox, and the table of the steps that make it in the child. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/ids.h"
#include "isolation/disk.h"
#include "isolation/rlimits.h"
#include "isolation/steps.h"
#include "isolation/volumes.h"

static enum ns_mode mode_of(enum ns_mode asked, enum ns_mode policy)
{
    enum ns_mode mode = asked != NS_DEFAULT ? asked : policy;

    return mode == NS_DEFAULT ? NS_PRIVATE : mode;
}

int sandbox_plan(struct sandbox *b, const struct spec *s, const struct policy *p, const char *id, struct err *e)
{
    uint64_t added;

    memset(b, 0, sizeof(*b));
    b->spec = s;
    b->policy = p;
    b->id = id;
    b->root_tree = -1;
    int n = snprintf(b->task_dir, sizeof(b->task_dir), "%s/tasks/%s", p->state_dir, id);
    if (n < 0 || (size_t)n >= sizeof(b->task_dir))
        return err_step(e, "task_directory", ENAMETOOLONG, "the state directory's path is too long");
    snprintf(b->data_dir, sizeof(b->data_dir), "%s%s", b->task_dir, s->resources.disk ? "/" DISK_MOUNT : "");
    if (identity_resolve(s->user ? s->user : "nobody", p, &b->who, e) < 0)
        return -1;
    if (userns_wanted(s, p) && userns_check(&b->who, e) < 0)
        return -1;
    b->host_who = b->who;
    if (caps_compute(s, p->allow_caps, &b->caps, &added, e) < 0)
        return -1;
    if (volumes_check(s, p, e) < 0)
        return -1;
    b->chroot = policy_chroot(p, s->chroot);
    b->caps_ambient = p->ambient_all ? b->caps : added & b->caps;
    if (seccomp_choose(p->seccomp, s->seccomp ? s->seccomp : SECCOMP_DEFAULT, b->caps, &b->seccomp, e) < 0)
        return -1;
    b->pid_mode = mode_of(s->pid_mode, p->pid_mode);
    b->ipc_mode = mode_of(s->ipc_mode, p->ipc_mode);
    b->clone_flags = CLONE_NEWNS | CLONE_NEWUTS;
    if (b->pid_mode == NS_PRIVATE)
        b->clone_flags |= CLONE_NEWPID;
    if (b->ipc_mode == NS_PRIVATE)
        b->clone_flags |= CLONE_NEWIPC;
    return 0;
}

void sandbox_take_userns(struct sandbox *b, const struct userns *u)
{
    b->userns = u;
    b->host_who = b->who;
    userns_shift(u, &b->host_who);
}

uint32_t sandbox_host_id(const struct sandbox *b, uint32_t id)
{
    return ids_shift(b->userns ? b->userns->base : 0, id);
}

int sandbox_open_mounts(struct sandbox *b, int template_fd, struct err *e)
{
    return readonly_clone(b, template_fd, e) < 0 ? -1 : volumes_open(b, e);
}

void sandbox_close_mounts(struct sandbox *b)
{
    if (b->root_tree >= 0)
        close(b->root_tree);
    b->root_tree = -1;
    volumes_close(b);
}

/* Of all mounts of the namespace, also of those outside our root. */
static int step_mount_propagation(struct entry *c, struct err *e)
{
    _cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    (void)c;
    if (root < 0 || enter_namespace_root() < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_step(e, "mount_propagation", errno, "cannot make the mounts private");
    if (fchdir(root) < 0 || chroot(".") < 0)
        return err_step(e, "mount_propagation", errno, "cannot go back to the daemon's root");
    return 0;
}

/* A move between groups may wait for all CPUs, 10 ms and more (the kernel's cgroup_threadgroup_rwsem): what is made on
 * the way to here is made meanwhile. */
static int step_cgroup(struct entry *c, struct err *e)
{
    char go;
    ssize_t n;

    do
        n = read(c->go_fd, &go, 1);
    while (n < 0 && errno == EINTR);
    if (n != 1)
        return err_step(e, "cgroup", n < 0 ? errno : EPIPE, "the supervisor is gone");
    close(c->go_fd);
    return 0;
}

/* The task is in its groups by now: they become the root of what it sees of each hierarchy, so that it neither learns
 * the host's paths nor, should it mount one, finds files of a hierarchy's root such as release_agent
 * (cgroup_namespaces(7)). EINVAL: a kernel without them. */
static int step_cgroup_namespace(struct entry *c, struct err *e)
{
    (void)c;
    if (unshare(CLONE_NEWCGROUP) < 0 && errno != EINVAL)
        return err_step(e, "cgroup_namespace", errno, "unshare");
    return 0;
}

size_t sandbox_hostname(const struct sandbox *b, const char **name)
{
    *name = b->spec->hostname ? b->spec->hostname : b->id;
    return b->spec->hostname ? strlen(*name) : strnlen(*name, 12);
}

static int step_hostname(struct entry *c, struct err *e)
{
    const char *name;
    size_t len = sandbox_hostname(c->b, &name);

    if (sethostname(name, len) < 0)
        return err_step(e, "hostname", errno, "sethostname");
    return 0;
}

int step_rlimits(struct entry *c, struct err *e)
{
    umask(022);
    return rlimits_apply(&c->b->spec->resources.rlimits, e);
}

/* The service manager may protect us from the OOM killer; the task is not to inherit that. Raising it again is
 * everybody's right, lowering it is not (proc_pid_oom_score_adj(5)), so the default alone may fail. */
int step_oom_score_adj(struct entry *c, struct err *e)
{
    int64_t want = c->b->spec->oom_score_adj;
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)want);
    if (file_write_at(AT_FDCWD, "/proc/self/oom_score_adj", text) < 0 && want > 0)
        return err_step(e, "oom_score_adj", errno, "cannot set it to %s", text);
    return 0;
}

int step_groups(struct entry *c, struct err *e)
{
    return identity_apply_groups(&c->b->who, e);
}

int step_capabilities(struct entry *c, struct err *e)
{
    return caps_apply(c->b->caps, c->b->caps_ambient, c->b->who.uid, e);
}

int step_no_new_privs(struct entry *c, struct err *e)
{
    if (c->b->spec->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_step(e, "no_new_privs", errno, "prctl");
    return 0;
}

/* What execve(2) would hand on to the command: ignored signals and the mask. */
int step_signals(struct entry *c, struct err *e)
{
    struct sigaction act = {.sa_handler = SIG_DFL};
    sigset_t none;

    (void)c;
    for (int sig = 1; sig <= SIGRTMAX; sig++)
        if (sigaction(sig, &act, NULL) < 0 && errno != EINVAL)
            return err_step(e, "signals", errno, "cannot reset signal %d", sig);
    /* The change of the uid has cleared it (prctl(2)). */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_step(e, "signals", errno, "cannot bind the task's life to the supervisor's");
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        return err_step(e, "signals", errno, "sigprocmask");
    return 0;
}

/* Without no_new_privs only a process with CAP_SYS_ADMIN may load a filter (seccomp(2)), so it is done while the child
 * has it; the profile must then allow what the later steps call, or they fail. Otherwise it is done last. runc(8) does
 * the same. */
int step_seccomp_early(struct entry *c, struct err *e)
{
    return c->b->seccomp && !c->b->spec->no_new_privs ? seccomp_install(c->b->seccomp, e) : 0;
}

int step_seccomp(struct entry *c, struct err *e)
{
    return c->b->seccomp && c->b->spec->no_new_privs ? seccomp_install(c->b->seccomp, e) : 0;
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* The report's fd stays until execve, the one to wait at until the wait is over, the trees that are to be mounted until
 * they are. */
int step_close_fds(struct entry *c, struct err *e)
{
    size_t n = 0, mounts = c->b->volumes ? c->b->spec->volume_mounts.n : 0;
    _cleanup_free_ int *keep = xcalloc(mounts + 4, sizeof(*keep));
    unsigned next = 3;

    if (c->report_fd < 3 || (c->go_fd >= 0 && c->go_fd < 3))
        return err_step(e, "close_fds", EBADF, "an fd of ours is a standard stream");
    keep[n++] = c->report_fd;
    keep[n++] = c->go_fd;
    keep[n++] = c->b->root_tree;
    keep[n++] = c->b->userns ? c->b->userns->fd : -1;
    for (size_t i = 0; i < mounts; i++)
        keep[n++] = c->b->volumes[i].fd;
    qsort(keep, n, sizeof(*keep), by_number);
    for (size_t i = 0; i < n; i++) {
        unsigned fd = (unsigned)keep[i];

        if (keep[i] < 3)
            continue;
        if ((fd > next && close_range(next, fd - 1, 0) < 0) || fcntl(keep[i], F_SETFD, FD_CLOEXEC) < 0)
            return err_step(e, "close_fds", errno, "cannot close what is before fd %u", fd);
        next = fd + 1;
    }
    if (close_range(next, ~0U, 0) < 0)
        return err_step(e, "close_fds", errno, "close_range");
    return 0;
}

static const struct step steps[] = {
    {"close_fds", step_close_fds}, /* first: no later step may reach an fd of ours */
    {"network", step_network},     /* before sysfs, which shows the namespace of who mounts it */
    {"mount_propagation", step_mount_propagation},
    {"fsuid", step_fsuid}, /* before anything is made: what is made belongs to the task's root */
    {"rootfs", step_rootfs},
    {"volumes", step_volumes},
    {"network_files", step_network_files},
    {"volume_mounts", step_volume_mounts}, /* before those that the kernel fills: these end up on top */
    {"dev", step_dev},
    {"proc", step_proc},
    {"sys", step_sys},
    {"pivot_root", step_pivot_root},
    {"hostname", step_hostname},
    {"oom_score_adj", step_oom_score_adj},
    {"work_dir", step_work_dir},
    {"command", step_command},
    {"cgroup", step_cgroup}, /* the last that needs no group of its own: the longer the other side may take */
    {"cgroup_namespace", step_cgroup_namespace},
    {"rlimits", step_rlimits}, /* late: few fds or little memory must not hinder our own steps */
    {"userns", step_userns},   /* what comes before needs the host's power, what follows only the task's */
    {"groups", step_groups},
    {"seccomp", step_seccomp_early},
    {"capabilities", step_capabilities},
    {"no_new_privs", step_no_new_privs},
    {"signals", step_signals},
    {"verify", step_verify},
    {"seccomp", step_seccomp}, /* last: the profile is the command's, and need not allow what the steps call */
    {"execve", step_execve},
};
enum { STEPS = sizeof(steps) / sizeof(steps[0]) };

#ifdef CLOISTER_FAULTS
static bool fault_at(const struct spec *s, const char *step)
{
    for (size_t i = 0; i < s->env.n; i++)
        if (strcmp(s->env.v[i].key, "CLOISTER_FAIL_STEP") == 0 && strcmp(s->env.v[i].value, step) == 0)
            return true;
    return false;
}
#endif

static int run_step(const struct step *s, struct entry *c, struct err *e)
{
#ifdef CLOISTER_FAULTS
    if (fault_at(c->b->spec, s->name))
        return err_step(e, s->name, EIO, "a fault was asked for");
#endif
    if (s->run(c, e) == 0)
        return 0;
    if (e->status == 0) /* a failure must never look like success to the parent */
        err_step(e, s->name, EPROTO, "the step failed without saying why");
    if (!e->step[0])
        snprintf(e->step, sizeof(e->step), "%s", s->name);
    return -1;
}

int steps_run(const struct step *s, size_t n, struct entry *c, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (run_step(&s[i], c, e) < 0)
            return -1;
    return err_step(e, "execve", EPROTO, "execve returned");
}

int sandbox_enter(struct sandbox *b, int go_fd, int report_fd, struct err *e)
{
    struct entry c = {.b = b, .report_fd = report_fd, .go_fd = go_fd, .root_fd = -1};

    if (setsid() < 0 && getsid(0) != getpid()) /* own session: no controlling terminal of ours */
        return err_step(e, "signals", errno, "setsid");
    umask(0); /* modes are given exactly until the rlimits step */
    return steps_run(steps, STEPS, &c, e);
}
