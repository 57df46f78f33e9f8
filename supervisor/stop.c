/* Signals, stop, pause. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/signals.h"
#include "isolation/descendants.h"
#include "supervisor/supervision.h"

enum { STUCK_MS = 3000 };

/* Whether pid handles or ignores signum, from SigCgt and SigIgn (proc_pid_status(5)). */
static bool signal_is_handled(pid_t pid, int signum)
{
    char path[64];
    _cleanup_free_ char *text = NULL;
    unsigned long long mask = 0;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    if (file_read(AT_FDCWD, path, 16384, &text, NULL) < 0)
        return true;
    for (const char *name = "SigIgn:"; name; name = strcmp(name, "SigIgn:") == 0 ? "SigCgt:" : NULL) {
        const char *line = strstr(text, name);
        unsigned long long set;

        if (line && sscanf(line + 7, " %llx", &set) == 1)
            mask |= set;
    }
    return (mask >> (signum - 1)) & 1;
}

static bool default_is_no_end(int signum)
{
    return signum == SIGCHLD || signum == SIGCONT || signum == SIGURG || signum == SIGWINCH || signum == SIGSTOP ||
           signum == SIGTSTP || signum == SIGTTIN || signum == SIGTTOU;
}

static int signal_one(void *arg, pid_t pid)
{
    return kill(pid, *(const int *)arg) < 0 && errno != ESRCH ? -1 : 0;
}

static int signal_all_members(struct supervision *s, int signum)
{
    if (!cgroup_tracks(s->args->cgroups))
        return descendants_each(signal_one, &signum);
    return cgroup_signal(s->args->cgroups, s->args->id, signum);
}

static int count_one(void *arg, pid_t pid)
{
    (void)pid;
    (*(int *)arg)++;
    return 0;
}

/* SIGKILL waits until an uninterruptible sleep ends (state D of proc_pid_stat(5)), as on a file system that hangs. */
static void on_stuck(void *arg, uint32_t events)
{
    struct supervision *s = arg;
    int n = 0;

    (void)events;
    s->stuck_timer = NULL;
    if (cgroup_members(s->args->cgroups, s->args->id, count_one, &n) < 0 || n == 0)
        n = 1; /* the command */
    snprintf(s->status.waits_for, sizeof(s->status.waits_for),
             "%d %s that cannot be killed: uninterruptible in the kernel", n, n == 1 ? "process" : "processes");
    control_broadcast(s);
}

void stop_ended(struct supervision *s)
{
    loop_remove(s->stop_timer);
    loop_remove(s->stuck_timer);
    s->stop_timer = s->stuck_timer = NULL;
    s->status.waits_for[0] = '\0';
}

static void kill_task(struct supervision *s, const char *reason)
{
    if (!s->stuck_timer)
        s->stuck_timer = loop_add_timer(s->loop, STUCK_MS, on_stuck, s);
    s->kill_reason = reason;
    kill(s->status.pid, SIGKILL); /* our unreaped child: its pid cannot have been given away */
    cgroup_kill(s->args->cgroups, s->args->id, 0);
}

static void on_kill_timeout(void *arg, uint32_t events)
{
    struct supervision *s = arg;

    (void)events;
    s->stop_timer = NULL;
    /* a limit that has been passed stays the reason; "stopped" gives way to what it came to */
    kill_task(s, strcmp(s->kill_reason, "stopped") == 0 ? "killed after kill_timeout" : s->kill_reason);
}

int supervision_signal(struct supervision *s, int signum, bool all)
{
    return all ? signal_all_members(s, signum) : kill(s->status.pid, signum);
}

static void thaw(struct supervision *s)
{
    if (!s->status.paused)
        return;
    cgroup_freeze(s->args->cgroups, s->args->id, false);
    s->status.paused = 0;
}

/* Who does not say how long does not put off the end of a stop that is under way. */
static int64_t grace(const struct supervision *s, int64_t asked_ms)
{
    int64_t left = s->stop_timer ? s->kill_due_ms - clock_mono_ms() : INT64_MAX;

    if (asked_ms >= 0)
        return asked_ms;
    if (left < 0)
        return 0;
    return left < s->spec.kill_timeout_ms ? left : s->spec.kill_timeout_ms;
}

void supervision_stop(struct supervision *s, int signum, int64_t timeout_ms, const char *reason, struct err *e)
{
    bool is_init = s->sandbox.clone_flags & CLONE_NEWPID; /* the task is pid 1 there */

    if (s->status.state == RUN_RESTARTING) {
        lifecycle_give_up(s, reason ? reason : "stopped while it waited for its restart");
        return;
    }
    signum = signum > 0 ? signum : (int)s->spec.kill_signal;
    s->restart_asked = false;
    s->status.stopping = 1;
    timeout_ms = grace(s, timeout_ms);
    if (timeout_ms == 0) {
        kill_task(s, reason ? reason : "killed");
    } else if (is_init && !default_is_no_end(signum) && !signal_is_handled(s->status.pid, signum)) {
        /* The kernel drops signals that pid 1 has no handler for (pid_namespaces(7)): waiting would be in vain. */
        kill_task(s, reason ? reason : "killed at once: pid 1 has no handler for the stop signal");
    } else {
        if (kill(s->status.pid, signum) < 0)
            err_set(e, 500, "signal_failed", "cannot send %s: %s", signal_name(signum), strerror(errno));
        s->kill_reason = reason ? reason : "stopped";
        loop_remove(s->stop_timer);
        s->stop_timer = loop_add_timer(s->loop, timeout_ms, on_kill_timeout, s);
        s->kill_due_ms = clock_mono_ms() + timeout_ms;
    }
    thaw(s); /* a frozen process gets its signal when it goes on */
}

void supervision_pause(struct supervision *s, bool paused, struct err *e)
{
    if (s->status.state != RUN_RUNNING || s->status.stopping) {
        err_set(e, 409, "task_not_running", "the task is not running: it cannot be %s", paused ? "paused" : "resumed");
        return;
    }
    if (s->status.paused == paused)
        return;
    if (cgroup_freeze(s->args->cgroups, s->args->id, paused) < 0) {
        int saved = errno;
        if (paused)
            cgroup_freeze(s->args->cgroups, s->args->id, false);
        if (saved == ENOTSUP)
            err_set(e, 501, "cannot_freeze", "this host has neither a v2 hierarchy nor v1's freezer");
        else
            err_set(e, 500, "freeze_failed", "cannot %s the task: %s", paused ? "freeze" : "thaw", strerror(saved));
        return;
    }
    s->status.paused = paused;
}
