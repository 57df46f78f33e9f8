/* Mount trees: by the new mount API (open_tree(2), mount_setattr(2), move_mount(2)), and by mount(2) where a kernel or
 * a filter lacks one of these calls. Functions return 0 or an fd, or -1 with errno set. */
#ifndef CLOISTER_ISOLATION_MOUNT_TREE_H
#define CLOISTER_ISOLATION_MOUNT_TREE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>

/* What no mount of a task goes without: files of others must neither give ids nor be devices. */
#define TREE_QUIET (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

struct mount_entry { /* a line of /proc/PID/mountinfo, proc(5) */
    int id;
    char *point;        /* decoded; seen from our root */
    uint64_t attrs;     /* MOUNT_ATTR_RDONLY, NOSUID, NODEV, NOEXEC of the mount itself */
    bool shared, slave; /* mount_namespaces(7) */
};

struct mount_table { /* owned */
    struct mount_entry *v;
    size_t n;
};

/* The mounts of our namespace, a parent before what is mounted on it. */
int mount_table_read(struct mount_table *t);
void mount_table_free(struct mount_table *t);
#define _cleanup_mounts_ __attribute__((cleanup(mount_table_free)))

/* A detached copy of what is mounted at path (relative to dirfd; "" for dirfd itself) and below, with attrs set on
 * every mount and the propagation type changed (MS_PRIVATE, MS_SLAVE, MS_SHARED). ENOSYS where a call is missing. */
int tree_clone(int dirfd, const char *path, uint64_t attrs, uint64_t propagation);
/* Mounts a detached tree on dst_fd (O_PATH). */
int tree_attach(int tree_fd, int dst_fd);
/* A detached copy of the one mount that fd is in, from fd's directory on, without what is mounted below. */
int tree_clone_top(int fd);
/* Shows the owners in a detached tree that no one else has as the user namespace maps them; the top mount or all. */
int tree_map_ids(int tree_fd, int userns_fd, bool recursive);
/* Shows what is at src_fd, and what is mounted below, on dst_fd, privately and with attrs on every mount (both O_PATH
 * and of our mount namespace). */
int tree_bind(int src_fd, int dst_fd, uint64_t attrs);
/* overlayfs on dst_fd, nosuid and nodev. lower: O_PATH of directories, the topmost first. upper and work: -1 for a
 * read-only one, which needs two layers at least. The layers are named by fd: their paths may hold any byte, and the
 * task's mount table does not tell them. */
int tree_overlay(const int *lower, size_t n, int upper, int work, int dst_fd);
/* Sets attrs on the one mount that fd is the root of. */
int tree_protect(int fd, uint64_t attrs);
/* Reads back: what the mount of fd has, and every file system's own flags with it; EPROTO unless that is all of attrs.
 */
int tree_check(int fd, uint64_t attrs);
/* Reads back: every mount at or below what fd names has all attrs; else EPROTO. */
int tree_verify(int fd, uint64_t attrs);
/* The path of an fd, seen from our root. */
int tree_path(int fd, char path[PATH_MAX]);

#endif
