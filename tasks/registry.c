#include "tasks/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "supervisor/record.h"
#include "tasks/registry_internal.h"

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
    struct err e = {0}, failure = {0};

    if (!r)
        return;
    err_set(&e, 503, "shutting_down", "the server is stopping");
    creation_refuse_all(r, &e); /* the launcher, which stops too, may not get to them */
    if (r->store && registry_settle_now(r, &failure) < 0)
        log_error("the last changes are not stored: %s", failure.detail);
    gc_stop(r); /* first: it would go on with the next */
    removal_fail_all(r, &e);
    loop_remove(r->pump);
    for (struct task *t = r->first, *next; t; t = next) {
        next = t->next;
        link_close(t, &e);
        task_free(t);
    }
    free_subscriptions(r);
    events_close(r);
    map_free(&r->by_id);
    map_free(&r->by_key);
    for (size_t i = 0; i < r->unknown.cap; i++)
        free((char *)(uintptr_t)r->unknown.slots[i].key);
    map_free(&r->unknown);
    settle_free(r);
    loop_remove(r->launcher_source);
    store_close(r->store);
    free(r);
}

int registry_delete_row(struct registry *r, const void *id, struct err *e)
{
    return store_delete(r->store, id, e);
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

void registry_announce(struct registry *r, struct task *t)
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
    if (r->events.failed)
        return err_set(e, 503, "store", "the store does not take changes");
    return 0;
}
