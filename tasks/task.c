#include "tasks/task.h"

#include <string.h>

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
