/* Requests about a task that end with an answer: signals, stop, restart, pause, removal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/signals.h"
#include "tasks/registry_internal.h"

struct sending { /* a signal that the supervisor was asked to send */
    struct registry *registry;
    char id[ID_LEN + 1];
    int signum;
    bool all;
    registry_done done;
    void *arg;
};

static void on_sent(void *arg, const struct err *e)
{
    struct sending *s = arg;
    struct task *t = registry_find(s->registry, s->id);

    if (e->status == 0 && t) {
        struct json *data = json_object();

        json_set_string(data, "signal", signal_name(s->signum));
        json_set_string(data, "target", s->all ? "all" : "main");
        events_emit(s->registry, EVENT_TASK_SIGNALED, t, data);
        registry_settle(s->registry);
    }
    s->done(s->arg, e);
    free(s);
}

void registry_signal(struct registry *r, struct task *t, int signum, bool all, registry_done done, void *arg)
{
    struct sending *s = xcalloc(1, sizeof(*s));

    *s = (struct sending){.registry = r, .signum = signum, .all = all, .done = done, .arg = arg};
    memcpy(s->id, t->id, sizeof(s->id));
    link_request(t, &(struct supervisor_request){.op = SUP_SIGNAL, .signum = signum, .target_all = all}, -1, on_sent,
                 s);
}

void registry_restart(struct registry *r, struct task *t, int64_t timeout_ms, registry_done done, void *arg)
{
    (void)r;
    link_request(t, &(struct supervisor_request){.op = SUP_RESTART, .timeout_ms = timeout_ms}, -1, done, arg);
}

void registry_pause(struct registry *r, struct task *t, bool paused, registry_done done, void *arg)
{
    (void)r;
    link_request(t, &(struct supervisor_request){.op = paused ? SUP_PAUSE : SUP_RESUME}, -1, done, arg);
}

void registry_stop(struct registry *r, struct task *t, int signum, int64_t timeout_ms, registry_done done, void *arg)
{
    struct err e = {0};

    if (t->state == TASK_PENDING) {
        admission_cancel(r, t, &e);
        done(arg, &e);
        return;
    }
    link_request(t, &(struct supervisor_request){.op = SUP_STOP, .signum = signum, .timeout_ms = timeout_ms}, -1, done,
                 arg);
}

void removal_begin(struct registry *r, struct task *t)
{
    t->removal = REMOVAL_WANTED;
    registry_mark(r, t);
}

void registry_remove(struct registry *r, struct task *t, registry_done done, void *arg)
{
    struct err e = {0};

    if (!task_ended(t)) {
        err_set(&e, 409, "task_running", "the task has not ended: it is %s", task_state_name(t->state));
        done(arg, &e);
        return;
    }
    if (!t->removal)
        removal_begin(r, t);
    struct removal *m = xcalloc(1, sizeof(*m));
    *m = (struct removal){.done = done, .arg = arg, .next = r->removals};
    memcpy(m->id, t->id, sizeof(m->id));
    r->removals = m;
}

/* Detaches those that wait for id (any when NULL) before it calls them: each may ask for another removal. */
static void answer(struct registry *r, const char *id, const struct err *e)
{
    struct removal *mine = NULL;

    for (struct removal **at = &r->removals; *at;) {
        struct removal *m = *at;

        if (id && strcmp(m->id, id) != 0) {
            at = &m->next;
            continue;
        }
        *at = m->next;
        m->next = mine;
        mine = m;
    }
    while (mine) {
        struct removal *m = mine;

        mine = m->next;
        m->done(m->arg, e);
        free(m);
    }
}

static struct json *removed_data(const struct task *t)
{
    struct json *j = json_object();

    json_set_string(j, "by", t->collected ? "gc" : "request");
    return j;
}

/* It stays as it was. */
static void fail(struct registry *r, struct task *t, const struct err *e)
{
    log_error("task %s: cannot remove it: %s", t->id, e->detail);
    t->removal = REMOVAL_NONE;
    registry_commit(r, t);
    answer(r, t->id, e);
}

static void ask(struct registry *r, struct task *t)
{
    struct err e = {0};

    t->removal = REMOVAL_ASKED;
    if (launcher_ask(r, REMOVE_TASK, t->id, NULL, 0, &e) < 0)
        fail(r, t, &e);
}

static void finish(struct registry *r, struct task *t)
{
    struct err done = {0}, gone = {0};
    char id[ID_LEN + 1];

    memcpy(id, t->id, sizeof(id));
    registry_unlink(r, t);
    registry_announce(r, t);
    err_set(&gone, 409, "task_ended", "the task has ended");
    link_close(t, &gone);
    task_free(t);
    answer(r, id, &done);
}

void removal_reply(struct registry *r, const char *id, const struct err *reply)
{
    struct task *t = registry_find(r, id);

    if (!t) {
        answer(r, id, reply);
    } else if (t->removal && strcmp(reply->step, HELPER_STEP) == 0) {
        ask(r, t); /* again */
    } else if (reply->status) {
        fail(r, t, reply);
    } else {
        t->removal = REMOVAL_FILES;
        events_emit(r, EVENT_TASK_REMOVED, t, removed_data(t));
        registry_mark(r, t);
    }
}

void removal_stored(struct registry *r, struct task *t)
{
    if (t->removal == REMOVAL_WANTED)
        ask(r, t);
    else if (t->removal == REMOVAL_FILES)
        finish(r, t);
}

void removal_refused(struct registry *r, struct task *t, const struct err *e)
{
    if (t->removal == REMOVAL_WANTED) { /* a full disk is when removals are needed most */
        ask(r, t);
        return;
    }
    events_forget(r, t->id, EVENT_TASK_REMOVED);
    fail(r, t, e);
}

void removal_fail_all(struct registry *r, const struct err *e)
{
    answer(r, NULL, e);
}
