/* The task spec as plain data, and its codec: one field table serves the HTTP body, the store and the launch. */
#ifndef CLOISTER_ISOLATION_SPEC_H
#define CLOISTER_ISOLATION_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/record.h"

enum ns_mode { NS_DEFAULT, NS_PRIVATE, NS_HOST };

enum root_mode { ROOT_OVERLAY = 1, ROOT_READONLY, ROOT_COPY };
enum propagation { PROPAGATION_PRIVATE = 1, PROPAGATION_HOST_TO_TASK, PROPAGATION_BIDIRECTIONAL };

struct volume_mount {
    char *volume;      /* name of one that the operator configured */
    char *destination; /* absolute, inside the root */
    bool read_only;
    enum propagation propagation; /* mount_namespaces(7): private, slave, shared */
};

struct io_limit { /* 0 = not set */
    char *device; /* "/dev/sda" or "8:0" */
    int64_t read_bps, write_bps, read_iops, write_iops;
};

struct io_limits {
    int64_t weight;        /* 1-10000 */
    struct records limits; /* struct io_limit */
};

struct hugetlb_limit {
    char *page_size; /* "2MB" as in the name of the control file */
    int64_t limit;   /* MiB */
};

struct rlimits { /* getrlimit(2) */
    struct rlimit_value {
        int resource;       /* RLIMIT_* */
        int64_t soft, hard; /* -1: unlimited */
    } v[16];
    size_t n;
};

enum {
    SPEC_MEMORY_MIN = 4,
    SPEC_DISK_MIN = 4,          /* MiB; less holds no file system */
    SPEC_MEMORY_MAX = 16777216, /* MiB; of a disk, too */
    SPEC_PIDS_MAX = 4194304,    /* proc_sys_kernel(5), pid_max */
};

struct resources {       /* 0 = not set */
    int64_t cpu;         /* MHz, becomes cpu.shares or cpu.weight */
    int64_t cores;       /* whole cores for this task alone */
    bool cpu_hard_limit; /* cpu (or cores) also bounds, by quota */
    int64_t memory;      /* MiB */
    int64_t memory_max;  /* MiB, -1 unlimited */
    int64_t swap;        /* MiB beyond memory, -1 unlimited; 0 none */
    int64_t pids;
    struct io_limits io;
    struct records hugetlb; /* struct hugetlb_limit */
    struct rlimits rlimits;
    int64_t disk; /* MiB for all that the task writes but its output */
};

struct log_limits {
    int64_t max_files;     /* per stream */
    int64_t max_file_size; /* MiB */
    bool disabled;
};

enum restart_mode { RESTART_FAIL = 1, RESTART_DELAY };
enum restart_condition { RESTART_ON_FAILURE = 1, RESTART_ALWAYS };
enum delay_function { DELAY_CONSTANT = 1, DELAY_EXPONENTIAL, DELAY_FIBONACCI };

struct restart_policy {     /* as Nomad's restart block; the last three as its reschedule block and Docker's policies */
    int64_t attempts;       /* within interval; 0: never */
    int64_t interval_ms;    /* default 30m */
    int64_t delay_ms;       /* default 15s, plus up to a quarter at random */
    enum restart_mode mode; /* when the attempts are used up: give up, or wait for the interval's end */
    enum restart_condition condition;
    enum delay_function delay_function;
    int64_t max_delay_ms; /* bound of a growing delay, default 1h */
};

enum net_mode { NET_DEFAULT, NET_HOST, NET_NONE, NET_GROUP, NET_BRIDGE, NET_MODES };
enum net_protocol { NET_TCP = 1, NET_UDP };

struct dns_spec { /* resolv.conf(5); what is empty is as on the host */
    struct strings servers, searches, options;
};

struct port_spec {
    int64_t host;  /* 0: one that is free */
    char *host_ip; /* NULL: any address of the host */
    int64_t task;
    enum net_protocol protocol;
};

struct network_spec {
    enum net_mode mode;
    char *group; /* tasks that name the same one share a network namespace */
    struct dns_spec dns;
    struct records ports; /* struct port_spec; host ports that lead to the task */
};

struct input_spec { /* "stdin": text, or {"open": true}; neither: /dev/null */
    char *text;
    bool open; /* a pipe, into which input comes while the task runs */
};

struct spec {
    char *command; /* the only required field */
    struct strings args;
    char *name;          /* default: the command's base name */
    struct pairs labels; /* for the caller's use */
    char *user;          /* "name" or "uid[:gid]", default nobody */
    struct pairs env;
    char *work_dir; /* absolute, inside the chroot, default "/" */
    struct input_spec input;
    enum ns_mode pid_mode, ipc_mode, userns_mode;
    char *hostname; /* default: the first 12 characters of the id */
    struct strings cap_add, cap_drop;
    bool no_new_privs;            /* default true */
    char *chroot;                 /* default "default" */
    enum root_mode root;          /* default ROOT_OVERLAY */
    struct records volume_mounts; /* of struct volume_mount */
    char *seccomp;                /* "default", "unconfined" or the name of an operator's profile */
    struct resources resources;
    int64_t oom_score_adj; /* proc(5); 0 to 1000 */
    struct log_limits logs;
    int64_t kill_signal;     /* default SIGINT, as Nomad's kill_signal */
    int64_t kill_timeout_ms; /* default 5,000 */
    int64_t timeout_ms;      /* since the first start, restarts included; 0 none */
    int64_t cpu_timeout_ms;  /* CPU time of one run; 0 none */
    int64_t ttl_ms;          /* an ended task is removed after it; 0 never */
    struct restart_policy restart;
    bool queue;       /* wait for room instead of being refused */
    int64_t priority; /* 1 to 100, default 50; higher is started first */
    struct network_spec network;
};

/* Decodes and validates by the field table; unknown fields, wrong types, out-of-range values: 422 with the pointer.
 * The caller frees *s with spec_free also after an error. */
int spec_decode(const struct json *j, struct spec *s, struct err *e);
/* The whole spec with its defaults; decoding it again gives the same spec. Caller frees. */
struct json *spec_encode(const struct spec *s);
void spec_free(struct spec *s);
#define _cleanup_spec_ __attribute__((cleanup(spec_free)))

#endif
