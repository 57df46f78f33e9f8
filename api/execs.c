/* GET /v1/tasks/{id}/execs, /execs/{eid}, and POST /execs/{eid}/signal. */
#include "api/execs.h"

#include <stdlib.h>
#include <string.h>

#include "api/common.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/record.h"
#include "base/signals.h"

static const char *const states[] = {
    [SESSION_STARTING] = "starting", [SESSION_RUNNING] = "running", [SESSION_EXITED] = "exited",
    [SESSION_FAILED] = "failed",     [SESSION_LOST] = "lost",
};

const char *exec_state_name(uint32_t state)
{
    return state > 0 && state < sizeof(states) / sizeof(states[0]) ? states[state] : "unknown";
}

struct json *exec_exit_view(const struct session_status *s)
{
    if (s->state != SESSION_EXITED)
        return json_new_null();
    struct json *j = json_object();
    json_set(j, "code", s->code < 0 ? json_new_null() : json_new_int(s->code));
    json_set_string(j, "signal", s->signum > 0 ? signal_name(s->signum) : NULL);
    return j;
}

/* {id, command, args, user, tty, state, started_at, finished_at, exit, timed_out} from the session's record. */
static struct json *exec_view(const struct task *t, const struct session_status *s)
{
    _cleanup_json_ struct json *spec = exec_read_spec(t, s->id);
    _cleanup_session_spec_ struct session_spec known = {0};
    struct err e = {0};
    struct json *j = json_object(), *args = json_array();

    if (spec && session_spec_decode(spec, &known, &e) < 0)
        session_spec_free(&known);
    for (size_t i = 0; i < known.args.n; i++)
        json_push(args, json_new_string(known.args.v[i]));
    json_set_string(j, "id", s->id);
    json_set_string(j, "command", known.command);
    json_set(j, "args", args);
    json_set_string(j, "user", known.user ? known.user : t->spec.user);
    json_set_bool(j, "tty", s->tty);
    json_set_string(j, "state", exec_state_name(s->state));
    json_set_time(j, "started_at", s->started_at);
    json_set_time(j, "finished_at", s->finished_at);
    json_set(j, "exit", exec_exit_view(s));
    json_set_bool(j, "timed_out", s->timed_out);
    return j;
}

struct task *request_exec(struct request *q, struct session_status *s)
{
    struct task *t = request_task(q);
    struct err e = {0};

    if (!t || exec_read(t, request_param(q, 1), s) == 0)
        return t;
    err_set(&e, 404, "exec_not_found", "the task has no exec session %.64s", request_param(q, 1));
    reply_problem(q, &e);
    return NULL;
}

void execs_list(struct request *q)
{
    struct task *t = request_task(q);
    struct json *j, *items;
    char(*ids)[ID_LEN + 1];

    if (!t)
        return;
    j = json_object();
    items = json_array();
    size_t n = exec_list(t, &ids);
    for (size_t i = 0; i < n; i++) {
        struct session_status s;

        if (exec_read(t, ids[i], &s) == 0) /* it may have been removed since */
            json_push(items, exec_view(t, &s));
    }
    free(ids);
    json_set(j, "items", items);
    reply_json(q, 200, j);
}

void execs_get(struct request *q)
{
    struct session_status s;
    struct task *t = request_exec(q, &s);

    if (t)
        reply_json(q, 200, exec_view(t, &s));
}

/* --- signal ------------------------------------------------------------------------------------------------------- */

struct signal_body {
    int64_t signum;
};

static const struct record_field signal_fields[] = {
    {"signal", RECORD_SIGNAL, .offset = offsetof(struct signal_body, signum), .required = true},
};
static const struct record_table signal_table = {.fields = signal_fields, .n = 1, .size = sizeof(struct signal_body)};

struct order {
    struct request *q; /* NULL when the client has left */
    bool busy;
};

static void on_end(void *arg)
{
    struct order *o = arg;

    o->q = NULL;
    if (!o->busy)
        free(o);
}

static void on_done(void *arg, const struct err *e)
{
    struct order *o = arg;

    o->busy = false;
    if (!o->q)
        free(o);
    else if (e->status)
        reply_problem(o->q, e);
    else
        reply_empty(o->q, 204);
}

void execs_signal(struct request *q)
{
    struct session_status s;
    struct signal_body body = {0};
    struct err e = {0};
    struct task *t = request_exec(q, &s);

    if (!t)
        return;
    _cleanup_json_ struct json *j = body_object(q, false, &e);
    if (!j || record_decode(&signal_table, j, "", &body, &e) < 0) {
        reply_problem(q, &e);
        return;
    }
    struct order *o = xcalloc(1, sizeof(*o));
    *o = (struct order){.q = q, .busy = true};
    request_on_end(q, on_end, o);
    exec_signal(t, s.id, (int)body.signum, on_done, o);
}
