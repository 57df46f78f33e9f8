/* From one run of the task to the next, and the timers that end it. */
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "supervisor/record.h"
#include "supervisor/supervision.h"

enum { CPU_CHECK_MIN_MS = 10, CPU_CHECK_MAX_MS = 60000 };

static void passed(struct supervision *s, const char *reason)
{
    struct err e = {0};

    if (!s->status.stopping || s->restart_asked)
        s->kill_reason = reason;
    supervision_stop(s, 0, -1, s->kill_reason, &e); /* of a stop that is under way the reason stays */
    control_broadcast(s);
}

static void on_timeout(void *arg, uint32_t events)
{
    struct supervision *s = arg;

    (void)events;
    s->timeout_timer = NULL;
    passed(s, "timeout");
}

/* The next look is when the limit could be reached at the earliest: with all cores at work. */
static void on_cpu_check(void *arg, uint32_t events)
{
    struct supervision *s = arg;
    struct cgroup_usage u;

    (void)events;
    s->cpu_timer = NULL;
    cgroup_usage(s->args->cgroups, s->args->id, &u);
    int64_t left = s->spec.cpu_timeout_ms - u.cpu_ns / 1000000;
    if (left <= 0) {
        passed(s, "cpu_timeout");
        return;
    }
    left /= sysconf(_SC_NPROCESSORS_ONLN);
    left = left < CPU_CHECK_MIN_MS ? CPU_CHECK_MIN_MS : left > CPU_CHECK_MAX_MS ? CPU_CHECK_MAX_MS : left;
    s->cpu_timer = loop_add_timer(s->loop, left, on_cpu_check, s);
}

static void remove_timers(struct supervision *s)
{
    loop_remove(s->timeout_timer);
    loop_remove(s->cpu_timer);
    s->timeout_timer = s->cpu_timer = NULL;
}

/* timeout goes on from one run to the next. */
static void arm_timeout(struct supervision *s)
{
    int64_t left = s->first_started_ms + s->spec.timeout_ms - clock_mono_ms();

    if (s->spec.timeout_ms > 0)
        s->timeout_timer = loop_add_timer(s->loop, left > 0 ? left : 0, on_timeout, s);
}

int lifecycle_resume(struct supervision *s, struct err *e)
{
    /* Volatile layers and a file system without a journal are not to be used again when they were not unmounted. */
    static const char *const scratch[] = {"upper", "work", DISK_IMAGE};
    struct run_status before;
    struct exit_info *x = &s->status.exit;

    s->status.restarts = 1;
    if (record_read(s->task_dir_fd, s->args->id, &before) == 0) {
        s->status.restarts = before.restarts + 1;
        *x = before.exit;
        s->status.oom_kills = before.oom_kills;
        if (before.state != RUN_RESTARTING) {
            *x = (struct exit_info){.code = -1, .started_at = before.started_at, .finished_at = clock_real_ns()};
            snprintf(x->reason, sizeof(x->reason), REBOOT_REASON);
        }
    }
    for (size_t i = 0; i < sizeof(scratch) / sizeof(scratch[0]); i++)
        if (file_remove_tree(s->task_dir_fd, scratch[i]) < 0)
            return err_step(e, "task_directory", errno, "cannot remove %s", scratch[i]);
    return 0;
}

void lifecycle_started(struct supervision *s)
{
    if (!s->first_started_ms)
        s->first_started_ms = clock_mono_ms();
    remove_timers(s);
    arm_timeout(s);
    oom_started(s);
    if (s->spec.cpu_timeout_ms > 0)
        on_cpu_check(s, 0);
    if (s->status.stopping) /* a stop came at the last moment */
        supervision_stop(s, s->early_stop.signum, s->early_stop.timeout_ms, NULL, &(struct err){0});
}

void lifecycle_updated(struct supervision *s)
{
    if (s->status.stopping)
        return; /* its end is under way */
    remove_timers(s);
    arm_timeout(s);
    if (s->status.state == RUN_RUNNING && s->spec.cpu_timeout_ms > 0)
        on_cpu_check(s, 0);
}

static void start_again(void *arg, uint32_t events)
{
    struct supervision *s = arg;
    struct err e = {0};

    (void)events;
    s->restart_timer = NULL;
    remove_timers(s);
    loop_remove(s->child_source); /* a start waits for its own children */
    s->child_source = NULL;
    s->main_reaped = s->restart_asked = false;
    s->kill_reason = NULL;
    s->status.pid = 0;
    s->status.stopping = s->status.paused = 0;
    s->status.next_start_at = 0;
    s->status.restarts++;
    if (supervision_start(s, &e) < 0 || supervision_watch(s) < 0 || record_write(s->task_dir_fd, &s->status) < 0) {
        if (e.status == 0) {
            err_step(&e, "record", errno, "cannot watch or record the task");
            supervision_undo(s);
        }
        if (s->status.stopping) {
            lifecycle_give_up(s, "stopped while it was restarted");
            return;
        }
        s->status.state = RUN_FAILED;
        s->status.err = e;
        supervision_finish(s);
        return;
    }
    lifecycle_started(s);
    control_broadcast(s);
}

static void wait_for_start(struct supervision *s, int64_t delay_ms)
{
    s->status.state = RUN_RESTARTING;
    s->status.pid = 0;
    s->status.stopping = s->status.paused = 0;
    s->status.next_start_at = clock_real_ns() + delay_ms * 1000000;
    if (record_write(s->task_dir_fd, &s->status) < 0)
        log_error("task %s: cannot write its record", s->args->id);
    control_broadcast(s);
    s->restart_timer = loop_add_timer(s->loop, delay_ms, start_again, s);
    arm_timeout(s);
}

bool lifecycle_continues(struct supervision *s)
{
    const struct exit_info *x = &s->status.exit;
    uint32_t spread = 0;
    int64_t delay = 0;

    remove_timers(s);
    if (!s->restart_asked) {
        if (s->status.stopping)
            return false;
        if (getrandom(&spread, sizeof(spread), 0) != sizeof(spread))
            spread = 0;
        bool failed = x->code != 0 || x->oom_killed;
        if (!restart_decide(&s->spec.restart, &s->history, clock_mono_ms(), failed, spread, &delay))
            return false;
    }
    wait_for_start(s, delay);
    return true;
}

void lifecycle_restart(struct supervision *s, int64_t timeout_ms, struct err *e)
{
    if (s->status.state == RUN_RESTARTING) {
        loop_remove(s->restart_timer);
        s->restart_timer = loop_add_timer(s->loop, 0, start_again, s);
        return;
    }
    if (s->status.stopping && !s->restart_asked) {
        err_set(e, 409, "task_stopping", "the task is being stopped");
        return;
    }
    supervision_stop(s, 0, timeout_ms, "restarted", e);
    s->restart_asked = true;
}

void lifecycle_give_up(struct supervision *s, const char *reason)
{
    loop_remove(s->restart_timer);
    s->restart_timer = NULL;
    remove_timers(s);
    snprintf(s->status.exit.reason, sizeof(s->status.exit.reason), "%s", reason);
    s->status.state = RUN_EXITED;
    s->status.next_start_at = 0;
    supervision_finish(s);
}
