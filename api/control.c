/* POST /v1/tasks/{id}/signal, /stop, /restart, /pause and /resume. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/common.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/signals.h"

struct order {         /* a request that waits for the supervisor */
    struct request *q; /* NULL when the client has left */
    struct registry *registry;
    char id[ID_LEN + 1];
    bool busy, wait_exited, is_signal, is_change;
    struct subscription *subscription;
};

static void release(struct order *o)
{
    if (!o->q && !o->busy)
        free(o);
}

static void on_end(void *arg)
{
    struct order *o = arg;

    registry_unsubscribe(o->subscription);
    o->subscription = NULL;
    o->q = NULL;
    release(o);
}

static void reply_view(struct order *o, int status)
{
    struct task *t = registry_find(o->registry, o->id);

    registry_unsubscribe(o->subscription);
    o->subscription = NULL;
    if (t)
        reply_json(o->q, status, task_view(t));
    else
        reply_empty(o->q, 204);
}

static void on_change(void *arg, struct task *t)
{
    struct order *o = arg;

    if (strcmp(t->id, o->id) == 0 && task_ended(t) && !o->busy)
        reply_view(o, 200);
}

static void on_done(void *arg, const struct err *e)
{
    struct order *o = arg;

    if (o->q)
        registry_settle(o->registry); /* no answer tells what a crash could take back */
    o->busy = false;
    if (!o->q) {
        release(o);
        return;
    }
    struct task *t = registry_find(o->registry, o->id);
    if (e->status)
        reply_problem(o->q, e);
    else if (o->is_signal)
        reply_empty(o->q, 204);
    else if (!o->wait_exited)
        reply_view(o, o->is_change ? 200 : 202);
    else if (!t || task_ended(t))
        reply_view(o, 200);
}

static struct order *order_new(struct request *q, struct task *t)
{
    struct order *o = xcalloc(1, sizeof(*o));

    *o = (struct order){.q = q, .registry = request_registry(q), .busy = true};
    memcpy(o->id, t->id, sizeof(o->id));
    request_on_end(q, on_end, o);
    return o;
}

static int read_signal(const struct json *j, int *signum, struct err *e)
{
    int64_t n;

    if (!j)
        return 0;
    if (json_string(j))
        *signum = signal_parse(json_string(j));
    else if (json_int(j, &n) && n > 0 && n < 65)
        *signum = (int)n;
    else
        *signum = -1;
    return *signum > 0 ? 0 : err_field(e, "/signal", "there is no such signal");
}

static int read_timeout(const struct json *j, int64_t *ms, struct err *e)
{
    int64_t seconds;

    if (!j)
        return 0;
    if (json_string(j) && duration_parse(json_string(j), ms) == 0 && *ms <= 86400000)
        return 0;
    if (json_int(j, &seconds) && seconds >= 0 && seconds <= 86400) {
        *ms = seconds * 1000;
        return 0;
    }
    return err_field(e, "/timeout", "must be a duration up to 24h, as \"5s\"");
}

static int signal_body(const struct request *q, int *signum, bool *all, struct err *e)
{
    _cleanup_json_ struct json *j = body_object(q, false, e);

    if (!j || only_fields(j, "signal", "target", e) < 0)
        return -1;
    if (!json_get(j, "signal"))
        return err_field(e, "/signal", "is required");
    const struct json *target = json_get(j, "target");
    const char *name = target ? json_string(target) : "main";
    *all = name && strcmp(name, "all") == 0;
    if (!name || (!*all && strcmp(name, "main") != 0))
        return err_field(e, "/target", "must be \"main\" or \"all\"");
    return read_signal(json_get(j, "signal"), signum, e);
}

void task_signal(struct request *q)
{
    struct err e = {0};
    int signum = 0;
    bool all = false;
    struct task *t = request_task(q);

    if (!t)
        return;
    if (signal_body(q, &signum, &all, &e) < 0) {
        reply_problem(q, &e);
        return;
    }
    struct order *o = order_new(q, t);
    o->is_signal = true;
    registry_signal(o->registry, t, signum, all, on_done, o);
}

static int stop_body(const struct request *q, int *signum, int64_t *timeout, bool *wait_exited, struct err *e)
{
    const char *wait = request_query(q, "wait", 0);
    _cleanup_json_ struct json *j = body_object(q, true, e);

    *wait_exited = wait && strcmp(wait, "exited") == 0;
    if (wait && !*wait_exited) {
        return bad_parameter(e, "wait", wait);
    }
    if (!j || only_fields(j, "signal", "timeout", e) < 0 || read_signal(json_get(j, "signal"), signum, e) < 0)
        return -1;
    return read_timeout(json_get(j, "timeout"), timeout, e);
}

void task_stop(struct request *q)
{
    struct err e = {0};
    int signum = 0;
    int64_t timeout = -1;
    bool wait_exited;
    struct task *t = request_task(q);

    if (!t)
        return;
    if (stop_body(q, &signum, &timeout, &wait_exited, &e) < 0) {
        reply_problem(q, &e);
        return;
    }
    struct order *o = order_new(q, t);
    o->wait_exited = wait_exited;
    if (wait_exited)
        o->subscription = registry_subscribe(o->registry, on_change, o);
    registry_stop(o->registry, t, signum, timeout, on_done, o);
}

void task_restart(struct request *q)
{
    struct err e = {0};
    int signum = 0;
    int64_t timeout = -1;
    bool ignored;
    struct task *t = request_task(q);

    if (!t)
        return;
    if (stop_body(q, &signum, &timeout, &ignored, &e) == 0 && signum)
        err_field(&e, "/signal", "unknown field");
    if (e.status) {
        reply_problem(q, &e);
        return;
    }
    struct order *o = order_new(q, t);
    registry_restart(o->registry, t, timeout, on_done, o);
}

static void pause_or_resume(struct request *q, bool paused)
{
    struct err e = {0};
    struct task *t = request_task(q);

    if (!t)
        return;
    _cleanup_json_ struct json *j = body_object(q, true, &e);
    if (!j || only_fields(j, "", "", &e) < 0) {
        reply_problem(q, &e);
        return;
    }
    struct order *o = order_new(q, t);
    o->is_change = true;
    registry_pause(o->registry, t, paused, on_done, o);
}

void task_pause(struct request *q)
{
    pause_or_resume(q, true);
}

void task_resume(struct request *q)
{
    pause_or_resume(q, false);
}
