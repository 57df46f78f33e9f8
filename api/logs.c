/* GET /v1/tasks/{id}/logs */
#include <stdlib.h>
#include <string.h>

#include "api/common.h"
#include "api/log_reply.h"
#include "base/buf.h"

struct follower {
    char id[ID_LEN + 1];
    struct log_reply *reply;
    struct subscription *subscription;
};

static struct log_end end_of(const struct task *t)
{
    return (struct log_end){task_state_name(t->state), t->state == TASK_EXITED, t->status.exit.code,
                            t->status.exit.signum};
}

static void on_change(void *arg, struct task *t)
{
    struct follower *f = arg;

    if (strcmp(t->id, f->id) != 0 || (!task_ended(t) && !t->removal))
        return;
    struct log_end end = end_of(t);
    log_reply_ended(f->reply, &end);
}

static void on_close(void *arg)
{
    struct follower *f = arg;

    registry_unsubscribe(f->subscription);
    free(f);
}

void task_logs(struct request *q)
{
    struct task *t = request_task(q);

    if (!t)
        return;
    struct follower *f = xcalloc(1, sizeof(*f));
    struct log_end end = end_of(t);
    struct log_source source = {.end = task_ended(t) ? &end : NULL, .close = on_close, .arg = f};
    memcpy(f->id, t->id, sizeof(f->id));
    logs_path(request_registry(q), t->id, source.dir, sizeof(source.dir));
    struct log_reply *reply = log_reply(q, &source);
    if (!reply)
        return;
    f->reply = reply;
    if (!source.end)
        f->subscription = registry_subscribe(request_registry(q), on_change, f);
}
