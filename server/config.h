/* Configuration: one option table for the file, the command line, --help and GET /v1/config. */
#ifndef CLOISTER_SERVER_CONFIG_H
#define CLOISTER_SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

struct config_map { /* owned */
    char **key, **value;
    size_t n;
};

struct config_list { /* owned; v is NULL-terminated */
    char **v;
    size_t n;
};

struct config {
    char *state_dir, *run_dir, *socket, *listen, *socket_group, *server_user, *tokens_file, *cgroup_parent, *log_level;
    struct config_list allowed_hosts, allowed_origins;
    int64_t max_body, max_connections;
    int64_t events_max, events_max_bytes, metrics_tasks_max;
    char *default_pid_mode, *default_ipc_mode, *default_userns_mode, *userns_range, *denied_host_uids,
        *denied_host_gids, *ambient_caps;
    bool no_pivot_root, allow_seccomp_unconfined, stop_tasks_on_shutdown;
    char *default_network_mode, *cni_path, *cni_config_dir, *bridge_name, *bridge_subnet;
    struct config_list network_modes;
    int64_t cni_timeout;
    struct config_list allow_caps, user_denylist;
    struct config_map chroot_env, seccomp_profiles;
    int64_t memory_total_mb, cpu_total_compute, reserved_memory, reserved_cpu, max_tasks, max_queued;
    int64_t max_cpu, max_cores, max_memory, max_swap, max_pids, max_disk;
    int64_t gc_interval, gc_min_age, gc_max_age, gc_max_allocs, gc_disk_usage_threshold, gc_inode_usage_threshold,
        gc_parallel_destroys;
    struct json *chroot, *host_volume; /* objects: name -> block */
};

/* Fills c with defaults, then the file (NULL: /etc/cloister/cloister.conf if it exists), then the flags of argv
 * (--state-dir=X or --state-dir X). Errors name file and line, or the flag. c is freed with config_free in any case. */
int config_load(struct config *c, const char *file, int argc, char **argv, struct err *e);
void config_free(struct config *c);
void config_help(void); /* the option table on standard output */
void config_man(void);  /* the manual page on standard output, in the language of man(7) */
/* Effective values, for GET /v1/config; paths of secrets are shown, secrets are not held here. */
struct json *config_json(const struct config *c);

#endif
