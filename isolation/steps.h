/* Private to isolation/: what the steps in the child share. */
#ifndef CLOISTER_ISOLATION_STEPS_H
#define CLOISTER_ISOLATION_STEPS_H

#include <limits.h>
#include <sys/stat.h>

#include "isolation/mount_tree.h"
#include "isolation/sandbox.h"

/* What sandbox_write_network_files has put into <task_dir>/etc for the task's /etc. */
enum network_file { NET_RESOLV_CONF, NET_HOSTS, NET_HOSTNAME, NET_FILES };
extern const char *const network_file_names[NET_FILES];
bool network_file_wanted(const struct sandbox *b, enum network_file f);

struct entry { /* state of one sandbox_enter */
    struct sandbox *b;
    int report_fd;
    int go_fd;               /* can be read once the child is in its cgroup; -1: it is already */
    int root_fd;             /* O_PATH of the new root, from the rootfs step until execve; else -1 */
    struct stat root;        /* the new root, compared with "/" after pivot_root */
    char command[PATH_MAX];  /* resolved, absolute, inside the new root */
    const struct join *join; /* of an exec session (enter.c); else NULL */
    struct stat userns;      /* the user namespace that was entered; zeroes for the host's */
};

struct step {
    const char *name;
    int (*run)(struct entry *c, struct err *e);
};

/* Runs the steps in order, the last of which is execve: it returns only on failure, with e naming the step. */
int steps_run(const struct step *s, size_t n, struct entry *c, struct err *e);

#define SANDBOX_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" /* where the spec has no PATH */

enum { GID_TTY = 5 }; /* of terminals, as Debian has it (Debian Policy, 9.2.1) */

enum source_kind { SOURCE_ERROR, SOURCE_MISSING, SOURCE_LINK, SOURCE_DIR, SOURCE_FILE, SOURCE_OTHER };

/* What a chroot source is on the host; ERROR, with errno, when that cannot be told. real gets its path without symbolic
 * links (not for MISSING and LINK). A link is made again where it keeps its name ("/bin" to "usr/bin"), and followed
 * where it does not. */
enum source_kind rootfs_source(const struct pair *p, char real[PATH_MAX], struct stat *st);

/* layers.c. Names that every root has, for mounts of ours; ends with NULL. */
extern const char *const root_mount_points[];
/* O_PATH of the layer above a source; ENOENT when it needs none. */
int layer_open(const struct sandbox *b, size_t source);
/* layer_copy.c. The layers of b's chroot once more below upper, for layer_open, with the owners of its user namespace.
 * 0 or -1 with errno. */
int layers_copy(const struct sandbox *b, int upper);
/* Makes name in the directory dirfd with exactly this mode and owner; one that is there is adjusted. fd or -1. */
int make_dir(int dirfd, const char *name, mode_t mode, uid_t uid, gid_t gid);

/* Paths below the new root: symbolic links and ".." stay inside it, and magic links such as /proc/self/fd/N and
 * /proc/PID/root are ELOOP, since they lead anywhere (openat2(2)). Whatever root opens or makes for a path of the spec
 * goes through here: CVE-2024-21626 is what happens otherwise. fd or -1. */
int root_open(int root_fd, const char *path, int flags);
/* mkdir -p below the new root, 0755. What is made belongs to owner (NULL: root). O_PATH fd of the directory, or -1.
 * ".." is EINVAL. */
int root_mkdirs(int root_fd, const char *path, const struct identity *owner);
/* Empty file below the new root whose directory is made too; one that is there stays. 0 or -1. */
int root_mkfile(int root_fd, const char *path);
/* mount(2) onto an existing path below the new root. With MS_BIND the other flags are set by a second, remounting call,
 * because the first one ignores them. */
int root_mount(int root_fd, const char *src, const char *dst, const char *type, unsigned long flags, const char *data);

/* The symbolic link src of the host once more at dst. One that is there stays. */
int root_copy_link(int root_fd, const char *src, const char *dst);
/* A file of the host, read-only, at dst. */
int root_bind_file(const struct sandbox *b, int root_fd, const char *src, const char *dst);

/* tree_bind for what is the host's: in a user namespace its owners are shown as the task's. */
int root_bind(const struct sandbox *b, int src_fd, int dst_fd, uint64_t attrs);
/* rootfs.c. The lower layers of source n, the topmost first; how many, or -1. The caller closes them. */
int rootfs_lowers(const struct sandbox *b, size_t n, const char *src, int lower[2]);
/* Mounts source n (its directory src) on dst_fd. */
typedef int (*rootfs_show)(const struct sandbox *b, size_t n, const char *src, int dst_fd);
/* Puts source n in its place: a directory by show, and read back to have attrs; a file read-only; a link as a link. */
int rootfs_place(const struct sandbox *b, size_t n, int root_fd, rootfs_show show, uint64_t attrs);
/* What to add to the detail of a failed mount: an overlay's layers must not lie in each other (ELOOP). */
const char *rootfs_hint(int errnum);
/* Makes what is mounted at root (a path of the host) the new root. */
int rootfs_open(struct entry *c, const char *root, struct err *e);
/* root_readonly.c: the read-only root, from the template or put together here, at root. */
int readonly_mount(struct entry *c, const char *root, struct err *e);
/* What all tasks of b->chroot have in common of it, at the directory at. */
int readonly_assemble(const struct sandbox *b, const char *at, struct err *e);
/* root_template.c, on the host: opens a copy of the chroot's tree in the template, into b->root_tree. */
int readonly_clone(struct sandbox *b, int template_fd, struct err *e);
/* root_extend.c: makes the places that volumes and the working directory need in a root that cannot be written to. */
int readonly_extend(struct entry *c, const char *root, struct err *e);

/* Environment of the command, NULL-terminated; owned by the caller until execve. */
char **environment_build(const struct sandbox *b);

/* These serve exec sessions too. */
int step_close_fds(struct entry *c, struct err *e);
int step_oom_score_adj(struct entry *c, struct err *e);
int step_rlimits(struct entry *c, struct err *e);
int step_userns(struct entry *c, struct err *e); /* enters it; before groups and capabilities */
int step_groups(struct entry *c, struct err *e);
int step_capabilities(struct entry *c, struct err *e);
int step_no_new_privs(struct entry *c, struct err *e);
int step_signals(struct entry *c, struct err *e);
int step_seccomp_early(struct entry *c, struct err *e); /* the one or the other does it */
int step_seccomp(struct entry *c, struct err *e);

int step_network(struct entry *c, struct err *e);
int step_network_files(struct entry *c, struct err *e);
int step_fsuid(struct entry *c, struct err *e);
int step_rootfs(struct entry *c, struct err *e);
int step_volumes(struct entry *c, struct err *e);
int step_volume_mounts(struct entry *c, struct err *e);
int step_dev(struct entry *c, struct err *e);
int step_proc(struct entry *c, struct err *e);
int step_sys(struct entry *c, struct err *e);
int step_pivot_root(struct entry *c, struct err *e);
/* mounts.c. Root and working directory become the root of our mount namespace (setns(2)). It is another than the
 * daemon's where that runs in a chroot(2), and pivot_root(2) from there would leave all of it around the task's root. 0
 * or -1 with errno. */
int enter_namespace_root(void);
int step_work_dir(struct entry *c, struct err *e);
int step_command(struct entry *c, struct err *e);
int step_verify(struct entry *c, struct err *e);
int step_execve(struct entry *c, struct err *e);

#endif
