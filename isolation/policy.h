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

struct chroot { /* a tree that tasks may have as their root */
    char *name;
    /* Host source -> clean path inside, ordered by the latter: a directory comes before what is mapped below it. */
    struct pairs map;
};

struct volume { /* a directory or file of the host that tasks may mount */
    char *name;
    char *path; /* absolute, on the host; without links as far as it was there when the daemon started */
    bool read_only;
    bool allow_bidirectional; /* tasks may ask for mounts that show on the host */
};

enum { LIMITS_NONE = -1 };

struct limits {                                   /* the most that one task may have; LIMITS_NONE: no bound */
    int64_t cpu, cores, memory, swap, pids, disk; /* MHz, cores, MiB, MiB, processes, MiB */
};

struct seccomp_policy;

struct policy {
    enum ns_mode pid_mode, ipc_mode; /* for tasks that do not say; private */
    enum ns_mode userns_mode;        /* the same; host */
    struct id_ranges userns_range;   /* the host's ids that private user namespaces map, userns.h */
    bool no_pivot_root;
    uint64_t allow_caps; /* bit n = capability n */
    bool ambient_all;    /* Nomad's behaviour: a non-root task's ambient set is its whole set */
    struct id_ranges denied_uids, denied_gids;
    struct strings denied_users; /* default {"root"} */
    struct limits max;
    struct chroot *chroots; /* [0] is "default" */
    size_t nchroots;
    struct volume *volumes;
    size_t nvolumes;
    char *state_dir, *run_dir;  /* absolute */
    char *cgroup_parent;        /* "cloister": name below each hierarchy's root */
    enum net_mode network_mode; /* for tasks that do not say */
    unsigned network_modes;     /* bit n = enum net_mode n is allowed */
    char *cni_path;             /* directories of CNI plugins, separated by ':' */
    char *cni_config_dir;       /* may hold cloister.conflist, which then replaces the default */
    int64_t cni_timeout_ms;     /* for each run of a plugin, which is then killed */
    char *bridge_name, *bridge_subnet;
    uid_t server_uid;               /* never a task's */
    gid_t server_gid;               /* owns what the server may read; never a task's */
    struct seccomp_policy *seccomp; /* filters by name; owned */
};

/* "0,10-15,22" to ranges; -1 when malformed, reversed or beyond 32 bits. The caller frees r->v. */
int id_ranges_parse(const char *text, struct id_ranges *r);
bool id_ranges_have(const struct id_ranges *r, uint32_t id);
/* How many slots of 65,536 ids (base/ids.h) the ranges hold: whole ones, from a multiple of that on, so that two are
 * the same or disjoint also after a change of the configuration. */
uint64_t id_ranges_slots(const struct id_ranges *r);
/* The first id of slot n; 0 when there is none. */
uint32_t id_ranges_slot(const struct id_ranges *r, uint64_t n);
/* By name; NULL when the operator configured none. */
const struct chroot *policy_chroot(const struct policy *p, const char *name);
const struct volume *policy_volume(const struct policy *p, const char *name);
/* "host", "none", "group" or "bridge"; NET_DEFAULT when it is none of these. */
enum net_mode net_mode_parse(const char *name);
const char *net_mode_name(enum net_mode mode); /* NULL for NET_DEFAULT */
/* Whether text may name a network interface (as the kernel's dev_valid_name). */
bool interface_name_valid(const char *text);
/* "ADDRESS/PREFIX" of either version, with room for hosts. */
bool subnet_valid(const char *text);

#endif
