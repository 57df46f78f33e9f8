/* A bound on what a task can write: a file system of that size of its own. */
#ifndef CLOISTER_ISOLATION_DISK_H
#define CLOISTER_ISOLATION_DISK_H

#include "isolation/sandbox.h"

#define DISK_MOUNT "disk" /* in the task's directory */

enum disk_mode { DISK_NONE, DISK_EXT4, DISK_TMPFS };

const char *disk_mode_name(enum disk_mode m); /* "ext4", "tmpfs"; NULL for none */
/* In the supervisor, once: when the spec has resources.disk, mounts the file system on data_dir, in a mount namespace
 * of the supervisor's own: the host does not see it, and it goes with the last of supervisor and task. ext4 in a sparse
 * file of the task's directory, which lasts from run to run; a tmpfs (whose pages count as the task's memory) where
 * there are no loop devices or no mke2fs(8). Step "disk". */
int disk_open(const struct sandbox *b, enum disk_mode *mode, struct err *e);

#endif
