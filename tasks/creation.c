/* New tasks: admitted at once, stored with all other changes of the turn, launched when they are durable. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "isolation/caps.h"
#include "isolation/cgroup.h"
#include "isolation/limits.h"
#include "isolation/network.h"
#include "isolation/seccomp.h"
#include "isolation/volumes.h"
#include "tasks/registry_internal.h"

struct creation {
    struct task *task; /* in the registry already, so that it takes its room and its key */
    char *text;        /* its spec */
    bool launch;       /* there is room */
    struct err err;    /* the store refuses this one alone */
    registry_created done;
    void *arg;
    struct creation *next;
};

/* What needs no look at the host: the supervisor checks everything again, with power. */
static int check_policy(const struct registry *r, struct spec *s, struct err *e)
{
    const struct policy *p = r->config.policy;

    if (limits_apply(&s->resources, NULL, &p->max, e) < 0 || volumes_check(s, p, e) < 0 ||
        caps_check(s, p->allow_caps, e) < 0 || network_check(&s->network, p, e) < 0)
        return -1;
    return seccomp_check(p->seccomp, s->seccomp ? s->seccomp : SECCOMP_DEFAULT, e);
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

int registry_check(const struct registry *r, struct spec *s, struct err *e)
{
    if (check_policy(r, s, e) < 0 || admission_check(r, s, e) < 0)
        return -1;
    return cgroup_check(r->config.cgroups, &s->resources, e);
}

int registry_create(struct registry *r, struct spec *s, const char *key, const char *hash, registry_created done,
                    void *arg, struct err *e)
{
    enum task_state state;

    if (check_policy(r, s, e) < 0 || admission_decide(r, s, &state, e) < 0)
        return -1;
    struct creation *c = xcalloc(1, sizeof(*c));
    _cleanup_json_ struct json *j = spec_encode(s);
    struct task *t = new_task(s, state, key, hash);
    *c =
        (struct creation){.task = t, .text = json_print(j), .launch = state == TASK_STARTING, .done = done, .arg = arg};
    if (c->launch)
        memcpy(t->status.boot_id, r->boot_id, sizeof(t->status.boot_id));
    registry_append(r, t);
    events_emit(r, EVENT_TASK_CREATED, t, NULL);
    events_transition(r, t);
    *(r->last_creation ? &r->last_creation->next : &r->creations) = c;
    r->last_creation = c;
    registry_settle_later(r);
    if (++r->ncreations >= LAUNCHES_AT_ONCE)
        registry_settle(r);
    return 0;
}

static int insert(struct registry *r, const struct creation *c, struct err *e)
{
    const struct task *t = c->task;
    struct task_row row = {
        .created_at = t->created_at,
        .spec = c->text,
        .state = t->state,
        .version = t->version,
        .status = t->status,
        .idempotency_key = t->idempotency_key,
        .body_hash = t->body_hash,
    };
    memcpy(row.id, t->id, sizeof(row.id));
    return store_insert(r->store, &row, e);
}

int creation_write(struct registry *r, struct err *e)
{
    for (struct creation *c = r->creations; c; c = c->next) {
        if (c->err.status || insert(r, c, &c->err) == 0)
            continue;
        if (strcmp(c->err.code, STORE_CONFLICT) != 0) {
            *e = c->err;
            c->err = (struct err){0};
            return -1;
        }
        events_forget(r, c->task->id, EVENT_TYPES);
    }
    return 0;
}

struct creation *creation_take(struct registry *r)
{
    struct creation *all = r->creations;

    r->creations = r->last_creation = NULL;
    r->ncreations = 0;
    return all;
}

static void refuse(struct registry *r, struct creation *c, const struct err *e)
{
    events_forget(r, c->task->id, EVENT_TYPES);
    registry_unlink(r, c->task);
    task_free(c->task);
    admission_pump(r);
    c->done(c->arg, NULL, e);
}

/* Should the row stay, the next start finds that nothing was launched. */
static void take_back(struct registry *r, struct creation *c)
{
    struct task *t = c->task;
    struct err ignored = {0};

    events_emit(r, EVENT_TASK_REMOVED, t, NULL);
    registry_unlink(r, t);
    if (registry_transaction(r, registry_delete_row, t->id, &ignored) < 0) {
        events_forget(r, t->id, EVENT_TASK_REMOVED);
        log_error("task %s: %s", t->id, ignored.detail);
    }
    task_free(t);
    admission_pump(r);
    c->done(c->arg, NULL, &c->err);
}

static void launch(struct registry *r, struct creation *c)
{
    struct task *t = c->task;

    if (c->launch && link_launch(r, t, LAUNCH_TASK, c->text, &c->err) < 0) {
        take_back(r, c);
        return;
    }
    r->starts += c->launch;
    registry_announce(r, t);
    c->done(c->arg, t, &c->err);
}

static void creation_free(struct creation *c)
{
    free(c->text);
    free(c);
}

void creation_launch_all(struct registry *r, struct creation *c)
{
    for (struct creation *next; c; c = next) {
        next = c->next;
        if (c->err.status)
            refuse(r, c, &c->err);
        else
            launch(r, c);
        creation_free(c);
    }
}

void creation_refuse_all(struct registry *r, const struct err *e)
{
    for (struct creation *c = creation_take(r), *next; c; c = next) {
        next = c->next;
        refuse(r, c, c->err.status ? &c->err : e);
        creation_free(c);
    }
}
