/* How much the operator lets a task ask for. */
#ifndef CLOISTER_ISOLATION_LIMITS_H
#define CLOISTER_ISOLATION_LIMITS_H

#include "isolation/policy.h"

/* Memory, pids and disk that r does not bound get the operator's bound. What is above a bound is refused: 403, code
 * "limit_denied", by field; but not what r has in common with before (NULL: nothing), which a task has already. -1. */
int limits_apply(struct resources *r, const struct resources *before, const struct limits *max, struct err *e);

#endif
