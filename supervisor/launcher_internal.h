/* Private to the launcher. */
#ifndef CLOISTER_SUPERVISOR_LAUNCHER_INTERNAL_H
#define CLOISTER_SUPERVISOR_LAUNCHER_INTERNAL_H

#include "supervisor/launcher.h"
#include "supervisor/messages.h"

/* launcher_tasks.c: what the server may ask for. Each forks and returns at once; fds stay the caller's. */
void launch_task(struct launcher *l, const char *id, bool again, int spec_fd, int server_fd);
/* The pid of the helper that does it and answers, or -1 with errno. When it ends with another status than 0 it has not
 * answered. */
pid_t clear_task(struct launcher *l, const struct launcher_request *r, int reply_sock);
void task_files(struct launcher *l, const char *id, int channel);
/* At start: ends what supervisors that are no more have left in our cgroups. */
void clear_leftovers(struct launcher *l);

#endif
