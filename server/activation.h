/* Listening sockets from the service manager (sd_listen_fds(3)). */
#ifndef CLOISTER_SERVER_ACTIVATION_H
#define CLOISTER_SERVER_ACTIVATION_H

#include "base/err.h"

/* Takes over what was passed: *unix_fd and *tcp_fd get a listening stream socket each, close-on-exec and non-blocking,
 * or stay as they are. TCP must be loopback. -1 with e when something else was passed, or two of a kind. */
int activation_take(int *unix_fd, int *tcp_fd, struct err *e);

#endif
