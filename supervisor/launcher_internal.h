/* Private to the launcher. */
#ifndef CLOISTER_SUPERVISOR_LAUNCHER_INTERNAL_H
#define CLOISTER_SUPERVISOR_LAUNCHER_INTERNAL_H

#include "supervisor/launcher.h"
#include "supervisor/messages.h"

/* launcher_tasks.c: what the server may ask for. Each forks and returns at once; fds stay the caller's. */
void launch_task(struct launcher *l, const char *id, bool again, int spec_fd, int server_fd);
void clear_task(struct launcher *l, const struct launcher_request *r, int reply_sock);
/* A child has ended: when it was at work for clear_task and could not answer, the answer is that. */
void helper_ended(struct launcher *l, pid_t pid, int status, int reply_sock);
/* Nobody waits for their answers any more. */
void helpers_forget(struct launcher *l);
/* At start: ends what supervisors that are no more have left in our cgroups. */
void clear_leftovers(struct launcher *l);

#endif
