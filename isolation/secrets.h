/* What of the host no task sees, whatever its root. */
#ifndef CLOISTER_ISOLATION_SECRETS_H
#define CLOISTER_ISOLATION_SECRETS_H

#include "isolation/policy.h"

/* Calls fn with each path: as named, and where that leads when links are followed. A path need not exist: it may come
 * to be later. Stops when fn returns other than 0, and returns that; 0 at the end; -1 when the host cannot be read. */
int secrets_each(const struct policy *p, int (*fn)(void *arg, const char *path), void *arg);

#endif
