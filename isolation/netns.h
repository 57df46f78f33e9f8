/* Network namespaces that outlive a process: a directory each, <run_dir>/netns/spaces/KEY, that holds
 *
 *   ns          the namespace, pinned by a bind mount (namespaces(7))
 *   members/ID  one for each task in it, locked (flock(2)) by its supervisor while that one lives
 *   cni.json    what its attachment to the bridge needs to be undone
 *
 * The directory itself is locked by whoever changes it. A lock ends with its process, so what a killed supervisor has
 * left is told from what is in use without a list that could be wrong. */
#ifndef CLOISTER_ISOLATION_NETNS_H
#define CLOISTER_ISOLATION_NETNS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "isolation/policy.h"

enum { NETNS_KEY = 160 };

struct netns {
    const struct policy *policy;
    char key[NETNS_KEY];
    char pin[PATH_MAX]; /* path of ns */
    int dir_fd;         /* the directory, locked */
};

/* Opens and locks the directory, making it with create. 0, or -1 with errno (ENOENT). */
int netns_open(struct netns *n, const struct policy *p, const char *key, bool create);
/* Unlocks it. */
void netns_close(struct netns *n);
#define _cleanup_netns_ __attribute__((cleanup(netns_close)))
/* Makes the namespace with its loopback up, unless it is there. 0 or -1 with errno. */
int netns_make(struct netns *n);
/* Whether pin is a namespace: it is a plain file after a reboot with a run directory on disk. */
bool netns_pinned(const struct netns *n);
/* Makes the task a member: an fd that holds the lock, or -1 with errno. */
int netns_join(struct netns *n, const char *id);
/* Removes the members whose supervisor is gone, but not the one named id, which may be NULL. How many others are left,
 * or -1 with errno. */
int netns_sweep(struct netns *n, const char *id);
/* Removes the member named id. The last of all stays one until all is undone: who finds it can go on with that. 0 or -1
 * with errno. */
int netns_leave(struct netns *n, const char *id);
/* Lets go of the namespace; with all, also removes the directory. 0 or -1 with errno. */
int netns_remove(struct netns *n, bool all);
/* Calls fn for the key of each directory. Stops at the first result that is not 0, and returns it. */
int netns_each(const struct policy *p, int (*fn)(void *arg, const char *key), void *arg);

/* In the namespace of the caller: brings the loopback up and reads that back (netdevice(7)). 0 or -1 with errno. */
int netns_loopback_up(void);

#endif
