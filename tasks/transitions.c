/* What a task's change is as an event. */
#include <stdio.h>
#include <string.h>

#include "tasks/registry_internal.h"

static struct json *run_data(const struct task *t)
{
    struct json *j = json_object();

    json_set_int(j, "pid", t->status.pid);
    json_set_int(j, "restarts", t->status.restarts);
    return j;
}

static struct json *restart_data(const struct task *t)
{
    struct json *j = task_exit_json(t);

    json_set_int(j, "restarts", t->status.restarts);
    json_set_time(j, "next_start_at", t->status.next_start_at);
    return j;
}

void events_put_failure(struct json *j, const struct err *e)
{
    json_set_string(j, "step", e->step[0] ? e->step : NULL);
    json_set_string(j, "code", e->code);
    json_set_string(j, "detail", e->detail);
    json_set_string(j, "errno", e->errnum ? err_errno_name(e->errnum) : NULL);
}

static struct json *failure_data(const struct task *t)
{
    struct json *j = json_object();

    events_put_failure(j, &t->status.err);
    return j;
}

static struct json *lost_data(const struct task *t)
{
    struct json *j = json_object();

    json_set_string(j, "reason", t->status.exit.reason);
    return j;
}

static struct json *no_data(const struct task *t)
{
    (void)t;
    return NULL;
}

static const struct {
    enum event_type type;
    struct json *(*data)(const struct task *t);
} entering[TASK_STATES] = {
    [TASK_PENDING] = {EVENT_TASK_PENDING, no_data},      [TASK_STARTING] = {EVENT_TASK_STARTING, no_data},
    [TASK_RUNNING] = {EVENT_TASK_RUNNING, run_data},     [TASK_STOPPING] = {EVENT_TASK_STOPPING, no_data},
    [TASK_EXITED] = {EVENT_TASK_EXITED, task_exit_json}, [TASK_FAILED] = {EVENT_TASK_FAILED, failure_data},
    [TASK_LOST] = {EVENT_TASK_LOST, lost_data},          [TASK_RESTARTING] = {EVENT_TASK_RESTARTING, restart_data},
    [TASK_PAUSED] = {EVENT_TASK_PAUSED, no_data},
};

static void count_failure(struct event_counters *c, const char *step)
{
    size_t i = 0;

    while (i < c->nfailures && strcmp(c->failures[i].step, step) != 0)
        i++;
    if (i >= EVENT_STEPS - 1) {
        i = EVENT_STEPS - 1;
        step = "other";
    }
    if (i == c->nfailures) {
        snprintf(c->failures[i].step, sizeof(c->failures[i].step), "%s", step);
        c->nfailures++;
    }
    c->failures[i].n++;
}

/* What has not been told yet. A count that is lower than before is one that began anew, after a reboot. Supervisors
 * of an older version tell at the end alone, and have no count. */
static void tell_oom(struct registry *r, struct task *t)
{
    const struct exit_info *x = &t->status.exit;
    int64_t kills = t->status.oom_kills - t->told_oom;
    bool new_end = t->told_end != x->finished_at;

    if (t->status.oom_kills == 0 && new_end && x->oom_killed &&
        (t->state == TASK_EXITED || t->state == TASK_RESTARTING))
        kills = x->usage.oom_kills > 0 ? x->usage.oom_kills : 1;
    t->told_oom = t->status.oom_kills;
    t->told_end = x->finished_at;
    if (kills <= 0)
        return;
    struct json *j = json_object();
    json_set_int(j, "kills", kills);
    r->events.counters.oom_kills += (uint64_t)kills;
    events_emit(r, EVENT_TASK_OOM, t, j);
}

static void emit_progress(struct registry *r, const struct task *t, bool done)
{
    struct json *j = json_object();

    json_set_int(j, "files", t->status.root_files);
    json_set_int(j, "bytes", t->status.root_bytes);
    json_set_bool(j, "done", done);
    events_emit(r, EVENT_TASK_PROGRESS, t, j);
}

/* Of a copied root; its end is told if its progress was. */
static void tell_progress(struct registry *r, struct task *t)
{
    bool changed = t->status.root_files != t->told_files || t->status.root_bytes != t->told_bytes;
    bool starting = t->state == TASK_STARTING, was_starting = t->told == TASK_STARTING;

    if (starting && was_starting && changed) {
        emit_progress(r, t, false);
        t->told_progress = true;
    } else if (starting != was_starting) {
        if (t->told_progress && t->state != TASK_FAILED && t->state != TASK_LOST && t->state != TASK_PENDING)
            emit_progress(r, t, true);
        t->told_progress = false;
    }
    t->told_files = t->status.root_files;
    t->told_bytes = t->status.root_bytes;
}

void events_transition(struct registry *r, struct task *t)
{
    bool same_run = t->told_start == t->status.started_at;
    enum task_state before = t->told;

    tell_progress(r, t);
    tell_oom(r, t);
    if (t->state == before && same_run)
        return;
    t->told = t->state;
    t->told_start = t->status.started_at;
    if (t->state == TASK_FAILED)
        count_failure(&r->events.counters, t->status.err.step[0] ? t->status.err.step : "none");
    if (t->state == TASK_RUNNING && before == TASK_PAUSED && same_run)
        events_emit(r, EVENT_TASK_RESUMED, t, NULL);
    else
        events_emit(r, entering[t->state].type, t, entering[t->state].data(t));
}
