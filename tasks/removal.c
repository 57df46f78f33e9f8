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
    struct err none = {0};

    if (t->state == TASK_PENDING) {
        admission_cancel(r, t);
        registry_settle(r);
        done(arg, &none);
        return;
    }
    link_request(t, &(struct supervisor_request){.op = SUP_STOP, .signum = signum, .timeout_ms = timeout_ms}, -1, done,
                 arg);
}

/* Stored first, lest a task without its files is found after a crash. A full disk does not prevent it: that is when
 * removals are needed most. */
static int begin(struct registry *r, struct task *t, struct err *e)
{
    struct err ignored = {0};

    if (store_set_removing(r->store, t->id, &ignored) < 0)
        log_warn("task %s: %s", t->id, ignored.detail);
    if (launcher_ask(r, REMOVE_TASK, t->id, NULL, 0, e) < 0)
        return -1;
    t->deleting = true;
    return 0;
}

void removal_resume(struct registry *r, struct task *t)
{
    struct err e = {0};

    if (begin(r, t, &e) == 0)
        return;
    t->deleting = false;
    log_error("task %s: %s", t->id, e.detail);
}

void registry_remove(struct registry *r, struct task *t, registry_done done, void *arg)
{
    struct err e = {0};

    if (!task_ended(t)) {
        err_set(&e, 409, "task_running", "the task has not ended: it is %s", task_state_name(t->state));
        done(arg, &e);
        return;
    }
    if (!t->deleting && begin(r, t, &e) < 0) {
        done(arg, &e);
        return;
    }
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

void removal_reply(struct registry *r, const char *id, const struct err *reply)
{
    struct task *t = registry_find(r, id);
    struct err e = *reply, gone = {0};
    char copy[ID_LEN + 1];

    snprintf(copy, sizeof(copy), "%s", id);
    if (t && t->deleting && strcmp(e.step, HELPER_STEP) == 0 &&
        launcher_ask(r, REMOVE_TASK, id, NULL, 0, &(struct err){0}) == 0)
        return; /* again */
    if (t && e.status == 0) {
        events_emit(r, EVENT_TASK_REMOVED, t, removed_data(t));
        if (registry_transaction(r, registry_delete_row, id, &e) < 0)
            events_forget(r, t->id, EVENT_TASK_REMOVED);
    }
    if (e.status != 0) {
        log_error("task %s: cannot remove it: %s", copy, e.detail);
        if (t) { /* it stays as it was */
            t->deleting = false;
            registry_commit(r, t);
        }
    } else if (t) {
        registry_unlink(r, t);
        registry_announce(r, t);
        err_set(&gone, 409, "task_ended", "the task has ended");
        link_close(t, &gone);
        task_free(t);
    }
    answer(r, copy, &e);
}

void removal_fail_all(struct registry *r, const struct err *e)
{
    answer(r, NULL, e);
}
