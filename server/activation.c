#include "server/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/setup.h"

enum { FIRST_FD = 3, FDS_MAX = 16 };

static int take(int fd, int *unix_fd, int *tcp_fd, struct err *e)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a), size = sizeof(int);
    int listening = 0;

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 || !listening ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        return err_set(e, 400, "config", "the service manager passed fd %d, which is no listening socket", fd);
    int *out = a.ss_family == AF_UNIX ? unix_fd : a.ss_family == AF_INET || a.ss_family == AF_INET6 ? tcp_fd : NULL;
    if (!out || *out >= 0)
        return err_set(e, 400, "config", "the service manager passed a socket too many, or of an unknown family");
    if (out == tcp_fd && !setup_is_loopback(&a))
        return err_set(e, 400, "config", "the service manager passed a TCP socket that is not on loopback");
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
        return err_set(e, 500, "config", "the socket that was passed: %s", strerror(errno));
    *out = fd;
    return 0;
}

int activation_take(int *unix_fd, int *tcp_fd, struct err *e)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");

    if (!pid || !fds || strtol(pid, NULL, 10) != getpid())
        return 0;
    long n = strtol(fds, NULL, 10);
    if (n < 0 || n > FDS_MAX)
        return err_set(e, 400, "config", "LISTEN_FDS is %s", fds);
    for (int fd = FIRST_FD; fd < FIRST_FD + n; fd++)
        if (take(fd, unix_fd, tcp_fd, e) < 0)
            return -1;
    return 0;
}
