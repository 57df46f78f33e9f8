#include <stdio.h>

#include "supervisor/launcher.h"

void task_dir_path(const struct policy *p, const char *id, char *out, size_t n)
{
    snprintf(out, n, "%s/tasks/%s", p->state_dir, id);
}

void task_socket_path(const struct policy *p, const char *id, char *out, size_t n)
{
    snprintf(out, n, "%s/supervisors/%s", p->run_dir, id);
}
