/* The restart policy: whether and when a run that has ended is followed by another. */
#ifndef CLOISTER_SUPERVISOR_RESTART_H
#define CLOISTER_SUPERVISOR_RESTART_H

#include "isolation/spec.h"

struct restart_history {    /* zero at first */
    int64_t interval_start; /* CLOCK_BOOTTIME, ms; 0 before the first failure */
    int64_t count;          /* restarts within the interval */
    int64_t previous, last; /* the last two delays, ms */
};

/* After a run: true with *delay_ms until the next start, or false when there is none. failed: its exit code was not 0,
 * or a signal ended it. random is any number; it spreads the delay by up to a quarter, so that many tasks that fail
 * together do not start together. The rules are those of Nomad's restart block. */
bool restart_decide(const struct restart_policy *p, struct restart_history *h, int64_t now_ms, bool failed,
                    uint32_t random, int64_t *delay_ms);

#endif
