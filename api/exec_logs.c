/* GET /v1/tasks/{id}/execs/{eid}/logs: what a session has written, whole or followed, also after its end. */
#include <stdlib.h>

#include "api/common.h"
#include "api/execs.h"
#include "api/log_reply.h"
#include "base/buf.h"

struct follower {
    struct exec *exec; /* tells of the end; NULL: it has ended */
    struct log_reply *reply;
};

static bool has_ended(const struct session_status *s)
{
    return s->state != SESSION_STARTING && s->state != SESSION_RUNNING;
}

static struct log_end end_of(const struct session_status *s)
{
    return (struct log_end){exec_state_name(s->state), s->state == SESSION_EXITED, s->code, s->signum};
}

static void on_changed(void *arg, const struct session_status *s)
{
    struct follower *f = arg;
    struct log_end end = end_of(s);

    if (has_ended(s))
        log_reply_ended(f->reply, &end);
}

static void on_close(void *arg)
{
    struct follower *f = arg;

    exec_close(f->exec);
    free(f);
}

void execs_logs(struct request *q)
{
    struct session_status s;
    struct err e = {0};
    struct task *t = request_exec(q, &s);

    if (!t)
        return;
    struct follower *f = xcalloc(1, sizeof(*f));
    struct log_end end = end_of(&s);
    struct log_source source = {.end = has_ended(&s) ? &end : NULL, .close = on_close, .arg = f};
    exec_dir_path(t, s.id, source.dir, sizeof(source.dir));
    if (!source.end) {
        f->exec = exec_attach(t, s.id, &(struct exec_options){.watch_only = true}, on_changed, f, &e);
        if (!f->exec) {
            on_close(f);
            reply_problem(q, &e);
            return;
        }
    }
    struct log_reply *reply = log_reply(q, &source);
    if (reply)
        f->reply = reply;
}
