/* From the configuration to what the processes work with: policy and listening sockets. */
#ifndef CLOISTER_SERVER_SETUP_H
#define CLOISTER_SERVER_SETUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"
#include "isolation/policy.h"
#include "server/config.h"

#define SETUP_NO_GROUP ((gid_t)-1) /* of the socket, where we are not root and could not give it away */

/* Resolves accounts, names and ranges. Where we are not root, the server has our own ids. The policy borrows strings of
 * c and lives until the process ends. */
int setup_policy(const struct config *c, struct policy *p, gid_t *socket_gid, struct err *e);
/* What setup_policy allocated; for programs that go on after it. */
void setup_policy_free(struct policy *p);
/* What there is for tasks and what is reserved, in MiB: as configured, else the host's. */
int64_t setup_memory_mib(const struct config *c);
/* Whether the name is an account's, or a uid; otherwise the server runs as uid 64646. */
bool setup_user_known(const char *name);
/* Bound and listening, CLOEXEC, non-blocking. A stale socket file is replaced, a live one is an error. gid may use it,
 * or with SETUP_NO_GROUP our own account alone. */
int setup_unix(const char *path, gid_t gid, struct err *e);
/* "127.0.0.1:8646" or "[::1]:8646"; "none" gives fd -1. Addresses beyond loopback are refused. */
int setup_tcp(const char *listen_on, int *fd, struct err *e);
/* Whether setup_tcp could take it; nothing is opened. */
int setup_check_listen(const char *listen_on, struct err *e);
/* Of an AF_INET or AF_INET6 address: 127.0.0.0/8 or ::1. */
bool setup_is_loopback(const struct sockaddr_storage *a);

/* A client that follows a log takes up to six fds: as many as the hard limit allows. */
void setup_file_limit(void);

#endif
