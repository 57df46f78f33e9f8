/* POST /v1/tasks/{id}/exec: a command inside a running task; the answer waits for its end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/common.h"
#include "api/execs.h"
#include "api/output.h"
#include "base/buf.h"
#include "base/cleanup.h"

struct call { /* a request that waits; the session outlives it */
    struct request *q;
    char task_id[ID_LEN + 1];
    struct exec *exec;
};

static void on_end(void *arg)
{
    struct call *c = arg;

    exec_close(c->exec);
    free(c);
}

static void reply_result(struct call *c, const struct session_status *s)
{
    const struct task *t = registry_find(request_registry(c->q), c->task_id);
    _cleanup_free_ char *location = xasprintf("/v1/tasks/%s/execs/%s", c->task_id, s->id);
    struct json *j = json_object();
    char dir[512];

    json_set_string(j, "id", s->id);
    json_set(j, "exit", exec_exit_view(s));
    if (t) {
        exec_dir_path(t, s->id, dir, sizeof(dir));
        json_set(j, "output", output_of(dir));
    }
    json_set_bool(j, "timed_out", s->timed_out);
    reply_header(c->q, "Location", location);
    reply_json(c->q, 200, j);
}

static void on_changed(void *arg, const struct session_status *s)
{
    struct call *c = arg;
    struct err e = {0};

    if (s->state == SESSION_EXITED) {
        reply_result(c, s);
    } else if (s->state == SESSION_FAILED) {
        reply_problem(c->q, &s->err);
    } else if (s->state == SESSION_LOST) {
        err_set(&e, 500, "session_lost", "the task's supervisor died; the outcome of the session is unknown");
        reply_problem(c->q, &e);
    }
}

static int start(struct request *q, struct task *t, struct err *e)
{
    _cleanup_session_spec_ struct session_spec spec = {0};
    _cleanup_json_ struct json *j = body_object(q, false, e);

    if (!j || session_spec_decode(j, &spec, e) < 0)
        return -1;
    if (spec.tty)
        return err_field(e, "/tty", "a terminal needs the WebSocket: GET on the same path");
    struct call *c = xcalloc(1, sizeof(*c));
    c->q = q;
    memcpy(c->task_id, t->id, sizeof(c->task_id));
    c->exec = exec_start(t, &spec, &(struct exec_options){.watch_only = true}, on_changed, c, e);
    if (!c->exec) {
        free(c);
        return -1;
    }
    request_on_end(q, on_end, c);
    return 0;
}

void task_exec(struct request *q)
{
    struct err e = {0};
    struct task *t = request_task(q);

    if (t && start(q, t, &e) < 0)
        reply_problem(q, &e);
}
