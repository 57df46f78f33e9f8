#include "tasks/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "tasks/registry_internal.h"

/* PENDING_MAX: bytes of events that wait for a store that fails. They are in memory, and later in one transaction, for
 * which there must be room. */
enum { PENDING_MAX = 8 << 20, PRUNE_SLACK = 64, PRUNE_STEP = 512, ROW_BYTES = 100, LABELS_MAX = 16384 };

static const char *const names[EVENT_TYPES] = {
    [EVENT_SERVER_STARTED] = "server.started",
    [EVENT_SERVER_RECOVERED] = "server.recovered", /* data: adopted, recorded, cleared */
    [EVENT_TASK_CREATED] = "task.created",
    [EVENT_TASK_PENDING] = "task.pending", /* it waits for room */
    [EVENT_TASK_STARTING] = "task.starting",
    [EVENT_TASK_RUNNING] = "task.running", /* pid, restarts */
    [EVENT_TASK_PAUSED] = "task.paused",
    [EVENT_TASK_RESUMED] = "task.resumed",
    [EVENT_TASK_STOPPING] = "task.stopping",
    [EVENT_TASK_RESTARTING] = "task.restarting", /* as exited, next_start_at */
    [EVENT_TASK_EXITED] = "task.exited",         /* code, signal, oom_killed, reason, started_at, finished_at */
    [EVENT_TASK_FAILED] = "task.failed",         /* step, code, detail, errno */
    [EVENT_TASK_LOST] = "task.lost",             /* reason */
    [EVENT_TASK_OOM] = "task.oom",               /* kills */
    [EVENT_TASK_SIGNALED] = "task.signaled",     /* signal, target */
    [EVENT_TASK_UPDATED] = "task.updated",       /* version */
    [EVENT_TASK_REMOVED] = "task.removed",       /* by: request, gc */
    [EVENT_EXEC_STARTED] = "exec.started",       /* session, command, user, tty, pid */
    [EVENT_EXEC_EXITED] = "exec.exited",         /* session, code, signal, timed_out, started_at, finished_at */
    [EVENT_EXEC_FAILED] = "exec.failed",         /* session, step, code, detail, errno */
    [EVENT_EXEC_LOST] = "exec.lost",             /* session, reason */
    [EVENT_TASK_PROGRESS] = "task.progress",     /* files, bytes, done */
};

struct event { /* queued */
    enum event_type type;
    int64_t time;
    char *task, *name, *labels, *data;
    struct event *next;
};

struct events_watch {
    struct registry *registry;
    void (*fn)(void *arg, const struct event_row *v); /* NULL: unwatched while an event was being told */
    void *arg;
    struct events_watch *next;
};

const char *event_type_name(enum event_type t)
{
    return (size_t)t < EVENT_TYPES ? names[t] : "unknown";
}

bool event_type_matches(const char *filter, const char *name)
{
    size_t n = strlen(filter);

    return n > 0 && filter[n - 1] == '.' ? strncmp(filter, name, n) == 0 : strcmp(filter, name) == 0;
}

bool event_filter_known(const char *filter)
{
    for (size_t i = 0; i < EVENT_TYPES; i++)
        if (event_type_matches(filter, names[i]))
            return true;
    return false;
}

/* --- the queue ------------------------------------------------------------------------------------------------------
 */

static void free_event(struct event *v)
{
    free(v->task);
    free(v->name);
    free(v->labels);
    free(v->data);
    free(v);
}

static int64_t size_of(const struct event *v)
{
    const char *const texts[] = {event_type_name(v->type), v->task, v->name, v->labels, v->data};
    int64_t n = ROW_BYTES;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        n += texts[i] ? (int64_t)strlen(texts[i]) : 0;
    return n;
}

/* Labels larger than LABELS_MAX are left out: no task may fill the log. */
static char *labels_text(const struct task *t)
{
    _cleanup_json_ struct json *j = json_object();

    for (size_t i = 0; i < t->spec.labels.n; i++)
        json_set_string(j, t->spec.labels.v[i].key, t->spec.labels.v[i].value);
    char *text = json_print(j);
    if (strlen(text) <= LABELS_MAX)
        return text;
    free(text);
    return xstrdup("{}");
}

void events_emit(struct registry *r, enum event_type type, const struct task *t, struct json *data)
{
    struct event_log *l = &r->events;

    if (l->pending_bytes > PENDING_MAX) { /* the store has failed for long; readiness tells */
        log_error("event %s dropped: too many wait for the store", event_type_name(type));
        json_free(data);
        return;
    }
    struct event *v = xcalloc(1, sizeof(*v));
    *v = (struct event){.type = type, .time = clock_real_ns()};
    v->data = data ? json_print(data) : xstrdup("{}");
    json_free(data);
    if (t) {
        v->task = xstrdup(t->id);
        v->name = xstrdup(t->spec.name ? t->spec.name : "");
        v->labels = labels_text(t);
    }
    *(l->last_pending ? &l->last_pending->next : &l->pending) = v;
    l->last_pending = v;
    l->pending_bytes += size_of(v);
    registry_settle_later(r);
}

void events_forget(struct registry *r, const char *task, enum event_type type)
{
    struct event_log *l = &r->events;

    l->last_pending = NULL;
    for (struct event **at = &l->pending; *at;) {
        struct event *v = *at;

        if (!v->task || strcmp(v->task, task) != 0 || (type != EVENT_TYPES && v->type != type)) {
            l->last_pending = v;
            at = &v->next;
            continue;
        }
        *at = v->next;
        l->pending_bytes -= size_of(v);
        free_event(v);
    }
}

/* --- writing --------------------------------------------------------------------------------------------------------
 */

static struct event_row row_of(const struct event *v, int64_t seq)
{
    return (struct event_row){.seq = seq,
                              .time = v->time,
                              .type = event_type_name(v->type),
                              .task = v->task,
                              .name = v->name,
                              .labels = v->labels,
                              .data = v->data};
}

/* By number and by size, in small steps, so that no single change pays for all, and not for each event anew. */
static int prune(struct registry *r, struct event_range *g, struct err *e)
{
    int64_t excess = g->last - g->first + 1 - r->config.events_max, max = r->config.events_max_bytes;
    int64_t by_number = g->first + (excess < PRUNE_SLACK ? 0 : excess < PRUNE_STEP ? excess : PRUNE_STEP);
    int64_t to = g->last - g->first < PRUNE_STEP ? g->last : g->first + PRUNE_STEP;
    int64_t below = g->first;

    if (g->total - g->below > max + max / PRUNE_SLACK &&
        store_events_beyond(r->store, g->first, to, g->total - max, &below, e) < 0)
        return -1;
    below = below > by_number ? below : by_number;
    if (below == g->first)
        return 0;
    /* Read before it is removed with the others. */
    if (store_events_total(r->store, below - 1, &g->below, e) < 0 || store_events_prune(r->store, below, e) < 0)
        return -1;
    g->first = below;
    return 0;
}

int events_write(struct registry *r, struct event_range *g, struct err *e)
{
    for (struct event *v = r->events.pending; v; v = v->next) {
        struct event_row row = row_of(v, 0);

        g->total += size_of(v);
        row.total = g->total;
        if (store_event_add(r->store, &row, e) < 0)
            return -1;
        g->last = row.seq;
    }
    return prune(r, g, e);
}

static void tell(struct event_log *l, const struct event_row *v)
{
    l->telling++;
    for (struct events_watch *w = l->watches; w; w = w->next)
        if (w->fn)
            w->fn(w->arg, v);
    if (--l->telling > 0)
        return;
    for (struct events_watch **at = &l->watches; *at;) {
        struct events_watch *w = *at;

        if (w->fn) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        free(w);
    }
}

void events_written(struct registry *r, const struct event_range *g)
{
    struct event_log *l = &r->events;
    struct event *v = l->pending;
    int64_t last = l->range.last; /* goes on as the events are told */

    l->range = *g;
    l->range.last = last;
    l->pending = l->last_pending = NULL;
    l->pending_bytes = 0;
    while (v) {
        struct event *next = v->next;
        struct event_row row = row_of(v, ++l->range.last);

        l->counters.by_type[v->type]++;
        tell(l, &row);
        free_event(v);
        v = next;
    }
}

/* --- reading --------------------------------------------------------------------------------------------------------
 */

int events_open(struct registry *r, struct err *e)
{
    struct event_range *g = &r->events.range;

    return store_events_range(r->store, &g->first, &g->last, e) < 0 ||
                   store_events_total(r->store, g->last, &g->total, e) < 0 ||
                   store_events_total(r->store, g->first, &g->below, e) < 0
               ? -1
               : 0;
}

void events_close(struct registry *r)
{
    struct event_log *l = &r->events;

    while (l->pending) {
        struct event *v = l->pending;

        l->pending = v->next;
        free_event(v);
    }
    while (l->watches) {
        struct events_watch *w = l->watches;

        l->watches = w->next;
        free(w);
    }
}

int64_t events_first(const struct registry *r)
{
    return r->events.range.first;
}

int64_t events_last(const struct registry *r)
{
    return r->events.range.last;
}

int events_read(struct registry *r, const char *task, int64_t after, int limit,
                bool (*fn)(void *arg, const struct event_row *v), void *arg, struct err *e)
{
    return store_events_read(r->store, task, after, limit, fn, arg, e);
}

void events_pending(struct registry *r, const char *task, bool (*fn)(void *arg, const struct event_row *v), void *arg)
{
    for (const struct event *v = r->events.pending; v; v = v->next) {
        struct event_row row = row_of(v, 0);

        if (v->task && strcmp(v->task, task) == 0 && !fn(arg, &row))
            return;
    }
}

int events_tail(struct registry *r, const char *task, int64_t n, int64_t *before, struct err *e)
{
    return store_events_tail(r->store, task, n, before, e);
}

struct events_watch *events_watch(struct registry *r, void (*fn)(void *arg, const struct event_row *v), void *arg)
{
    struct events_watch *w = xcalloc(1, sizeof(*w));

    *w = (struct events_watch){.registry = r, .fn = fn, .arg = arg, .next = r->events.watches};
    r->events.watches = w;
    r->events.counters.watchers++;
    return w;
}

void events_unwatch(struct events_watch *w)
{
    if (!w)
        return;
    struct event_log *l = &w->registry->events;

    w->fn = NULL;
    l->counters.watchers--;
    if (l->telling > 0)
        return; /* tell frees it */
    for (struct events_watch **at = &l->watches; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    free(w);
}

const struct event_counters *events_counters(const struct registry *r)
{
    return &r->events.counters;
}
