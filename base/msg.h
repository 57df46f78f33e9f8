/* Messages with file descriptors over SOCK_SEQPACKET (unix(7), SCM_RIGHTS). */
#ifndef CLOISTER_BASE_MSG_H
#define CLOISTER_BASE_MSG_H

#include <stddef.h>
#include <sys/types.h>

enum { MSG_FDS_MAX = 4 };

/* Sends one message with n fds (which stay the caller's). 0, or -1 with errno. Never raises SIGPIPE. */
int msg_send(int sock, const void *data, size_t len, const int *fds, size_t n);
/* Receives one message. fds[] gets up to MSG_FDS_MAX fds (CLOEXEC, caller closes), *n their count. Returns the length,
 * 0 at end of stream, -1 with errno (EMSGSIZE when the message was larger than cap: fds are closed then). */
ssize_t msg_recv(int sock, void *data, size_t cap, int fds[MSG_FDS_MAX], size_t *n);

#endif
