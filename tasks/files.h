/* A request about a task's files: served by a process of its own, which its supervisor or (when the task has ended) the
 * launcher forks. supervisor/messages.h tells what is asked and answered. */
#ifndef CLOISTER_TASKS_FILES_H
#define CLOISTER_TASKS_FILES_H

#include "supervisor/messages.h"
#include "tasks/registry.h"

struct files;

/* Runs at each answer; fd is the callee's from then on, or -1. An end without one is told as an error. It may call
 * files_close. */
typedef void (*files_answered)(void *arg, const struct files_reply *r, int fd);

/* Asks; never answered before the return. NULL with e: 409 when the task has not started, 503. */
struct files *files_ask(struct task *t, const struct files_request *r, files_answered fn, void *arg, struct err *e);
/* Asks a live task's supervisor for the write end of its standard input; the one answer is that, or 409. */
struct files *files_ask_input(struct task *t, files_answered fn, void *arg, struct err *e);
/* The standard input that fd (the caller's, who then closes it) leads to is at its end; done as in registry_signal. */
void files_end_input(struct task *t, int fd, registry_done done, void *arg);
/* All of FILES_PUT is written. */
void files_commit(struct files *f);
/* What has not been committed is dropped. NULL is allowed. */
void files_close(struct files *f);

#endif
