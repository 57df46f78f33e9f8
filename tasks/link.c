/* The connections to the supervisors: one a task that has not ended. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/msg.h"
#include "supervisor/launcher.h"
#include "tasks/registry_internal.h"

struct pending {
    uint32_t serial;
    registry_done done;
    void *arg;
    struct pending *next;
};

struct link {
    struct task *task;
    int fd;
    struct loop_source *source;
    uint32_t serial;
    struct pending *pending;
    bool adopted; /* and nothing has been heard yet */
    struct exec_told *told;
};

void link_close(struct task *t, const struct err *e)
{
    struct link *k = t->link;

    if (!k)
        return;
    t->link = NULL;
    loop_remove(k->source);
    close(k->fd);
    while (k->pending) {
        struct pending *p = k->pending;

        k->pending = p->next;
        p->done(p->arg, e);
        free(p);
    }
    exec_told_free(k->told);
    free(k);
}

static void on_end(struct task *t)
{
    struct err e = {0};

    if (task_ended(t))
        err_set(&e, 409, "task_ended", "the task has ended");
    else
        err_set(&e, 503, "supervisor_gone", "the connection to the task's supervisor has ended");
    link_close(t, &e);
    if (task_ended(t))
        recover_socket(t->registry, t);
    else
        recover_link(t->registry, t);
}

static void on_reply(struct link *k, const struct supervisor_reply *r)
{
    for (struct pending **at = &k->pending; *at; at = &(*at)->next) {
        struct pending *p = *at;

        if (p->serial != r->serial)
            continue;
        *at = p->next;
        p->done(p->arg, &r->err);
        free(p);
        return;
    }
}

static void on_status(struct link *k, const struct run_status *s)
{
    struct task *t = k->task;

    /* From its first word on it tells us all; what its sessions became before is on disk. */
    if (k->adopted)
        k->told = exec_events_recover(t->registry, t, false);
    k->adopted = false;
    if (recover_apply(t, s))
        registry_commit(t->registry, t);
}

static void on_link(void *arg, uint32_t events)
{
    struct link *k = arg;
    struct task *t = k->task;
    struct supervisor_reply reply;
    struct session_status session;
    struct run_status status;
    struct message m;
    int fds[MSG_FDS_MAX];
    size_t nfds;

    (void)events;
    ssize_t n = message_recv(k->fd, &m, fds, &nfds);
    for (size_t i = 0; i < nfds; i++)
        close(fds[i]);
    /* ECONNRESET tells once that the peer left requests unread; what it sent before is still there to read. */
    if (n < 0 && (errno == EAGAIN || errno == ECONNRESET))
        return;
    if (n <= 0) {
        on_end(t);
        return;
    }
    if (message_open(m.raw, m.len, MSG_SUPERVISOR_REPLY, &reply))
        on_reply(k, &reply);
    else if (message_open(m.raw, m.len, MSG_RUN_STATUS, &status))
        on_status(k, &status);
    else if (message_open(m.raw, m.len, MSG_SESSION_STATUS, &session))
        exec_events_apply(t->registry, t, k->told, &session);
    else
        log_warn("task %s: a message of its supervisor is not understood", t->id);
}

static int attach(struct registry *r, struct task *t, int *fd)
{
    struct link *k = xcalloc(1, sizeof(*k));

    k->task = t;
    k->fd = *fd;
    k->source = loop_add_fd(r->config.loop, k->fd, EPOLLIN, on_link, k);
    if (!k->source) {
        free(k);
        return -1;
    }
    take_fd(fd);
    t->link = k;
    return 0;
}

int link_spec_memfd(const char *text)
{
    return memfd_sealed("spec", text, strlen(text));
}

int link_launch(struct registry *r, struct task *t, enum launcher_op op, const char *spec_json, struct err *e)
{
    int pair[2];
    _cleanup_close_ int spec = link_spec_memfd(spec_json);

    if (spec < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return err_set(e, 503, "no_resources", "cannot start a task: %s", strerror(errno));
    _cleanup_close_ int ours = pair[0];
    _cleanup_close_ int theirs = pair[1];
    t->registry = r;
    if (attach(r, t, &ours) < 0)
        return err_set(e, 503, "no_resources", "cannot start a task: %s", strerror(errno));
    if (launcher_ask(r, op, t->id, (int[]){spec, theirs}, 2, e) < 0) {
        link_close(t, e);
        return -1;
    }
    return 0;
}

int link_adopt(struct registry *r, struct task *t)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    task_socket_path(r->config.policy, t->id, a.sun_path, sizeof(a.sun_path));
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return -1;
    if (attach(r, t, &fd) < 0)
        return -1;
    t->link->adopted = true;
    return 0;
}

/* 0, or -1 with e when the supervisor cannot be asked. */
static int send_request(struct task *t, const struct message_head *q, const int *fds, size_t n, struct err *e)
{
    if (t->state == TASK_PENDING)
        return err_set(e, 409, "task_not_running", "the task waits for room");
    if (task_ended(t))
        return err_set(e, 409, "task_ended", "the task has ended");
    if (!t->link)
        return err_set(e, 503, "supervisor_gone", "the task's supervisor is being looked for");
    if (message_send(t->link->fd, q, fds, n) == 0)
        return 0;
    if (errno == EPIPE || errno == ECONNRESET)
        return err_set(e, 409, "task_ended", "the task has ended");
    return err_set(e, 503, "supervisor_busy", "the task's supervisor cannot be asked: %s", strerror(errno));
}

static void await_reply(struct task *t, uint32_t serial, registry_done done, void *arg)
{
    struct pending *p = xcalloc(1, sizeof(*p));

    *p = (struct pending){.serial = serial, .done = done, .arg = arg, .next = t->link->pending};
    t->link->pending = p;
}

void link_request(struct task *t, struct supervisor_request *q, int fd, registry_done done, void *arg)
{
    struct err e = {0};

    q->head = message_head(MSG_SUPERVISOR_REQUEST);
    q->serial = t->link ? ++t->link->serial : 0;
    if (send_request(t, &q->head, &fd, fd >= 0 ? 1 : 0, &e) < 0)
        done(arg, &e);
    else
        await_reply(t, q->serial, done, arg);
}

int link_send(struct task *t, struct supervisor_request *q, int fd, struct err *e)
{
    q->head = message_head(MSG_SUPERVISOR_REQUEST);
    return send_request(t, &q->head, &fd, 1, e);
}

int link_send_session(struct task *t, struct session_request *q, const int *fds, size_t n, struct err *e)
{
    q->head = message_head(MSG_SESSION_REQUEST);
    return send_request(t, &q->head, fds, n, e);
}

void link_request_session(struct task *t, struct session_request *q, registry_done done, void *arg)
{
    struct err e = {0};

    q->serial = t->link ? ++t->link->serial : 0;
    if (link_send_session(t, q, NULL, 0, &e) < 0)
        done(arg, &e);
    else
        await_reply(t, q->serial, done, arg);
}
