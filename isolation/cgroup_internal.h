/* What the files of the cgroup module share. */
#ifndef CLOISTER_ISOLATION_CGROUP_INTERNAL_H
#define CLOISTER_ISOLATION_CGROUP_INTERNAL_H

#include <stddef.h>

#include "isolation/cgroup.h"

enum { CG_PATH = 512, CG_FILE = CG_PATH + 64, CG_TREES = CG_COUNT + 1, CG_VALUES = 64, CG_TEXT = 128, CG_NAME = 48 };

#define CG_SHARE "share"     /* part of the parent group: tasks that share cores */
#define CG_RESERVE "reserve" /* tasks with cores of their own */

/* One file of a group and what it must hold. */
struct cg_value {
    enum cgroup_controller ctl;
    char file[CG_NAME];
    char text[CG_TEXT];
    bool line; /* the file holds more: one of its lines must be text */
};

/* cgroup_v2.c: files of a group, and the v2 hierarchy by hand. */

/* One write(2) of text to dir/file; 0 or -1 with errno. */
int cg_write(const char *dir, const char *file, const char *text);
/* The start of dir/file without the last newline; 0 or -1 with errno. */
int cg_read(const char *dir, const char *file, char *out, size_t size);
bool cg_has(const char *dir, const char *file);
/* mount/parent or, with an id, the group of the task there: mount/parent/id, on v2 below the part that it is in (share
 * when it is in none). */
void cg_dir(const struct cgroup_host *h, const char *mount, const char *id, char out[CG_PATH]);
/* Roots of the hierarchies that hold task groups, each once; v2's, when there is one, comes last. */
size_t cg_trees(const struct cgroup_host *h, const char *mounts[CG_TREES]);
/* fn for each child group of dir; stops at the first that is not 0 and returns it. */
int cg_children(const char *dir, int (*fn)(void *arg, const char *dir, const char *name), void *arg);
/* Whether pid, or with -1 any process, is a member. */
bool cg_has_pid(const char *dir, pid_t pid);
/* Removes the groups below dir, which must be empty. 0 or -1 with errno. */
int cg_remove_below(const char *dir);
/* Whether text is a plain name: one path component that cannot leave its directory. */
bool cg_name_ok(const char *text);
/* The first cgroup2 mount of this mount namespace, "" when there is none. */
void cg_v2_mount(char *out, size_t size);
/* Whether the hierarchy's root offers the controller. */
bool cg_v2_offers(const char *mount, enum cgroup_controller c);
/* Whether processes, not only threads, can be members of dir: not in a threaded subtree (cgroups(7)). */
bool cg_v2_takes_processes(const char *dir);
/* Passes the controller on to the groups below root and parent. 0, or -1 when the kernel refuses or would do harm. */
int cg_v2_enable(const struct cgroup_host *h, enum cgroup_controller c);

/* cgroup_kill.c: SIGKILLs who is in the group dir, whose last component is name, or below it, and returns how many were
 * there. */
size_t cg_kill_members(const char *dir, const char *name);

/* cgroup_values.c: limits as files. */

/* The values of limits r, in the order in which they must be written; their count. */
size_t cg_values(const struct cgroup_host *h, const struct resources *r, struct cg_value out[CG_VALUES]);

/* Major and minor number of the block device named "8:0" or "/dev/sda" as text; -1 with errno. */
int cg_device(const char *name, char out[CG_NAME]);
/* The name of the file for the weight of block I/O on this host, or NULL. */
const char *cg_io_weight_file(const struct cgroup_host *h);
/* The name of the limit's file for a page size. */
void cg_hugetlb_file(const struct cgroup_host *h, const char *page_size, char out[CG_NAME]);
/* Whether groups below our parent will have this file of the controller. */
bool cg_child_has(const struct cgroup_host *h, enum cgroup_controller c, const char *file);

/* cgroup.c */

/* Whether each file holds its value. 0, or -1 with step "cgroup_create". */
int cg_verify(const struct cgroup_host *h, const char *id, const struct cg_value *v, size_t n, struct err *e);

/* cgroup_cpuset.c: shared and reserved cores. */

/* Makes the parts share and reserve; gives up the controller where it cannot serve. */
void cg_cpuset_init(struct cgroup_host *h);
/* Takes n free cores for the task out of the share, and makes its group with them. Step "cgroup_create". */
int cg_cores_reserve(const struct cgroup_host *h, const char *id, size_t n, char out[CGROUP_CORES_TEXT], struct err *e);
/* Gives cores back that have no group any more. */
void cg_cores_release(const struct cgroup_host *h);
/* The group of the task in a cpuset hierarchy that is apart from all others (v1); false when there is none. */
bool cg_cpuset_dir(const struct cgroup_host *h, const char *id, char out[CG_PATH]);

#endif
