#include "base/msg.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
    struct cmsghdr align;
    char space[CMSG_SPACE(sizeof(int) * MSG_FDS_MAX)];
};

int msg_send(int sock, const void *data, size_t len, const int *fds, size_t n)
{
    struct iovec iov = {.iov_base = (void *)(size_t)data, .iov_len = len};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    union control c = {0};
    ssize_t sent;

    if (n > MSG_FDS_MAX) {
        errno = EINVAL;
        return -1;
    }
    if (n > 0) {
        m.msg_control = c.space;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int) * n);
        memcpy(CMSG_DATA(h), fds, sizeof(int) * n);
    }
    do
        sent = sendmsg(sock, &m, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

ssize_t msg_recv(int sock, void *data, size_t cap, int fds[MSG_FDS_MAX], size_t *n)
{
    struct iovec iov = {.iov_base = data, .iov_len = cap};
    union control c = {0};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.space, .msg_controllen = sizeof(c.space)};
    ssize_t got;

    *n = 0;
    do
        got = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -1;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
            *n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(fds, CMSG_DATA(h), sizeof(int) * *n);
        }
    if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        for (size_t i = 0; i < *n; i++)
            close(fds[i]);
        *n = 0;
        errno = EMSGSIZE;
        return -1;
    }
    return got;
}
