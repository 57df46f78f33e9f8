/* Volumes of the host in a task's root. */
#ifndef CLOISTER_ISOLATION_VOLUMES_H
#define CLOISTER_ISOLATION_VOLUMES_H

#include "isolation/sandbox.h"

/* What needs no look at the host: the chroot and the volumes exist, the operator allows what is asked for, no two are
 * at one place. 422 or 403 by field. */
int volumes_check(const struct spec *s, const struct policy *p, struct err *e);
/* Waits for the file system of the i-th of the spec's volume mounts, with no other effect. */
void volumes_look(const struct sandbox *b, size_t i);
/* On the host: a detached tree for each volume mount of the spec, into b->volumes. A path that is missing: 422. */
int volumes_open(struct sandbox *b, struct err *e);
void volumes_close(struct sandbox *b);
/* Member `name` of the i-th volume mount is at fault: 422, with errno. -1. */
int volumes_field(struct err *e, int errnum, size_t i, const char *name, const char *what);

#endif
