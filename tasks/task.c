#include "tasks/task.h"

#include <string.h>

#include "base/json.h"
#include "base/signals.h"

static const char *const NAMES[] = {
    [TASK_PENDING] = "pending",   [TASK_STARTING] = "starting",     [TASK_RUNNING] = "running",
    [TASK_STOPPING] = "stopping", [TASK_EXITED] = "exited",         [TASK_FAILED] = "failed",
    [TASK_LOST] = "lost",         [TASK_RESTARTING] = "restarting", [TASK_PAUSED] = "paused",
};

const char *task_state_name(enum task_state s)
{
    return (size_t)s < sizeof(NAMES) / sizeof(NAMES[0]) ? NAMES[s] : "unknown";
}

int task_state_parse(const char *name)
{
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++)
        if (strcmp(NAMES[i], name) == 0)
            return (int)i;
    return -1;
}

bool task_ended(const struct task *t)
{
    return t->state == TASK_EXITED || t->state == TASK_FAILED || t->state == TASK_LOST;
}

bool task_live(const struct task *t)
{
    return !task_ended(t) && t->state != TASK_PENDING;
}

void exit_put(struct json *j, int32_t code, int32_t signum)
{
    json_set(j, "code", code < 0 ? json_new_null() : json_new_int(code));
    json_set_string(j, "signal", signum > 0 ? signal_name(signum) : NULL);
}

struct json *task_exit_json(const struct task *t)
{
    const struct exit_info *x = &t->status.exit;
    struct json *j = json_object();

    exit_put(j, x->code, x->signum);
    json_set_bool(j, "oom_killed", x->oom_killed);
    json_set_string(j, "reason", x->reason);
    json_set_time(j, "started_at", x->started_at);
    json_set_time(j, "finished_at", x->finished_at);
    return j;
}
