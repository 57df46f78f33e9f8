#include "tasks/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "isolation/caps.h"
#include "isolation/volumes.h"
#include "supervisor/record.h"
#include "tasks/registry_internal.h"

enum { RETRY_MS = 1000 };

void task_free(struct task *t)
{
    loop_remove(t->relink);
    spec_free(&t->spec);
    free(t->idempotency_key);
    free(t->body_hash);
    free(t);
}

void registry_append(struct registry *r, struct task *t)
{
    t->registry = r;
    t->next = NULL;
    t->prev = r->last;
    if (r->last)
        r->last->next = t;
    else
        r->first = t;
    r->last = t;
    map_put(&r->by_id, t->id, t);
    if (t->idempotency_key)
        map_put(&r->by_key, t->idempotency_key, t);
}

void registry_unlink(struct registry *r, struct task *t)
{
    *(t->prev ? &t->prev->next : &r->first) = t->next;
    *(t->next ? &t->next->prev : &r->last) = t->prev;
    map_remove(&r->by_id, t->id);
    if (t->idempotency_key)
        map_remove(&r->by_key, t->idempotency_key);
}

static void announce(struct registry *r, struct task *t)
{
    r->version++;
    r->announcing++;
    for (struct subscription *s = r->subscriptions; s; s = s->next)
        if (s->fn)
            s->fn(s->arg, t);
    if (--r->announcing > 0)
        return;
    for (struct subscription **at = &r->subscriptions; *at;) {
        struct subscription *s = *at;

        if (s->fn) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        free(s);
    }
}

static int update_row(struct registry *r, const void *arg, struct err *e)
{
    const struct task *t = arg;
    struct task_row row = {.state = t->state, .version = t->version, .status = t->status};

    memcpy(row.id, t->id, sizeof(row.id));
    return store_update(r->store, &row, e);
}

/* What waits; when nothing does, something that shows whether the store takes changes. */
static int update_dirty(struct registry *r, const void *arg, struct err *e)
{
    (void)arg;
    if (!r->dirty && store_probe(r->store, e) < 0)
        return -1;
    for (const struct dirty *d = r->dirty; d; d = d->next) {
        const struct task *t = registry_find(r, d->id);

        if (t && update_row(r, t, e) < 0)
            return -1;
    }
    return 0;
}

static void free_dirty(struct registry *r)
{
    while (r->dirty) {
        struct dirty *d = r->dirty;

        r->dirty = d->next;
        free(d);
    }
}

static void on_retry(void *arg, uint32_t events)
{
    struct registry *r = arg;
    struct err e = {0};

    (void)events;
    r->retry = NULL;
    if (events_transaction(r, update_dirty, NULL, &e) < 0)
        return; /* which tries again */
    free_dirty(r);
    log_info("the store takes changes again");
}

void registry_retry(struct registry *r)
{
    if (!r->retry)
        r->retry = loop_add_timer(r->config.loop, RETRY_MS, on_retry, r);
}

static void mark_dirty(struct registry *r, const struct task *t)
{
    for (struct dirty *d = r->dirty; d; d = d->next)
        if (strcmp(d->id, t->id) == 0)
            return;
    struct dirty *d = xcalloc(1, sizeof(*d));
    memcpy(d->id, t->id, sizeof(d->id));
    d->next = r->dirty;
    r->dirty = d;
    registry_retry(r);
}

int registry_try_start(struct registry *r, struct task *t)
{
    struct task before = *t;
    struct err e = {0};

    t->state = TASK_STARTING;
    t->status.root_files = t->status.root_bytes = 0; /* a root of before a reboot is made anew */
    memcpy(t->status.boot_id, r->boot_id, sizeof(t->status.boot_id));
    t->version++;
    events_transition(r, t);
    if (events_transaction(r, update_row, t, &e) == 0) {
        announce(r, t);
        return 0;
    }
    log_error("task %s: %s", t->id, e.detail);
    events_forget(r, t->id, EVENT_TASK_STARTING);
    t->state = before.state;
    t->status = before.status;
    t->version = before.version;
    t->told = before.told;
    return -1;
}

void registry_commit(struct registry *r, struct task *t)
{
    struct err e = {0};

    if (!t->deleting) {
        t->version++;
        events_transition(r, t);
        /* What happened has happened: when the store cannot take it now, memory keeps the truth meanwhile. */
        if (events_transaction(r, update_row, t, &e) < 0) {
            log_error("task %s: %s", t->id, e.detail);
            mark_dirty(r, t);
        }
    }
    if (task_ended(t)) {
        admission_pump(r);
        gc_ended(r, t);
    }
    announce(r, t);
}

static void read_boot_id(struct registry *r)
{
    struct run_status s;

    record_init(&s, "");
    snprintf(r->boot_id, sizeof(r->boot_id), "%s", s.boot_id);
}

struct registry *registry_open(const struct registry_config *c, struct err *e)
{
    struct registry *r = xcalloc(1, sizeof(*r));
    _cleanup_free_ char *dir = xasprintf("%s/server", c->policy->state_dir);

    r->config = *c;
    /* Removals leave no trace in the store, so a counter kept there could repeat itself after a restart. */
    r->version = clock_real_ns() / 1000000;
    read_boot_id(r);
    r->store = store_open(dir, e);
    if (r->store && events_open(r, e) == 0 && launcher_watch(r, e) == 0 && recover_all(r, e) == 0) {
        admission_pump(r);
        gc_start(r);
        return r;
    }
    registry_close(r);
    return NULL;
}

static void free_subscriptions(struct registry *r)
{
    while (r->subscriptions) {
        struct subscription *s = r->subscriptions;

        r->subscriptions = s->next;
        free(s);
    }
}

void registry_close(struct registry *r)
{
    struct err e = {0};

    if (!r)
        return;
    if (r->store && events_flush(r, &e) < 0)
        log_error("events: %s", e.detail);
    err_set(&e, 503, "shutting_down", "the server is stopping");
    removal_fail_all(r, &e);
    gc_stop(r);
    loop_remove(r->pump);
    for (struct task *t = r->first, *next; t; t = next) {
        next = t->next;
        link_close(t, &e);
        task_free(t);
    }
    free_dirty(r);
    free_subscriptions(r);
    events_close(r);
    map_free(&r->by_id);
    map_free(&r->by_key);
    for (size_t i = 0; i < r->unknown.cap; i++)
        free((char *)(uintptr_t)r->unknown.slots[i].key);
    map_free(&r->unknown);
    loop_remove(r->retry);
    loop_remove(r->launcher_source);
    store_close(r->store);
    free(r);
}

/* What needs no look at the host: the supervisor checks everything again, with power. */
static int check_policy(const struct registry *r, const struct spec *s, struct err *e)
{
    char pointer[64];

    if (volumes_check(s, r->config.policy, e) < 0)
        return -1;
    for (size_t i = 0; i < s->cap_add.n; i++) {
        uint64_t caps = caps_parse(s->cap_add.v[i]);

        snprintf(pointer, sizeof(pointer), "/cap_add/%zu", i);
        if (caps == 0)
            return err_field(e, pointer, "\"%s\" is no capability", s->cap_add.v[i]);
        if (strcasecmp(s->cap_add.v[i], "all") != 0 && (caps & ~r->config.policy->allow_caps)) {
            err_set(e, 403, "capability_denied", "the operator does not allow the capability \"%s\"", s->cap_add.v[i]);
            snprintf(e->pointer, sizeof(e->pointer), "%s", pointer);
            return -1;
        }
    }
    return 0;
}

static struct task *new_task(struct spec *s, enum task_state state, const char *key, const char *hash)
{
    struct task *t = xcalloc(1, sizeof(*t));

    id_new(t->id);
    t->spec = *s;
    memset(s, 0, sizeof(*s));
    t->state = state;
    t->told = TASK_STATES; /* nothing */
    t->version = 1;
    t->status.head = message_head(MSG_RUN_STATUS);
    t->created_at = clock_real_ns();
    t->idempotency_key = key ? xstrdup(key) : NULL;
    t->body_hash = hash ? xstrdup(hash) : NULL;
    return t;
}

static int insert_row(struct registry *r, const void *arg, struct err *e)
{
    return store_insert(r->store, arg, e);
}

int registry_delete_row(struct registry *r, const void *id, struct err *e)
{
    return store_delete(r->store, id, e);
}

struct task *registry_create(struct registry *r, struct spec *s, const char *key, const char *hash, struct err *e)
{
    struct err ignored = {0};
    enum task_state state;

    if (check_policy(r, s, e) < 0 || admission_decide(r, s, &state, e) < 0)
        return NULL;
    _cleanup_json_ struct json *j = spec_encode(s);
    _cleanup_free_ char *text = json_print(j);
    struct task *t = new_task(s, state, key, hash);
    if (state == TASK_STARTING)
        memcpy(t->status.boot_id, r->boot_id, sizeof(t->status.boot_id));
    struct task_row row = {
        .created_at = t->created_at,
        .spec = text,
        .state = t->state,
        .version = t->version,
        .status = t->status,
        .idempotency_key = t->idempotency_key,
        .body_hash = t->body_hash,
    };
    memcpy(row.id, t->id, sizeof(row.id));
    events_emit(r, EVENT_TASK_CREATED, t, NULL);
    events_transition(r, t);
    if (events_transaction(r, insert_row, &row, e) < 0) {
        events_forget(r, t->id, EVENT_TYPES);
        task_free(t);
        return NULL;
    }
    if (state == TASK_STARTING && link_launch(r, t, LAUNCH_TASK, text, e) < 0) {
        /* Should the row stay, the next start finds that nothing was launched. */
        events_emit(r, EVENT_TASK_REMOVED, t, NULL);
        if (events_transaction(r, registry_delete_row, t->id, &ignored) < 0) {
            events_forget(r, t->id, EVENT_TASK_REMOVED);
            log_error("task %s: %s", t->id, ignored.detail);
        }
        task_free(t);
        return NULL;
    }
    registry_append(r, t);
    r->starts += state == TASK_STARTING;
    announce(r, t);
    return t;
}

struct task *registry_find(struct registry *r, const char *id)
{
    return map_get(&r->by_id, id);
}

struct task *registry_find_key(struct registry *r, const char *idempotency_key)
{
    return map_get(&r->by_key, idempotency_key);
}

struct task *registry_first(struct registry *r)
{
    return r->first;
}

struct task *registry_last(struct registry *r)
{
    return r->last;
}

void registry_counts(const struct registry *r, size_t out[TASK_STATES])
{
    memset(out, 0, TASK_STATES * sizeof(*out));
    for (const struct task *t = r->first; t; t = t->next)
        out[t->state]++;
}

int64_t registry_version(struct registry *r)
{
    return r->version;
}

uint64_t registry_starts(const struct registry *r)
{
    return r->starts;
}

struct subscription *registry_subscribe(struct registry *r, registry_changed fn, void *arg)
{
    struct subscription *s = xcalloc(1, sizeof(*s));

    *s = (struct subscription){.registry = r, .fn = fn, .arg = arg, .next = r->subscriptions};
    r->subscriptions = s;
    return s;
}

void registry_unsubscribe(struct subscription *s)
{
    if (!s)
        return;
    s->fn = NULL;
    if (s->registry->announcing > 0)
        return; /* announce frees it */
    for (struct subscription **at = &s->registry->subscriptions; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    free(s);
}

const struct attributes *registry_attributes(const struct registry *r)
{
    return r->config.attributes;
}

const struct cgroup_host *registry_cgroups(const struct registry *r)
{
    return r->config.cgroups;
}

const struct histogram *registry_commits(const struct registry *r)
{
    return store_commits(r->store);
}

const struct policy *registry_policy(const struct registry *r)
{
    return r->config.policy;
}

int registry_ready(struct registry *r, struct err *e)
{
    if (r->launcher_gone)
        return err_set(e, 503, "launcher_unavailable", "the launcher is gone");
    if (r->dirty || r->events.failed)
        return err_set(e, 503, "store", "the store does not take changes");
    return 0;
}
