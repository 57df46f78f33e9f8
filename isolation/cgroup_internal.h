/* What the files of the cgroup module share. */
#ifndef CLOISTER_ISOLATION_CGROUP_INTERNAL_H
#define CLOISTER_ISOLATION_CGROUP_INTERNAL_H

#include <stddef.h>

#include "isolation/cgroup.h"

enum { CG_PATH = 512, CG_FILE = CG_PATH + 64, CG_TREES = CG_COUNT + 1, CG_VALUES = 12, CG_TEXT = 32 };

/* One file of a group and what it must hold. */
struct cg_value {
    enum cgroup_controller ctl;
    const char *file;
    char text[CG_TEXT];
};

/* cgroup_v2.c: files of a group, and the v2 hierarchy by hand. */

/* One write(2) of text to dir/file; 0 or -1 with errno. */
int cg_write(const char *dir, const char *file, const char *text);
/* The start of dir/file without the last newline; 0 or -1 with errno. */
int cg_read(const char *dir, const char *file, char *out, size_t size);
bool cg_has(const char *dir, const char *file);
/* mount/parent or, with an id, mount/parent/id. */
void cg_dir(const struct cgroup_host *h, const char *mount, const char *id, char out[CG_PATH]);
/* Roots of the hierarchies that hold task groups, each once; v2's, when there is one, comes last. */
size_t cg_trees(const struct cgroup_host *h, const char *mounts[CG_TREES]);
/* fn for each child group of dir; stops at the first that is not 0 and returns it. */
int cg_children(const char *dir, int (*fn)(void *arg, const char *dir, const char *name), void *arg);
/* Whether text is a plain name: one path component that cannot leave its directory. */
bool cg_name_ok(const char *text);
/* The first cgroup2 mount of this mount namespace, "" when there is none. */
void cg_v2_mount(char *out, size_t size);
/* Whether the hierarchy's root offers the controller. */
bool cg_v2_offers(const char *mount, enum cgroup_controller c);
/* Passes the controller on to the groups below root and parent. 0, or -1 when the kernel refuses. */
int cg_v2_enable(const struct cgroup_host *h, enum cgroup_controller c);

/* cgroup_values.c: limits as files. */

/* The values of limits r, in the order in which they must be written; their count. */
size_t cg_values(const struct cgroup_host *h, const struct resources *r, struct cg_value out[CG_VALUES]);

#endif
