/* The processes of a task, as proc(5) tells. */
#ifndef CLOISTER_ISOLATION_PROCESSES_H
#define CLOISTER_ISOLATION_PROCESSES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolation/cgroup.h"

enum { PROCESS_COMMAND = 256 };

struct process_stat {
    pid_t pid, ns_pid; /* as this process and as the process itself sees it */
    char state;        /* R, S, D, Z, T ...: proc_pid_stat(5) */
    int64_t rss_bytes, cpu_ns;
    char command[PROCESS_COMMAND]; /* its arguments, cut, separated by blanks; or "[name]". May hold any bytes. */
};

/* Fills at most max; the count of all that were found, or -1 with errno when no hierarchy tells. One that ends
 * meanwhile is left out, and so is one that is not of this task any more (its pid may be another's by then). */
ssize_t processes_of(const struct cgroup_host *h, const char *id, struct process_stat *out, size_t max);

#endif
