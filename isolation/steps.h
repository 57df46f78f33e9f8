/* Private to isolation/: what the steps in the child share. */
#ifndef CLOISTER_ISOLATION_STEPS_H
#define CLOISTER_ISOLATION_STEPS_H

#include <limits.h>
#include <sys/stat.h>

#include "isolation/sandbox.h"

struct entry { /* state of one sandbox_enter */
    struct sandbox *b;
    int report_fd;
    int root_fd;             /* O_PATH of the new root, from the rootfs step until execve; else -1 */
    struct stat root;        /* the new root, compared with "/" after pivot_root */
    char command[PATH_MAX];  /* resolved, absolute, inside the new root */
    const struct join *join; /* of an exec session (enter.c); else NULL */
};

struct step {
    const char *name;
    int (*run)(struct entry *c, struct err *e);
};

/* Runs the steps in order, the last of which is execve: it returns only on failure, with e naming the step. */
int steps_run(const struct step *s, size_t n, struct entry *c, struct err *e);

#define SANDBOX_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" /* where the spec has no PATH */

enum source_kind { SOURCE_MISSING, SOURCE_LINK, SOURCE_DIR, SOURCE_FILE, SOURCE_OTHER };

/* What a chroot source is on the host. real gets its path without symbolic links (not for MISSING and LINK). */
enum source_kind rootfs_source(const char *src, char real[PATH_MAX], struct stat *st);

/* Paths below the new root: symbolic links and ".." stay inside it, and magic links such as /proc/self/fd/N and
 * /proc/PID/root are ELOOP, since they lead anywhere (openat2(2)). Whatever root opens or makes for a path of the spec
 * goes through here: CVE-2024-21626 is what happens otherwise. fd or -1. */
int root_open(int root_fd, const char *path, int flags);
/* mkdir -p below the new root, 0755. What is made belongs to owner (NULL: root). O_PATH fd of the directory, or -1.
 * ".." is EINVAL. */
int root_mkdirs(int root_fd, const char *path, const struct identity *owner);
/* Empty file below the new root whose directory is made too. 0 or -1. */
int root_mkfile(int root_fd, const char *path);
/* mount(2) onto an existing path below the new root. With MS_BIND the other flags are set by a second, remounting call,
 * because the first one ignores them. */
int root_mount(int root_fd, const char *src, const char *dst, const char *type, unsigned long flags, const char *data);

/* Environment of the command, NULL-terminated; owned by the caller until execve. */
char **environment_build(const struct sandbox *b);

/* These serve exec sessions too. */
int step_close_fds(struct entry *c, struct err *e);
int step_oom_score_adj(struct entry *c, struct err *e);
int step_rlimits(struct entry *c, struct err *e);
int step_groups(struct entry *c, struct err *e);
int step_capabilities(struct entry *c, struct err *e);
int step_no_new_privs(struct entry *c, struct err *e);
int step_signals(struct entry *c, struct err *e);

int step_rootfs(struct entry *c, struct err *e);
int step_volumes(struct entry *c, struct err *e);
int step_dev(struct entry *c, struct err *e);
int step_proc(struct entry *c, struct err *e);
int step_sys(struct entry *c, struct err *e);
int step_pivot_root(struct entry *c, struct err *e);
int step_work_dir(struct entry *c, struct err *e);
int step_command(struct entry *c, struct err *e);
int step_verify(struct entry *c, struct err *e);
int step_execve(struct entry *c, struct err *e);

#endif
