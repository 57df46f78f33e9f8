/* From a fork of the supervisor to a command inside a running task: setns(2), pid_namespaces(7).
 *
 * The task's processes are hostile and run all the time. So all that needs power is done by a process that they cannot
 * see, since it is in the host's pid namespace; the one that appears in theirs has their own credentials already, none
 * of our fds but the report's, and is not dumpable until execve: it cannot be traced, nor its /proc/PID/exe, fd and mem
 * be opened (ptrace(2), "access mode checking"). CVE-2016-9962 and CVE-2019-5736 are what happens otherwise. */
#include "isolation/enter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/msg.h"
#include "isolation/steps.h"

static const struct {
    const char *theirs, *ours; /* in /proc/PID/ns */
    int flag;
} namespaces[] = {
    {"mnt", "mnt", CLONE_NEWNS},  {"uts", "uts", CLONE_NEWUTS},          {"ipc", "ipc", CLONE_NEWIPC},
    {"net", "net", CLONE_NEWNET}, {"cgroup", "cgroup", CLONE_NEWCGROUP}, {"pid", "pid_for_children", CLONE_NEWPID},
};
enum { NAMESPACES = sizeof(namespaces) / sizeof(namespaces[0]) };

static void report(int fd, int kind, pid_t pid, const struct err *e, int sent_fd)
{
    struct join_report r = {.kind = kind, .pid = pid};

    if (e)
        r.err = *e;
    if (msg_send(fd, &r, sizeof(r), &sent_fd, sent_fd >= 0 ? 1 : 0) < 0)
        _exit(126); /* the supervisor is gone, and with it the task */
}

static bool is_shared(int theirs, int ours, size_t i)
{
    struct stat x, y;

    return fstatat(theirs, namespaces[i].theirs, &x, 0) == 0 && fstatat(ours, namespaces[i].ours, &y, 0) == 0 &&
           x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

/* All namespaces that the task's first process has of its own, in one call; then they are read back over the host's
 * /proc. The pid namespace is for children only. */
static int step_namespaces(struct entry *c, struct err *e)
{
    char path[40];
    int flags = 0;
    struct stat root, up;

    snprintf(path, sizeof(path), "/proc/%d/ns", (int)c->join->task);
    _cleanup_close_ int theirs = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int ours = open("/proc/self/ns", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int task = (int)syscall(SYS_pidfd_open, c->join->task, 0);
    if (theirs < 0 || ours < 0 || task < 0)
        return err_step(e, "namespaces", errno, "cannot open the task's namespaces");
    for (size_t i = 0; i < NAMESPACES; i++)
        if (!is_shared(theirs, ours, i))
            flags |= namespaces[i].flag;
    if (!(flags & CLONE_NEWNS))
        return err_step(e, "namespaces", EXDEV, "the task has no mounts of its own");
    if (setns(task, flags) < 0)
        return err_step(e, "namespaces", errno, "setns");
    for (size_t i = 0; i < NAMESPACES; i++)
        if (!is_shared(theirs, ours, i))
            return err_step(e, "namespaces", EXDEV, "the %s namespace was not entered", namespaces[i].theirs);
    /* setns(2) has taken root and working directory to the root of the task's mounts. */
    c->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (c->root_fd < 0 || fstat(c->root_fd, &root) < 0 || stat("/..", &up) < 0)
        return err_step(e, "namespaces", errno, "cannot examine the root");
    if (root.st_dev != up.st_dev || root.st_ino != up.st_ino ||
        (root.st_dev == c->root.st_dev && root.st_ino == c->root.st_ino))
        return err_step(e, "namespaces", EXDEV, "/ is not the task's root");
    return 0;
}

/* A pair in the task's own devpts, so that its name is there. The other end is opened by the kernel, not by a path. */
static int step_terminal(struct entry *c, struct err *e)
{
    const struct identity *who = &c->b->host_who;
    struct statfs fs;
    struct stat st;
    int unlock = 0;

    if (!c->join->tty)
        return 0;
    _cleanup_close_ int master = root_open(c->root_fd, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (master < 0)
        return err_step(e, "terminal", errno, "cannot open /dev/pts/ptmx");
    if (fstat(master, &st) < 0 || fstatfs(master, &fs) < 0 || fs.f_type != DEVPTS_SUPER_MAGIC ||
        st.st_rdev != makedev(5, 2))
        return err_step(e, "terminal", ENODEV, "/dev/pts/ptmx is none");
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return err_step(e, "terminal", errno, "cannot unlock the terminal");
    _cleanup_close_ int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0 || fchown(slave, who->uid, sandbox_host_id(c->b, GID_TTY)) < 0 || fchmod(slave, 0620) < 0)
        return err_step(e, "terminal", errno, "cannot open the terminal");
    if (dup2(slave, 0) < 0 || dup2(slave, 1) < 0 || dup2(slave, 2) < 0)
        return err_step(e, "terminal", errno, "cannot set the standard streams");
    report(c->report_fd, JOIN_TERMINAL, 0, NULL, master);
    return 0;
}

/* By the session's user, and never made: as root it could be made where the user may not. */
static int step_session_work_dir(struct entry *c, struct err *e)
{
    const char *dir = c->b->spec->work_dir ? c->b->spec->work_dir : "/";
    _cleanup_close_ int fd = root_open(c->root_fd, dir, O_PATH | O_DIRECTORY);

    if (fd >= 0 && fchdir(fd) == 0)
        return 0;
    int why = errno;
    err_field(e, "/work_dir", "%s: %.160s", why == ENOENT ? "not found in the task's root" : "cannot be entered", dir);
    e->errnum = why;
    return -1;
}

/* The child is the supervisor's: it reaps it. From here on we are in the task's pid namespace and cgroups, in a session
 * of our own. */
static int step_spawn(struct entry *c, struct err *e)
{
    char go;

    /* The change of the uid has set it to fs.suid_dumpable. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
        return err_step(e, "spawn", errno, "cannot be protected from being traced");
    pid_t pid =
        (pid_t)syscall(SYS_clone, CLONE_PARENT, 0, 0, 0, 0); /* a filter may be in force, and let no clone3 pass */
    if (pid < 0)
        return err_step(e, "spawn", errno, "cannot fork into the task");
    if (pid > 0) {
        report(c->report_fd, JOIN_PID, pid, NULL, -1);
        _exit(0);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (recv(c->report_fd, &go, 1, 0) != 1)
        _exit(127);
    if (setsid() < 0 || (c->join->tty && ioctl(0, TIOCSCTTY, 0) < 0))
        return err_step(e, "terminal", errno, "cannot make a session of its own");
    return 0;
}

static const struct step steps[] = {
    {"close_fds", step_close_fds},         /* first: no later step may reach an fd of ours */
    {"oom_score_adj", step_oom_score_adj}, /* over the host's /proc: in the task's we are not seen */
    {"namespaces", step_namespaces},
    {"command", step_command},
    {"terminal", step_terminal},
    {"rlimits", step_rlimits},
    {"userns", step_userns},
    {"groups", step_groups},
    {"seccomp", step_seccomp_early},
    {"capabilities", step_capabilities},
    {"no_new_privs", step_no_new_privs},
    {"work_dir", step_session_work_dir},
    {"spawn", step_spawn}, /* what follows is the task's process */
    {"signals", step_signals},
    {"verify", step_verify},
    {"seccomp", step_seccomp},
    {"execve", step_execve},
};

void join_enter(const struct join *j, int report_fd)
{
    struct entry c = {.report_fd = report_fd, .go_fd = -1, .root_fd = -1, .join = j};
    struct sandbox box = j->box;
    struct err e = {0};

    c.b = &box;
    if (stat("/", &c.root) < 0) /* the host's, which must be left */
        err_step(&e, "namespaces", errno, "cannot examine the host's root");
    else
        steps_run(steps, sizeof(steps) / sizeof(steps[0]), &c, &e);
    report(report_fd, JOIN_FAILED, 0, &e, -1);
    _exit(127);
}

/* --- the plan ------------------------------------------------------------------------------------------------------
 */

static void set_env(struct pairs *env, const char *key, const char *value)
{
    for (size_t i = 0; i < env->n; i++)
        if (strcmp(env->v[i].key, key) == 0) {
            env->v[i].value = (char *)(size_t)value;
            return;
        }
    env->v[env->n++] = (struct pair){(char *)(size_t)key, (char *)(size_t)value};
}

int join_plan(struct join *j, const struct sandbox *box, const struct session_spec *s, pid_t task, struct err *e)
{
    const struct spec *own = box->spec;

    *j = (struct join){.box = *box, .spec = *own, .task = task, .tty = s->tty};
    j->spec.command = s->command;
    j->spec.args = s->args;
    if (s->work_dir)
        j->spec.work_dir = s->work_dir;
    j->spec.env = (struct pairs){.v = xcalloc(own->env.n + s->env.n + 1, sizeof(struct pair))};
    if (s->tty)
        set_env(&j->spec.env, "TERM", "xterm");
    for (size_t i = 0; i < own->env.n; i++)
        set_env(&j->spec.env, own->env.v[i].key, own->env.v[i].value);
    for (size_t i = 0; i < s->env.n; i++)
        set_env(&j->spec.env, s->env.v[i].key, s->env.v[i].value);
    j->box.spec = &j->spec;
    if (s->user && identity_resolve(s->user, box->policy, &j->box.who, e) < 0)
        return -1;
    if (box->userns && userns_check(&j->box.who, e) < 0)
        return -1;
    sandbox_take_userns(&j->box, box->userns);
    return 0;
}

void join_release(struct join *j)
{
    free(j->spec.env.v); /* all else is borrowed */
    j->spec.env.v = NULL;
}
