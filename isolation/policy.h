/* What the operator allows. Filled from the configuration, read by the launcher's side only. */
#ifndef CLOISTER_ISOLATION_POLICY_H
#define CLOISTER_ISOLATION_POLICY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolation/spec.h"

struct id_range {
    uint32_t low, high; /* inclusive */
};

struct id_ranges {
    struct id_range *v;
    size_t n;
};

struct policy {
    enum ns_mode pid_mode, ipc_mode; /* for tasks that do not say; private */
    bool no_pivot_root;
    uint64_t allow_caps; /* bit n = capability n */
    bool ambient_all;    /* Nomad's behaviour: a non-root task's ambient set is its whole set */
    struct id_ranges denied_uids, denied_gids;
    struct strings denied_users; /* default {"root"} */
    struct pairs chroot;         /* host source -> path inside; in order */
    char *state_dir, *run_dir;   /* absolute */
    char *cgroup_parent;         /* "cloister": name below each hierarchy's root */
    uid_t server_uid;            /* never a task's */
    gid_t server_gid;            /* owns what the server may read; never a task's */
};

/* "0,10-15,22" to ranges; -1 when malformed, reversed or beyond 32 bits. The caller frees r->v. */
int id_ranges_parse(const char *text, struct id_ranges *r);
bool id_ranges_have(const struct id_ranges *r, uint32_t id);

#endif
