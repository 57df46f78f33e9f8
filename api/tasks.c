/* GET /v1/tasks, GET and DELETE /v1/tasks/{id}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/common.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "tasks/events.h"

/* A page ends at LIMIT items, or after the one that makes it longer than PAGE_BYTES. */
enum { LIMIT_MAX = 1000, LIMIT_USUAL = 100, PAGE_BYTES = 4 << 20, WAIT_MAX_MS = 300000 };

/* --- list --------------------------------------------------------------------------------------------------------- */

struct filter {
    int state; /* -1 any */
    const char *name, *user, *cursor;
    int64_t limit;
    bool ascending;
};

static int read_filter(const struct request *q, struct filter *f, struct err *e)
{
    const char *state = request_query(q, "state", 0), *order = request_query(q, "order", 0);

    f->state = state ? task_state_parse(state) : -1;
    if (state && f->state < 0)
        return bad_parameter(e, "state", state);
    f->ascending = order && strcmp(order, "asc") == 0;
    if (order && !f->ascending && strcmp(order, "desc") != 0)
        return bad_parameter(e, "order", order);
    f->name = request_query(q, "name", 0);
    f->user = request_query(q, "user", 0);
    f->cursor = request_query(q, "cursor", 0);
    if (f->cursor && !id_valid(f->cursor))
        return bad_parameter(e, "cursor", f->cursor);
    for (size_t i = 0; request_query(q, "label", i); i++)
        if (!strchr(request_query(q, "label", i), '='))
            return bad_parameter(e, "label", request_query(q, "label", i));
    f->limit = LIMIT_USUAL;
    return query_int(q, "limit", 1, LIMIT_MAX, &f->limit, e);
}

static bool has_label(const struct task *t, const char *wanted)
{
    size_t n = (size_t)(strchr(wanted, '=') - wanted);

    for (size_t i = 0; i < t->spec.labels.n; i++) {
        const struct pair *p = &t->spec.labels.v[i];

        if (strlen(p->key) == n && memcmp(p->key, wanted, n) == 0 && strcmp(p->value, wanted + n + 1) == 0)
            return true;
    }
    return false;
}

static bool matches(const struct request *q, const struct filter *f, const struct task *t)
{
    if ((f->state >= 0 && (int)t->state != f->state) || (f->name && strcmp(f->name, t->spec.name) != 0) ||
        (f->user && strcmp(f->user, t->spec.user ? t->spec.user : "nobody") != 0))
        return false;
    if (f->cursor && (f->ascending ? strcmp(t->id, f->cursor) <= 0 : strcmp(t->id, f->cursor) >= 0))
        return false;
    for (size_t i = 0; request_query(q, "label", i); i++)
        if (!has_label(t, request_query(q, "label", i)))
            return false;
    return true;
}

/* Where the list begins, or goes on. Ids sort by time of creation, so a cursor stays good when its task is gone: then
 * they are compared. Else they are not, since the clock may have been set back between two tasks. */
static struct task *begin(struct registry *r, struct filter *f)
{
    struct task *at = f->cursor ? registry_find(r, f->cursor) : NULL;

    if (!at)
        return f->ascending ? registry_first(r) : registry_last(r);
    f->cursor = NULL;
    return f->ascending ? at->next : at->prev;
}

/* Each is freed before the next is made: a tree of a thousand tasks would cost malloc three times as long. */
static void append_task(struct buf *b, int64_t n, const struct task *t)
{
    _cleanup_json_ struct json *j = task_view(t);
    _cleanup_free_ char *text = json_print(j);

    if (n > 0)
        buf_puts(b, ",");
    buf_puts(b, text);
}

void tasks_list(struct request *q)
{
    struct registry *r = request_registry(q);
    struct filter f;
    struct err e = {0};

    if (read_filter(q, &f, &e) < 0) {
        reply_problem(q, &e);
        return;
    }
    tell_event_seq(q);
    if (not_modified(q, registry_version(r)))
        return;
    struct buf b = {0};
    const struct task *last = NULL;
    const char *next = NULL;
    int64_t n = 0;
    buf_puts(&b, "{\"items\":[");
    for (struct task *t = begin(r, &f); t; t = f.ascending ? t->next : t->prev) {
        if (!matches(q, &f, t))
            continue;
        if (n == f.limit || b.len > PAGE_BYTES) {
            next = last->id;
            break;
        }
        append_task(&b, n++, t);
        last = t;
    }
    buf_puts(&b, "]");
    if (next)
        buf_printf(&b, ",\"next_cursor\":\"%s\"", next);
    buf_printf(&b, ",\"events_at\":%lld}", (long long)events_last(r));
    size_t len;
    char *text = buf_take(&b, &len);
    reply_data(q, 200, "application/json", text, len);
}

/* --- one -----------------------------------------------------------------------------------------------------------
 */

struct waiter { /* a blocking query */
    struct request *q;
    char id[ID_LEN + 1];
    int64_t index;
    struct subscription *subscription;
    struct loop_source *timer;
};

static void stop_waiting(struct waiter *w)
{
    registry_unsubscribe(w->subscription);
    w->subscription = NULL;
    loop_remove(w->timer);
    w->timer = NULL;
}

static void on_end(void *arg)
{
    stop_waiting(arg);
    free(arg);
}

static void reply_task(struct request *q, struct task *t)
{
    tell_event_seq(q);
    if (!not_modified(q, t->version))
        reply_json(q, 200, task_view(t));
}

static void answer(struct waiter *w)
{
    stop_waiting(w); /* first: to look for the task may store, and so tell, what has changed */
    struct task *t = request_task(w->q);
    if (t)
        reply_task(w->q, t);
}

static void on_change(void *arg, struct task *t)
{
    struct waiter *w = arg;

    bool gone = t->removal && !registry_find(request_registry(w->q), w->id);

    if (strcmp(t->id, w->id) == 0 && (t->version > w->index || gone))
        answer(w);
}

static void on_timeout(void *arg, uint32_t events)
{
    struct waiter *w = arg;

    (void)events;
    w->timer = NULL;
    answer(w);
}

void tasks_get(struct request *q)
{
    int64_t index = -1, wait = WAIT_MAX_MS;
    struct err e = {0};

    if (query_int(q, "index", 0, INT64_MAX, &index, &e) < 0 || query_duration(q, "wait", &wait, &e) < 0) {
        reply_problem(q, &e);
        return;
    }
    struct task *t = request_task(q);
    if (!t)
        return;
    if (index < 0 || t->version > index) {
        reply_task(q, t);
        return;
    }
    struct waiter *w = xcalloc(1, sizeof(*w));
    *w = (struct waiter){.q = q, .index = index};
    memcpy(w->id, t->id, sizeof(w->id));
    w->subscription = registry_subscribe(request_registry(q), on_change, w);
    w->timer = loop_add_timer(request_loop(q), wait < WAIT_MAX_MS ? wait : WAIT_MAX_MS, on_timeout, w);
    request_on_end(q, on_end, w);
}

/* --- delete ----------------------------------------------------------------------------------------------------------
 */

struct deletion {
    struct request *q; /* NULL when the client has left; the deletion goes on */
    struct registry *registry;
    char id[ID_LEN + 1];
    bool busy; /* an answer is still to come */
    bool removing, stopping;
    struct subscription *subscription;
};

static void deletion_release(struct deletion *d)
{
    if (d->q || d->busy || d->stopping || d->subscription)
        return;
    free(d);
}

static void on_deletion_end(void *arg)
{
    struct deletion *d = arg;

    d->q = NULL;
    deletion_release(d);
}

static void on_removed(void *arg, const struct err *e)
{
    struct deletion *d = arg;

    d->busy = false;
    if (d->q && e->status)
        reply_problem(d->q, e);
    else if (d->q)
        reply_empty(d->q, 204);
    deletion_release(d);
}

static void remove_now(struct deletion *d, struct task *t)
{
    registry_unsubscribe(d->subscription);
    d->subscription = NULL;
    d->busy = true;
    d->removing = true;
    registry_remove(d->registry, t, on_removed, d);
}

static void on_ended(void *arg, struct task *t)
{
    struct deletion *d = arg;

    if (strcmp(t->id, d->id) == 0 && task_ended(t) && !d->removing)
        remove_now(d, t);
}

static void on_killed(void *arg, const struct err *e)
{
    struct deletion *d = arg;

    d->stopping = false;
    /* Whether it was told or had ended already, its end removes it; else there is none to wait for. */
    if (e->status && e->status != 409 && d->subscription) {
        registry_unsubscribe(d->subscription);
        d->subscription = NULL;
        if (d->q)
            reply_problem(d->q, e);
    }
    deletion_release(d);
}

void tasks_delete(struct request *q)
{
    struct err e = {0};
    bool force;

    if (query_bool(q, "force", &force, &e) < 0) {
        reply_problem(q, &e);
        return;
    }
    /* Of a task that has ended the removal shares the commit of this turn. */
    struct task *t = registry_find(unsettled_registry(q), request_param(q, 0));
    if (!t || !task_ended(t))
        t = request_task(q);
    if (!t)
        return;
    if (check_if_match(q, t->version, &e) < 0) {
        registry_settle(unsettled_registry(q)); /* no answer tells what a crash could take back */
        reply_problem(q, &e);
        return;
    }
    if (!task_ended(t) && !force) {
        err_set(&e, 409, "task_running", "the task has not ended; stop it, or delete with force=true");
        reply_problem(q, &e);
        return;
    }
    struct deletion *d = xcalloc(1, sizeof(*d));
    *d = (struct deletion){.q = q, .registry = unsettled_registry(q)};
    memcpy(d->id, t->id, sizeof(d->id));
    request_on_end(q, on_deletion_end, d);
    if (task_ended(t)) {
        remove_now(d, t);
        return;
    }
    d->subscription = registry_subscribe(d->registry, on_ended, d);
    d->stopping = true;
    registry_stop(d->registry, t, 0, 0, on_killed, d);
}
