/* The connection to the launcher. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "base/msg.h"
#include "tasks/registry_internal.h"

static void handle(struct registry *r, const struct launcher_reply *reply)
{
    struct task *t = registry_find(r, reply->id);

    if (reply->op == REMOVE_TASK)
        removal_reply(r, reply->id, &reply->err);
    else if (reply->op == CLEAN_TASK && t)
        recover_cleaned(r, t, &reply->err);
}

enum { REPLIES_AT_ONCE = 64 /* so that their changes share a commit */ };

static bool another(const struct registry *r)
{
    struct pollfd p = {.fd = r->config.launcher_fd, .events = POLLIN};

    return !r->launcher_gone && poll(&p, 1, 0) == 1;
}

static void take_reply(struct registry *r)
{
    struct launcher_reply reply;
    struct message m;
    struct err e = {0};
    int fds[MSG_FDS_MAX];
    size_t nfds;

    ssize_t n = message_recv(r->config.launcher_fd, &m, fds, &nfds);
    for (size_t i = 0; i < nfds; i++)
        close(fds[i]);
    if (message_open(m.raw, m.len, MSG_LAUNCHER_REPLY, &reply) && memchr(reply.id, 0, sizeof(reply.id))) {
        handle(r, &reply);
        return;
    }
    if (n > 0 || (n < 0 && errno != EBADF && errno != ENOTCONN)) {
        if (n > 0 || errno == EMSGSIZE)
            log_warn("a reply of the launcher is not understood");
        return;
    }
    log_error("the launcher is gone, or hears no more: ending, to be started again by it or the service manager");
    r->launcher_gone = true;
    loop_remove(r->launcher_source);
    r->launcher_source = NULL;
    err_set(&e, 503, "launcher_unavailable", "the launcher is gone");
    removal_fail_all(r, &e);
    loop_stop(r->config.loop, 1);
}

static void on_launcher(void *arg, uint32_t events)
{
    struct registry *r = arg;
    int n = REPLIES_AT_ONCE;

    (void)events;
    do
        take_reply(r);
    while (--n > 0 && another(r));
}

int launcher_watch(struct registry *r, struct err *e)
{
    r->launcher_source = loop_add_fd(r->config.loop, r->config.launcher_fd, EPOLLIN, on_launcher, r);
    return r->launcher_source ? 0 : err_set(e, 500, "loop", "cannot watch the launcher: %s", strerror(errno));
}

int launcher_ask(struct registry *r, enum launcher_op op, const char *id, const int *fds, size_t n, struct err *e)
{
    struct launcher_request q = {.head = message_head(MSG_LAUNCHER_REQUEST), .op = op};

    memcpy(q.id, id, sizeof(q.id));
    if (r->launcher_gone || message_send(r->config.launcher_fd, &q.head, fds, n) < 0)
        return err_set(e, 503, "launcher_unavailable", "the launcher cannot be asked: %s",
                       r->launcher_gone ? "it is gone" : strerror(errno));
    return 0;
}

void registry_alive(struct registry *r)
{
    struct launcher_request q = {.head = message_head(MSG_LAUNCHER_REQUEST), .op = SERVER_ALIVE};

    if (!r->launcher_gone)
        message_send(r->config.launcher_fd, &q.head, NULL, 0);
}
