/* A task's network on the host's side: the namespace it joins, the bridge, the ports. What is made here lasts until the
 * task's end, over its restarts. Four modes: host (the host's namespace), none (a new one with a loopback alone, made
 * by clone and gone with the task), group (one for all tasks that name the same group, until the last has ended), and
 * bridge (attached to a bridge by CNI plugins; with a group, once for all of it). */
#ifndef CLOISTER_ISOLATION_NETWORK_H
#define CLOISTER_ISOLATION_NETWORK_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolation/policy.h"
#include "isolation/spec.h"

enum { NET_PORTS_MAX = 32, NET_ADDRESS = 46 };

struct net_port {
    uint16_t host, task;
    uint8_t udp;
};

struct net_status { /* what was made, for the record and the API; plain data */
    uint8_t mode;   /* enum net_mode */
    uint8_t nports;
    char interface[16];
    char ip[NET_ADDRESS], gateway[NET_ADDRESS]; /* "" when there is none */
    struct net_port ports[NET_PORTS_MAX];
};

struct network { /* of one task */
    enum net_mode mode;
    char pin[PATH_MAX]; /* path of the namespace to join; "" in modes host and none */
    ino_t inode;        /* of that namespace */
    ino_t host_inode;   /* of the host's */
    int member_fd;      /* keeps it alive; -1: not joined */
    struct net_status status;
};

void network_init(struct network *n);
/* Once per launcher: the default CNI configuration in the run directory. */
int network_prepare_host(const struct policy *p, struct err *e);
/* Whether the operator allows the mode of a task with this spec: 403 code "network_mode_denied" at /network/mode. */
int network_check(const struct network_spec *s, const struct policy *p, struct err *e);
/* The mode of a task with this spec, after that check; 422 with the pointer of the field. */
int network_plan(struct network *n, const struct network_spec *s, const struct policy *p, struct err *e);
/* Makes and joins what the mode needs; what is there from an earlier run of the task stays. Step "network"; 409 code
 * "port_unavailable" for a host port in use, and "group_attached" for ports of a group that is attached already. A
 * failure leaves nothing behind. */
int network_setup(struct network *n, const struct network_spec *s, const struct policy *p, const char *id,
                  struct err *e);
/* The task has ended: leaves the namespace, and removes it if nobody else is in it. */
void network_teardown(struct network *n, const struct network_spec *s, const struct policy *p, const char *id);
/* The same for a task whose supervisor is gone. */
void network_clear(const struct policy *p, const char *id);
/* Removes what nobody is in any more; true when there was something. With probe_only it removes nothing. */
bool network_clear_stale(const struct policy *p, bool probe_only);

/* Whether two addresses to listen on exclude each other on one port; NULL is any address. */
bool network_addresses_meet(const char *a, const char *b);

/* Private to network*.c: host ports. Each is reserved by a symbolic link, <run_dir>/netns/ports/PROTOCOL-PORT-ADDRESS,
 * to the key of the namespace that has it. The caller holds the lock of the bridge. */

/* Reserves the ports of s (all or none) and fills status. 409 or step "network". */
int ports_reserve(const struct network_spec *s, const struct policy *p, const char *key, struct net_status *status,
                  struct err *e);
/* Releases all that key has; also by who alone holds the lock of its directory. */
void ports_release(const struct policy *p, const char *key);
/* The portMappings of CNI's conventions; NULL when there are none. */
struct json *ports_mappings(const struct network_spec *s, const struct net_status *status);
/* network_guard.c: one rule per bridge, which stays, drops what comes in on it for 127.0.0.0/8. Step "network". */
int network_guard_loopback(const struct json *conflist, struct err *e);

#endif
