/* Our own program, out of reach of what runs in tasks. */
#ifndef CLOISTER_SERVER_SELF_SEAL_H
#define CLOISTER_SERVER_SELF_SEAL_H

#include "base/err.h"

/* Executes this program again from a copy in memory that nobody can change (memfd_create(2), sealed), with the same
 * arguments, environment and fds; returns 0 in the copy. A process that enters a task can be made to execute its own
 * program there, by a script whose interpreter is /proc/self/exe: what the task then opens is this copy, not the
 * installed file (CVE-2019-5736). -1 with e when it cannot be done. */
int self_seal(char **argv, struct err *e);

#endif
