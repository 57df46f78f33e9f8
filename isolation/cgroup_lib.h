/* The part of libcgroup that Cloister uses. It stands alone: libcgroup's headers and isolation/cgroup.h both have a tag
 * named cgroup_controller, so no file can include both. */
#ifndef CLOISTER_ISOLATION_CGROUP_LIB_H
#define CLOISTER_ISOLATION_CGROUP_LIB_H

#include <stddef.h>

struct cglib_value {
    const char *controller; /* "memory" */
    const char *file;       /* "memory.limit_in_bytes"; NULL: only make the group in this controller's hierarchy */
    const char *text;
};

/* Finds where the controller is mounted, v1 or v2: 0, or -1 when it is not (or the path does not fit). */
int cglib_mount(const char *controller, char *out, size_t size);
/* Makes the v1 group `path` (relative to the hierarchies' roots) in the controllers named by v and writes the values in
 * order. NULL, or why it failed (static text); then some directories may be there already. */
const char *cglib_create(const char *path, const struct cglib_value *v, size_t n);
/* Removes the empty v1 group without moving a process anywhere. 0 or -1; libcgroup 2.0.2 also says
 * 0 when the group had members and stayed, so the caller must look. */
int cglib_remove(const char *path, const char *controller);

#endif
