/* User namespaces (user_namespaces(7)): each task that has one holds a range of 65,536 ids of the host, a slot, that no
 * other task has.
 *
 * A slot is taken by a link <run_dir>/userns/<first id> that names the task, and is free when there is none. It is made
 * at once or not at all; it goes when the task's processes are gone: by the supervisor at the end, or by the launcher
 * after it has killed what a dead supervisor left. */
#ifndef CLOISTER_ISOLATION_USERNS_H
#define CLOISTER_ISOLATION_USERNS_H

#include <stdbool.h>

#include "isolation/identity.h"

struct userns {
    uint32_t base; /* the host's id of the task's 0; never 0 while it is held */
    int fd;        /* the namespace, which lives as long as this; -1 */
};

#define USERNS_INIT                                                                                                    \
    {                                                                                                                  \
        .fd = -1                                                                                                       \
    }

/* Whether the task is to have one of its own. */
bool userns_wanted(const struct spec *s, const struct policy *p);
/* Ids that a namespace has: 422 /user when one of who's is beyond. */
int userns_check(const struct identity *who, struct err *e);

/* On the host: takes a slot for the task and makes its namespace, with the maps read back; kept from run to run. Step
 * "userns": 422 /userns_mode where the host makes none, 503 "userns_full" when all slots are taken. */
int userns_setup(struct userns *u, const struct policy *p, const char *id, struct err *e);
/* When no process of the task is left: gives the slot back. Nothing when there is none. */
void userns_teardown(struct userns *u, const struct policy *p);
/* The same for a task whose supervisor is gone. 0 or -1 with errno. */
int userns_clear(const struct policy *p, const char *id);
/* Calls fn for each task that holds a slot. */
void userns_each(const struct policy *p, void (*fn)(void *arg, const char *id), void *arg);
/* A namespace without a slot, for probing the host: fd or -1 with errno. */
int userns_make(uint32_t base);

/* The identity with the host's ids for its own. */
void userns_shift(const struct userns *u, struct identity *who);
/* Shows the detached tree (open_tree(2)) as the namespace owns it: id 0 on the disk is the task's 0, as
 * MOUNT_ATTR_IDMAP of mount_setattr(2), on the top mount or all. Read back. 0, or -1 with errno: ENOSYS or EINVAL
 * where the kernel or a file system cannot. */
int userns_map_tree(const struct userns *u, int tree_fd, bool recursive);

#endif
