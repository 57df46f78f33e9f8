/* The processes below this one. Where a task has no control group they are found by their parents: all of a pid
 * namespace descend from its pid 1, or from who entered it. */
#ifndef CLOISTER_ISOLATION_DESCENDANTS_H
#define CLOISTER_ISOLATION_DESCENDANTS_H

#include <sys/types.h>

/* fn for each descendant of this process that has not ended, by pid, parents before children. One that is made
 * meanwhile may be left out. -1 with errno when /proc cannot be read or fn has failed. */
int descendants_each(int (*fn)(void *arg, pid_t pid), void *arg);

#endif
