/* A bound on what a task can write: a file system of that size of its own. */
#ifndef CLOISTER_ISOLATION_DISK_H
#define CLOISTER_ISOLATION_DISK_H

#include "isolation/sandbox.h"

#define DISK_IMAGE "disk.img" /* in the task's directory */
#define DISK_MOUNT "disk"     /* in the task's directory */

enum disk_mode { DISK_NONE, DISK_EXT4, DISK_TMPFS };

const char *disk_mode_name(enum disk_mode m); /* "ext4", "tmpfs"; NULL for none */

struct disk { /* of one task, over all its runs */
    enum disk_mode mode;
    int ns_fd, root_fd;           /* the mount namespace in which it is mounted, and its root; -1 */
    int home_ns_fd, home_root_fd; /* the supervisor's own, while it is away from them; else -1 */
};

#define DISK_INIT                                                                                                      \
    {                                                                                                                  \
        .ns_fd = -1, .root_fd = -1, .home_ns_fd = -1, .home_root_fd = -1                                               \
    }

/* In the supervisor, when the spec has resources.disk: goes into a mount namespace that has the file system on
 * data_dir, and is made the first time: the host does not see it, and it goes with the last of supervisor and task.
 * ext4 in a sparse file of the task's directory, which lasts from run to run; a tmpfs (whose pages count as the task's
 * memory) where there are no loop devices or no mke2fs(8). The task is to be forked from in there. Step "disk". */
int disk_enter(struct disk *d, const struct sandbox *b, struct err *e);
/* In a process of its own: a mount namespace that has the ext4 image of an ended task, whose directory is task_dir, on
 * its mount point, to be read only. 409 "disk_in_use" while the file system is mounted elsewhere: each mount holds a
 * lock on the image (flock(2)) that lasts as long as its loop device. Step "disk". */
int disk_look(const char *task_dir, struct err *e);
/* Back to where disk_enter was called. Nothing when it was not. */
int disk_leave(struct disk *d, struct err *e);

#endif
