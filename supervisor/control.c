/* The supervisor's control socket: servers connect, get the status, and may signal and stop. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/msg.h"
#include "base/signals.h"
#include "supervisor/supervision.h"

static void client_drop(struct client *c)
{
    loop_remove(c->source);
    close(c->fd);
    c->fd = -1;
    c->source = NULL;
}

void control_broadcast(struct supervision *s)
{
    for (int i = 0; i < CLIENTS_MAX; i++)
        if (s->clients[i].fd >= 0 && msg_send(s->clients[i].fd, &s->status, sizeof(s->status), NULL, 0) < 0)
            client_drop(&s->clients[i]);
}

/* Whether pid handles or ignores signum, from SigCgt and SigIgn (proc_pid_status(5)). */
static bool signal_is_handled(pid_t pid, int signum)
{
    char path[64];
    _cleanup_free_ char *text = NULL;
    unsigned long long mask = 0;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    if (file_read(AT_FDCWD, path, 16384, &text, NULL) < 0)
        return true;
    for (const char *name = "SigIgn:"; name; name = strcmp(name, "SigIgn:") == 0 ? "SigCgt:" : NULL) {
        const char *line = strstr(text, name);
        unsigned long long set;

        if (line && sscanf(line + 7, " %llx", &set) == 1)
            mask |= set;
    }
    return (mask >> (signum - 1)) & 1;
}

static bool default_is_no_end(int signum)
{
    return signum == SIGCHLD || signum == SIGCONT || signum == SIGURG || signum == SIGWINCH || signum == SIGSTOP ||
           signum == SIGTSTP || signum == SIGTTIN || signum == SIGTTOU;
}

static int signal_one(void *arg, pid_t pid)
{
    return kill(pid, *(const int *)arg) < 0 && errno != ESRCH ? -1 : 0;
}

static int signal_all_members(struct supervision *s, int signum)
{
    if (strcmp(s->args->cgroups->mode, "none") == 0)
        return kill(s->status.pid, signum);
    return cgroup_members(s->args->cgroups, s->args->id, signal_one, &signum);
}

static void kill_task(struct supervision *s, const char *reason)
{
    s->kill_reason = reason;
    kill(s->status.pid, SIGKILL); /* our unreaped child: its pid cannot have been given away */
    cgroup_kill(s->args->cgroups, s->args->id, 0);
}

static void on_kill_timeout(void *arg, uint32_t events)
{
    struct supervision *s = arg;

    (void)events;
    s->stop_timer = NULL;
    kill_task(s, "killed after kill_timeout");
}

static void stop(struct supervision *s, const struct supervisor_request *r, struct err *e)
{
    int signum = r->signum > 0 ? r->signum : (int)s->spec.kill_signal;
    int64_t timeout = r->timeout_ms >= 0 ? r->timeout_ms : s->spec.kill_timeout_ms;
    bool is_init = s->sandbox.clone_flags & 0x20000000; /* CLONE_NEWPID: the task is pid 1 there */

    s->status.stopping = 1;
    if (timeout == 0) {
        kill_task(s, "killed");
    } else if (is_init && !default_is_no_end(signum) && !signal_is_handled(s->status.pid, signum)) {
        /* The kernel drops signals that pid 1 has no handler for (pid_namespaces(7)): waiting would be in vain. */
        kill_task(s, "killed at once: pid 1 has no handler for the stop signal");
    } else {
        if (kill(s->status.pid, signum) < 0)
            err_set(e, 500, "signal_failed", "cannot send %s: %s", signal_name(signum), strerror(errno));
        s->kill_reason = "stopped";
        loop_remove(s->stop_timer);
        s->stop_timer = loop_add_timer(s->loop, timeout, on_kill_timeout, s);
    }
}

static void handle(struct supervision *s, struct client *c, const struct supervisor_request *r)
{
    struct supervisor_reply reply = {.version = PROTOCOL_VERSION, .serial = r->serial};

    if (r->version != PROTOCOL_VERSION)
        err_set(&reply.err, 500, "protocol", "the supervisor speaks protocol %d", PROTOCOL_VERSION);
    else if (s->main_reaped)
        err_set(&reply.err, 409, "task_ended", "the task has ended");
    else if (r->op == SUP_STOP)
        stop(s, r, &reply.err);
    else if (r->op != SUP_SIGNAL)
        err_set(&reply.err, 500, "protocol", "unknown operation %u", r->op);
    else if ((r->target_all ? signal_all_members(s, r->signum) : kill(s->status.pid, r->signum)) < 0)
        err_set(&reply.err, 500, "signal_failed", "cannot send %s: %s", signal_name(r->signum), strerror(errno));
    if (msg_send(c->fd, &reply, sizeof(reply), NULL, 0) < 0) {
        client_drop(c);
        return;
    }
    if (r->op == SUP_STOP)
        control_broadcast(s);
}

static void on_client(void *arg, uint32_t events)
{
    struct client *c = arg;
    struct supervisor_request r;
    int fds[MSG_FDS_MAX];
    size_t nfds = 0;

    (void)events;
    ssize_t n = msg_recv(c->fd, &r, sizeof(r), fds, &nfds);
    for (size_t i = 0; i < nfds; i++)
        close(fds[i]);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != sizeof(r)) {
        client_drop(c);
        return;
    }
    handle(c->owner, c, &r);
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
        (who.uid != 0 && who.uid != s->args->policy->server_uid) ||
        msg_send(fd, &s->status, sizeof(s->status), NULL, 0) < 0 || client_add(s, fd) < 0)
        close(fd);
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
