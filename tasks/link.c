/* The connections to the supervisors: one a task that has not ended. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
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
};

union message { /* told apart by size */
    struct run_status status;
    struct supervisor_reply reply;
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
    free(k);
}

static void on_end(struct task *t)
{
    struct err e = {0};

    err_set(&e, 409, "task_ended", "the task has ended");
    link_close(t, &e);
    if (!task_ended(t))
        recover_dead(t->registry, t);
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

static void on_link(void *arg, uint32_t events)
{
    struct link *k = arg;
    struct task *t = k->task;
    union message m;
    int fds[MSG_FDS_MAX];
    size_t nfds;

    (void)events;
    ssize_t n = msg_recv(k->fd, &m, sizeof(m), fds, &nfds);
    for (size_t i = 0; i < nfds; i++)
        close(fds[i]);
    /* ECONNRESET tells once that the peer left requests unread; what it sent before is still there to read. */
    if (n < 0 && (errno == EAGAIN || errno == ECONNRESET))
        return;
    if (n <= 0) {
        on_end(t);
        return;
    }
    if (n == sizeof(m.reply) && m.reply.version == PROTOCOL_VERSION) {
        on_reply(k, &m.reply);
        return;
    }
    if (n != sizeof(m.status) || m.status.version != PROTOCOL_VERSION) {
        log_warn("task %s: a message of its supervisor is not understood", t->id);
        return;
    }
    if (recover_apply(t, &m.status))
        registry_commit(t->registry, t);
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
    _cleanup_close_ int fd = memfd_create("spec", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || file_write_all(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -1;
    return take_fd(&fd);
}

int link_launch(struct registry *r, struct task *t, const char *spec_json, struct err *e)
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
    if (launcher_ask(r, LAUNCH_TASK, t->id, (int[]){spec, theirs}, 2, e) < 0) {
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
    return attach(r, t, &fd);
}

void link_request(struct task *t, struct supervisor_request *q, int fd, registry_done done, void *arg)
{
    struct err e = {0};

    if (task_ended(t) || !t->link) {
        if (t->state == TASK_PENDING)
            err_set(&e, 409, "task_not_running", "the task waits for room");
        else
            err_set(&e, 409, "task_ended", "the task has ended");
        done(arg, &e);
        return;
    }
    q->version = PROTOCOL_VERSION;
    q->serial = ++t->link->serial;
    if (msg_send(t->link->fd, q, sizeof(*q), &fd, fd >= 0 ? 1 : 0) < 0) {
        if (errno == EPIPE || errno == ECONNRESET)
            err_set(&e, 409, "task_ended", "the task has ended");
        else
            err_set(&e, 503, "supervisor_busy", "the task's supervisor cannot be asked: %s", strerror(errno));
        done(arg, &e);
        return;
    }
    struct pending *p = xcalloc(1, sizeof(*p));
    *p = (struct pending){.serial = q->serial, .done = done, .arg = arg, .next = t->link->pending};
    t->link->pending = p;
}
