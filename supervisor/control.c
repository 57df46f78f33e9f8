/* The supervisor's control socket: servers connect, get the status, and may signal and stop. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/msg.h"
#include "base/signals.h"
#include "supervisor/files.h"
#include "supervisor/session.h"

static void client_drop(struct client *c)
{
    loop_remove(c->source);
    close(c->fd);
    c->fd = -1;
    c->source = NULL;
}

/* To every connected server. */
static void send_all(struct supervision *s, const struct message_head *h)
{
    for (int i = 0; i < CLIENTS_MAX; i++)
        if (s->clients[i].fd >= 0 && message_send(s->clients[i].fd, h, NULL, 0) < 0)
            client_drop(&s->clients[i]);
}

void control_broadcast(struct supervision *s)
{
    send_all(s, &s->status.head);
}

enum { FAILURES_KEPT = 128 /* as many as a new connection takes at once */ };

struct failure {
    struct session_status status;
    struct failure *next;
};

/* The last failures, oldest first: there may be no server now, or one that dies before it has written them down. */
static void keep_failure(struct supervision *s, const struct session_status *status)
{
    struct failure **at = &s->failures, *oldest = s->failures;
    size_t n = 0;

    for (; *at; at = &(*at)->next)
        n++;
    *at = xcalloc(1, sizeof(**at));
    (*at)->status = *status;
    if (n < FAILURES_KEPT)
        return;
    s->failures = oldest->next;
    free(oldest);
}

void control_tell_session(struct supervision *s, const struct session_status *status)
{
    send_all(s, &status->head);
    if (status->state == SESSION_FAILED)
        keep_failure(s, status);
}

static void tell_failures(const struct supervision *s, int fd)
{
    const struct failure *f = s->failures;

    while (f && message_send(fd, &f->status.head, NULL, 0) == 0)
        f = f->next;
}

static void signal_main(struct supervision *s, const struct supervisor_request *r, struct err *e)
{
    if (s->status.state == RUN_RESTARTING)
        err_set(e, 409, "task_not_running", "the task waits for its restart");
    else if (supervision_signal(s, r->signum, r->target_all) < 0)
        err_set(e, 500, "signal_failed", "cannot send %s: %s", signal_name(r->signum), strerror(errno));
}

/* What is asked of a task that has not ended; true when the status may have changed. */
static bool serve(struct supervision *s, const struct supervisor_request *r, int fd, struct err *e)
{
    switch (r->op) {
    case SUP_SIGNAL:
        signal_main(s, r, e);
        return false;
    case SUP_STOP:
        supervision_stop(s, r->signum, r->timeout_ms, NULL, e);
        return true;
    case SUP_RESTART:
        lifecycle_restart(s, r->timeout_ms, e);
        return true;
    case SUP_PAUSE:
    case SUP_RESUME:
        supervision_pause(s, r->op == SUP_PAUSE, e);
        return true;
    case SUP_UPDATE:
        supervision_update(s, fd, e);
        return false;
    case SUP_FILES:
        files_of_running(s, fd, e);
        return false;
    case SUP_INPUT:
        input_give(s, fd, e);
        return false;
    case SUP_INPUT_END:
        input_end(s, fd, e);
        return false;
    default:
        err_set(e, 500, "protocol", "unknown operation %u", r->op);
        return false;
    }
}

/* While the root is copied, or a start waits: who sees it ends the start. */
static bool serve_early(struct supervision *s, const struct supervisor_request *r, struct err *e)
{
    if (r->op != SUP_STOP) {
        err_set(e, 409, "task_starting", "the task has not started yet");
        return false;
    }
    s->status.stopping = 1;
    s->early_stop.signum = r->signum;
    s->early_stop.timeout_ms = r->timeout_ms;
    return true;
}

static void handle(struct supervision *s, struct client *c, const struct supervisor_request *r, int fd)
{
    struct supervisor_reply reply = {.head = message_head(MSG_SUPERVISOR_REPLY), .serial = r->serial};
    bool changed = false;

    if (s->status.state == RUN_STARTING || s->launching)
        changed = serve_early(s, r, &reply.err);
    else if (s->status.state != RUN_RUNNING && s->status.state != RUN_RESTARTING)
        err_set(&reply.err, 409, "task_ended", "the task has ended");
    else
        changed = serve(s, r, fd, &reply.err);
    if ((r->op == SUP_FILES || r->op == SUP_INPUT) && reply.err.status && fd >= 0)
        files_refuse(fd, &reply.err);
    if (changed) /* first, so that who gets the answer sees what it has brought about */
        control_broadcast(s);
    if (c->fd >= 0 && message_send(c->fd, &reply.head, NULL, 0) < 0)
        client_drop(c);
}

static void handle_session(struct client *c, const struct session_request *r, int *fds, size_t nfds)
{
    struct supervisor_reply reply = {.head = message_head(MSG_SUPERVISOR_REPLY), .serial = r->serial};

    session_handle(c->owner, r, fds, nfds, &reply.err);
    if (r->op == SESSION_SIGNAL && message_send(c->fd, &reply.head, NULL, 0) < 0)
        client_drop(c);
}

static void on_client(void *arg, uint32_t events)
{
    struct client *c = arg;
    struct supervisor_request plain;
    struct session_request session;
    struct message m;
    int fds[MSG_FDS_MAX];
    size_t nfds = 0;

    (void)events;
    ssize_t n = message_recv(c->fd, &m, fds, &nfds);
    int error = errno;
    if (message_open(m.raw, m.len, MSG_SESSION_REQUEST, &session) && memchr(session.id, 0, sizeof(session.id)))
        handle_session(c, &session, fds, nfds);
    else if (message_open(m.raw, m.len, MSG_SUPERVISOR_REQUEST, &plain))
        handle(c->owner, c, &plain, nfds > 0 ? fds[0] : -1);
    else if (n >= 0 || (error != EAGAIN && error != EINTR))
        client_drop(c);
    for (size_t i = 0; i < nfds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int client_add(struct supervision *s, int fd)
{
    for (int i = 0; i < CLIENTS_MAX; i++) {
        struct client *c = &s->clients[i];

        if (c->fd >= 0)
            continue;
        c->fd = fd;
        c->owner = s;
        c->source = loop_add_fd(s->loop, fd, EPOLLIN, on_client, c);
        if (!c->source) {
            c->fd = -1;
            return -1;
        }
        return 0;
    }
    errno = EMFILE;
    return -1;
}

static void on_listen(void *arg, uint32_t events)
{
    struct supervision *s = arg;
    struct ucred who;
    socklen_t len = sizeof(who);
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ||
        (who.uid != 0 && who.uid != s->args->policy->server_uid) || message_send(fd, &s->status.head, NULL, 0) < 0 ||
        client_add(s, fd) < 0)
        close(fd);
    else
        tell_failures(s, fd);
}

int control_init(struct supervision *s, struct err *e)
{
    for (int i = 0; i < CLIENTS_MAX; i++)
        s->clients[i].fd = -1;
    s->listen_fd = s->args->listen_fd;
    if (fcntl(s->args->server_fd, F_SETFL, O_NONBLOCK) < 0 || client_add(s, s->args->server_fd) < 0 ||
        !loop_add_fd(s->loop, s->listen_fd, EPOLLIN, on_listen, s))
        return err_step(e, "launch", errno, "cannot watch the control socket");
    return 0;
}
