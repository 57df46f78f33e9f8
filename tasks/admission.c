/* Room on the host: who is let in, who waits, and who is next. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "tasks/registry_internal.h"

enum { RETRY_MS = 1000 };

struct start { /* of a task that has waited */
    struct task *task;
    struct task before; /* nothing in it is owned */
    enum launcher_op op;
    struct start *next;
};

const struct registry_limits *registry_limits(const struct registry *r)
{
    return &r->config.limits;
}

/* While a change of it is on its way the larger of both: it may fail. */
static int64_t memory_of(const struct task *t)
{
    bool held = t->updating && t->memory_before > t->spec.resources.memory;

    return held ? t->memory_before : t->spec.resources.memory;
}

void registry_allocated(const struct registry *r, struct capacity *c)
{
    *c = (struct capacity){0};
    for (const struct task *t = r->first; t; t = t->next) {
        if (!task_live(t))
            continue;
        c->tasks++;
        c->memory_mib += memory_of(t);
        c->cores += t->spec.resources.cores;
        c->cpu_mhz += cgroup_mhz(r->config.cgroups, &t->spec.resources);
    }
}

int admission_check(const struct registry *r, const struct spec *s, struct err *e)
{
    const struct registry_limits *l = &r->config.limits;

    if (s->resources.memory > l->memory_mib - l->memory_reserved_mib)
        return err_field(e, "/resources/memory", "this host has %lld MiB for tasks in all",
                         (long long)(l->memory_mib - l->memory_reserved_mib));
    if (s->resources.cores && !r->config.cgroups->ctl[CG_CPUSET].version)
        return err_field(e, "/resources/cores", "this host has no cpuset controller");
    if (s->resources.cores > l->cores)
        return err_field(e, "/resources/cores", "must leave at least one core of this host to share: it can give %lld",
                         (long long)l->cores);
    return 0;
}

/* The first of what is missing, with the pointer of the field that asks for it. */
static int room(const struct registry *r, int64_t memory, int64_t cores, int64_t tasks, struct err *e)
{
    const struct registry_limits *l = &r->config.limits;
    struct capacity used;

    registry_allocated(r, &used);
    const struct {
        const char *what, *pointer;
        int64_t wanted, free;
    } needs[] = {
        {"MiB of memory", "/resources/memory", memory, l->memory_mib - l->memory_reserved_mib - used.memory_mib},
        {"cores", "/resources/cores", cores, l->cores - used.cores},
        {"tasks", "", tasks, l->max_tasks ? l->max_tasks - used.tasks : 1},
    };
    for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
        if (!needs[i].wanted || needs[i].wanted <= needs[i].free)
            continue;
        err_set(e, 503, "no_capacity", "there is room for %lld %s", (long long)(needs[i].free > 0 ? needs[i].free : 0),
                needs[i].what);
        snprintf(e->pointer, sizeof(e->pointer), "%s", needs[i].pointer);
        return -1;
    }
    return 0;
}

static int fits(const struct registry *r, const struct spec *s, struct err *e)
{
    return room(r, s->resources.memory, s->resources.cores, 1, e);
}

int admission_change(const struct registry *r, const struct task *t, const struct spec *s, struct err *e)
{
    int64_t more = s->resources.memory - t->spec.resources.memory;

    if (task_ended(t) || more <= 0) /* no other field that takes room can change */
        return 0;
    if (admission_check(r, s, e) < 0)
        return -1;
    return task_live(t) ? room(r, more, 0, 0, e) : 0;
}

/* The oldest of the highest priority. */
static struct task *next_pending(const struct registry *r)
{
    struct task *best = NULL;

    for (struct task *t = r->first; t; t = t->next)
        if (t->state == TASK_PENDING && !t->removal && (!best || t->spec.priority > best->spec.priority))
            best = t;
    return best;
}

int admission_decide(const struct registry *r, const struct spec *s, enum task_state *state, struct err *e)
{
    const struct task *ahead = next_pending(r);
    int64_t waiting = 0;

    *state = TASK_STARTING;
    if (r->shutting_down)
        return err_set(e, 503, "shutting_down", "the daemon is stopping");
    if (!r->config.attributes->driver_exec)
        return err_set(e, 503, "driver_unavailable", "this host cannot run tasks: %s", r->config.attributes->reason);
    if (admission_check(r, s, e) < 0)
        return -1;
    if (ahead && ahead->spec.priority >= s->priority) /* who came first is started first */
        err_set(e, 503, "no_capacity", "others wait for room");
    else if (fits(r, s, e) == 0)
        return 0;
    for (const struct task *t = r->first; t; t = t->next)
        waiting += t->state == TASK_PENDING;
    if (!s->queue)
        return -1;
    if (r->config.limits.max_queued && waiting >= r->config.limits.max_queued)
        return err_set(e, 503, "queue_full", "%lld tasks wait already", (long long)waiting);
    *e = (struct err){0};
    *state = TASK_PENDING;
    return 0;
}

/* t, pending until now, is something else: nobody is told before the store takes it. */
static void change(struct registry *r, struct task *t)
{
    t->version++;
    events_transition(r, t);
    registry_mark(r, t);
}

/* It does not. type: of the event. */
static void put_back(struct registry *r, struct task *t, const struct task *before, enum event_type type)
{
    events_forget(r, t->id, type);
    t->state = before->state;
    t->status = before->status;
    t->version = before->version;
    t->told = before->told;
    registry_mark(r, t);
}

/* There is room for t: it becomes starting, once the store takes it. The row comes before the process. */
static struct start *take(struct registry *r, struct task *t)
{
    struct start *s = xcalloc(1, sizeof(*s));

    *s = (struct start){.task = t, .before = *t, .op = recover_rebooted(r, t) ? LAUNCH_AGAIN : LAUNCH_TASK};
    t->state = TASK_STARTING;
    t->status.root_files = t->status.root_bytes = 0; /* a root of before a reboot is made anew */
    memcpy(t->status.boot_id, r->boot_id, sizeof(t->status.boot_id));
    change(r, t);
    return s;
}

static void launch(struct registry *r, const struct start *s)
{
    struct task *t = s->task;
    struct err e = {0};
    _cleanup_json_ struct json *j = spec_encode(&t->spec);
    _cleanup_free_ char *text = json_print(j);

    registry_announce(r, t);
    if (link_launch(r, t, s->op, text, &e) == 0) {
        r->starts++;
        return;
    }
    log_error("task %s: %s", t->id, e.detail);
    recover_fail(r, t, &e);
    registry_commit(r, t);
}

static void on_pump(void *arg, uint32_t events);

/* One commit for all of them. */
static void start_all(struct registry *r, struct start *all)
{
    struct err e = {0};
    bool stored = registry_settle_now(r, &e) == 0;

    if (!stored) {
        log_error("tasks that wait cannot be started now: %s", e.detail);
        loop_remove(r->pump);
        r->pump = loop_add_timer(r->config.loop, RETRY_MS, on_pump, r);
    }
    while (all) {
        struct start *s = all;

        all = s->next;
        if (stored)
            launch(r, s);
        else
            put_back(r, s->task, &s->before, EVENT_TASK_STARTING);
        free(s);
    }
}

/* t, pending, is not started any more: lost when it ran before a reboot, else failed; to be stored by the caller. */
static void give_up(struct registry *r, struct task *t, const char *lost, const struct err *failed)
{
    if (recover_rebooted(r, t))
        recover_lose(r, t, lost);
    else
        recover_fail(r, t, failed);
}

static void on_pump(void *arg, uint32_t events)
{
    struct registry *r = arg;
    struct start *all = NULL, **end = &all;
    size_t n = 0;

    (void)events;
    r->pump = NULL;
    registry_settle(r); /* a new task that cannot be stored is gone before it could be started */
    for (struct task *t; !r->shutting_down && (t = next_pending(r));) {
        struct err e = {0};

        /* It may have been let in by another configuration, or on another host: nobody waits behind it for ever. */
        if (admission_check(r, &t->spec, &e) < 0) {
            give_up(r, t, REBOOT_REASON "; this host cannot hold it any more", &e);
            registry_commit(r, t);
            continue;
        }
        if (fits(r, &t->spec, &e) < 0)
            break;
        if (++n > LAUNCHES_AT_ONCE) {
            admission_pump(r);
            break;
        }
        *end = take(r, t);
        end = &(*end)->next;
    }
    if (all)
        start_all(r, all);
}

void admission_pump(struct registry *r)
{
    if (!r->pump)
        r->pump = loop_add_timer(r->config.loop, 0, on_pump, r);
}

int admission_cancel(struct registry *r, struct task *t, struct err *e)
{
    struct task before = *t;
    struct event_counters counters = r->events.counters;
    struct err canceled = {0};

    err_set(&canceled, 409, "canceled", "it was stopped before it was started");
    give_up(r, t, REBOOT_REASON "; stopped before it was started again", &canceled);
    change(r, t);
    if (registry_settle_now(r, e) < 0) {
        put_back(r, t, &before, t->state == TASK_LOST ? EVENT_TASK_LOST : EVENT_TASK_FAILED);
        r->events.counters = counters;
        return -1;
    }
    registry_announce(r, t);
    admission_pump(r); /* who waited behind it */
    gc_ended(r, t);
    return 0;
}
