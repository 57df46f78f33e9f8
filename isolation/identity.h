/* Users and groups, resolved on the host before the sandbox is entered. */
#ifndef CLOISTER_ISOLATION_IDENTITY_H
#define CLOISTER_ISOLATION_IDENTITY_H

#include <sys/types.h>

#include "isolation/policy.h"

enum { IDENTITY_GROUPS_MAX = 256 };

struct identity {
    uid_t uid;
    gid_t gid;
    gid_t groups[IDENTITY_GROUPS_MAX];
    size_t ngroups;
    char name[64];  /* passwd name, or the number */
    char home[256]; /* passwd home, or "/" */
};

/* "name", "uid" or "uid:gid" (strict decimal below 2^32-1) to ids, with supplementary groups of the account.
 * Unknown: 422 /user. In the deny list, a denied id (uid, gid or any supplementary group), or the server's own uid or
 * gid: 403 code "user_denied", pointer /user. */
int identity_resolve(const char *user, const struct policy *p, struct identity *id, struct err *e);
/* Loads the modules that nsswitch.conf(5) names: processes that are forked later have them. */
void identity_preload(void);
/* In the child: setgroups and setresgid, read back. Step "groups". The uid is set by caps_apply. */
int identity_apply_groups(const struct identity *id, struct err *e);

#endif
