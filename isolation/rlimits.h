/* Resource limits of processes: setrlimit(2). */
#ifndef CLOISTER_ISOLATION_RLIMITS_H
#define CLOISTER_ISOLATION_RLIMITS_H

#include "isolation/spec.h"

/* {"nofile": [1024, 4096], "core": 0, "memlock": "unlimited"}: names of setrlimit(2) in lower case without RLIMIT_; a
 * number is both limits. */
extern const struct record_codec rlimits_codec;
/* On the host: 422 by field when a hard limit is above this process's own and the capability to raise it is missing. */
int rlimits_check(const struct rlimits *r, struct err *e);
/* In the child: sets them (no core dumps unless asked for) and reads them back. Step "rlimits". */
int rlimits_apply(const struct rlimits *r, struct err *e);

#endif
