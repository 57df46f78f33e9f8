/* What has changed in one turn of the loop becomes durable in one commit, and is told after it. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "tasks/registry_internal.h"

enum { RETRY_MS = 1000 };

struct unsettled { /* a task whose row is older than itself */
    char id[ID_LEN + 1];
    bool tell;                /* the subscribers have not heard of it */
    enum task_removal stored; /* how far its removal was when it was written: one may begin as others are told */
    struct unsettled *next;
};

/* --- what is to be written ---------------------------------------------------------------------------------------- */

static int write_row(struct registry *r, const struct task *t, struct err *e)
{
    struct task_row row = {
        .state = t->state, .version = t->version, .status = t->status, .removing = t->removal != REMOVAL_NONE};

    if (t->removal == REMOVAL_FILES)
        return store_delete(r->store, t->id, e);
    memcpy(row.id, t->id, sizeof(row.id));
    return store_update(r->store, &row, e);
}

static int write_rows(struct registry *r, struct err *e)
{
    if (creation_write(r, e) < 0)
        return -1;
    for (struct unsettled *u = r->unsettled; u; u = u->next) {
        const struct task *t = registry_find(r, u->id);

        if (!t)
            continue;
        if (write_row(r, t, e) < 0)
            return -1;
        u->stored = t->removal;
    }
    return 0;
}

void registry_mark(struct registry *r, struct task *t)
{
    registry_settle_later(r);
    if (t->unsettled)
        return;
    struct unsettled *u = t->unsettled = xcalloc(1, sizeof(*u));

    memcpy(u->id, t->id, sizeof(u->id));
    *(r->last_unsettled ? &r->last_unsettled->next : &r->unsettled) = u;
    r->last_unsettled = u;
}

/* --- the commit --------------------------------------------------------------------------------------------------- */

static void on_turn_end(void *arg, uint32_t events)
{
    struct registry *r = arg;

    (void)events;
    registry_settle(r);
}

void registry_settle_later(struct registry *r)
{
    if (!r->settling)
        r->settling = loop_add_timer(r->config.loop, 0, on_turn_end, r);
}

static int probe(struct registry *r, const void *arg, struct err *e)
{
    (void)arg;
    return store_probe(r->store, e);
}

static void on_retry(void *arg, uint32_t events)
{
    struct registry *r = arg;
    struct err e = {0};

    (void)events;
    r->retry = NULL;
    /* When nothing waits, something that shows whether the store takes changes. A failure tries again. */
    if (registry_transaction(r, r->unsettled ? NULL : probe, NULL, &e) == 0)
        log_info("the store takes changes again");
}

static void retry_later(struct registry *r)
{
    if (!r->retry)
        r->retry = loop_add_timer(r->config.loop, RETRY_MS, on_retry, r);
}

static void tell(struct registry *r, const struct unsettled *u)
{
    struct task *t = registry_find(r, u->id);

    if (t && u->tell)
        registry_announce(r, t);
    t = registry_find(r, u->id); /* it may be gone by now, or a subscriber has begun its removal */
    if (t && t->removal == u->stored)
        removal_stored(r, t);
}

/* Subscribers may change tasks again, or ask for a commit themselves: what is told here is no longer in the lists. */
static void tell_all(struct registry *r, struct unsettled *u, struct creation *c)
{
    creation_launch_all(r, c);
    while (u) {
        struct unsettled *next = u->next;

        tell(r, u);
        free(u);
        u = next;
    }
}

static struct unsettled *take_unsettled(struct registry *r)
{
    struct unsettled *all = r->unsettled;

    for (const struct unsettled *u = all; u; u = u->next) {
        struct task *t = registry_find(r, u->id);

        if (t)
            t->unsettled = NULL;
    }
    r->unsettled = r->last_unsettled = NULL;
    return all;
}

int registry_transaction(struct registry *r, int (*change)(struct registry *r, const void *arg, struct err *e),
                         const void *arg, struct err *e)
{
    struct event_range range = r->events.range;

    r->events.failed = true;
    if (store_begin(r->store, e) < 0 || write_rows(r, e) < 0 || (change && change(r, arg, e) < 0) ||
        events_write(r, &range, e) < 0 || store_commit(r->store, e) < 0) {
        store_rollback(r->store);
        retry_later(r);
        return -1;
    }
    r->events.failed = false;
    loop_remove(r->settling);
    r->settling = NULL;
    struct unsettled *u = take_unsettled(r);
    struct creation *c = creation_take(r);
    events_written(r, &range);
    tell_all(r, u, c);
    return 0;
}

/* A removal that waits for the store: for its beginning, or for its end. */
static struct task *next_removal(struct registry *r)
{
    for (const struct unsettled *u = r->unsettled; u; u = u->next) {
        struct task *t = registry_find(r, u->id);

        if (t && (t->removal == REMOVAL_WANTED || t->removal == REMOVAL_FILES))
            return t;
    }
    return NULL;
}

/* What happened has happened: memory keeps the truth until the store can take it. */
static void tell_unsettled(struct registry *r)
{
    for (struct task *t = r->first; t; t = t->next)
        if (t->unsettled && t->unsettled->tell) {
            t->unsettled->tell = false;
            registry_announce(r, t);
        }
}

int registry_settle_now(struct registry *r, struct err *e)
{
    loop_remove(r->settling);
    r->settling = NULL;
    if (!r->unsettled && !r->creations && !r->events.pending)
        return 0;
    if (registry_transaction(r, NULL, NULL, e) == 0)
        return 0;
    creation_refuse_all(r, e);
    for (struct task *t; (t = next_removal(r));)
        removal_refused(r, t, e);
    tell_unsettled(r);
    return -1;
}

void registry_settle(struct registry *r)
{
    struct err e = {0};

    if (r->settling && r->events.telling == 0 && registry_settle_now(r, &e) < 0)
        log_error("the changes of this moment wait for the store: %s", e.detail);
}

void registry_commit(struct registry *r, struct task *t)
{
    t->version++;
    events_transition(r, t);
    registry_mark(r, t);
    t->unsettled->tell = true;
    if (task_ended(t)) {
        admission_pump(r);
        gc_ended(r, t);
    }
}

void settle_free(struct registry *r)
{
    for (struct unsettled *u = take_unsettled(r), *next; u; u = next) {
        next = u->next;
        free(u);
    }
    loop_remove(r->settling);
    loop_remove(r->retry);
}
