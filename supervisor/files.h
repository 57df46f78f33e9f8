/* The files of a task, for servers that may not open them: a process for each request, forked by the supervisor or,
 * when the task has ended, by the launcher. Its root is the directory that holds what the task writes, seen through a
 * mount of its own (no devices, no set-id bits, read-only unless something is to be written); of root's power it keeps
 * only what opens and gives away files; it has no fd but the channel. */
#ifndef CLOISTER_SUPERVISOR_FILES_H
#define CLOISTER_SUPERVISOR_FILES_H

#include "supervisor/launcher.h"
#include "supervisor/supervision.h"

/* Forks the process, which has the request's channel; the channel stays the caller's. */
void files_of_running(struct supervision *s, int channel, struct err *e);
/* The same, in a process that the launcher has forked for it. */
_Noreturn void files_of_ended(const struct launcher *l, const char *id, int channel);
/* Answers with e on the channel. */
void files_refuse(int channel, const struct err *e);

#endif
