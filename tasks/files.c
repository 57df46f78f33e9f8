#include "tasks/files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/msg.h"
#include "tasks/registry_internal.h"

struct files {
    int channel;
    struct loop_source *source;
    files_answered fn;
    void *arg;
};

static void on_channel(void *arg, uint32_t events)
{
    struct files *f = arg;
    struct files_reply r;
    int fds[MSG_FDS_MAX];
    size_t nfds = 0;

    (void)events;
    ssize_t n = msg_recv(f->channel, &r, sizeof(r), fds, &nfds);
    if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNRESET))
        return;
    for (size_t i = 1; i < nfds; i++)
        close(fds[i]);
    if (n != sizeof(r) || r.version != FILES_VERSION) {
        loop_remove(f->source);
        f->source = NULL;
        r = (struct files_reply){.what = FILES_IS_DONE};
        err_set(&r.err, 503, "files_unavailable", "the access to the task's files has ended without an answer");
    }
    err_terminate(&r.err);
    f->fn(f->arg, &r, nfds > 0 ? fds[0] : -1);
}

static int ask_files(struct task *t, int theirs, struct err *e)
{
    if (t->state == TASK_PENDING)
        return err_set(e, 409, "task_not_running", "the task waits for room");
    if (task_ended(t))
        return launcher_ask(t->registry, TASK_FILES, t->id, &theirs, 1, e);
    return link_send(t, &(struct supervisor_request){.op = SUP_FILES}, theirs, e);
}

static int ask_input(struct task *t, int theirs, struct err *e)
{
    return link_send(t, &(struct supervisor_request){.op = SUP_INPUT}, theirs, e);
}

/* Hands one end of a channel, on which r (when it is not NULL) waits, to ask. */
static struct files *start(struct task *t, const struct files_request *r, int (*ask)(struct task *, int, struct err *),
                           files_answered fn, void *arg, struct err *e)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        err_set(e, 503, "no_resources", "cannot ask for files: %s", strerror(errno));
        return NULL;
    }
    struct files *f = xcalloc(1, sizeof(*f));
    _cleanup_close_ int theirs = pair[1];
    *f = (struct files){.channel = pair[0], .fn = fn, .arg = arg};
    f->source = loop_add_fd(t->registry->config.loop, f->channel, EPOLLIN, on_channel, f);
    if (!f->source || (r && msg_send(f->channel, r, sizeof(*r), NULL, 0) < 0))
        err_set(e, 503, "no_resources", "cannot ask for files: %s", strerror(errno));
    else if (ask(t, theirs, e) == 0)
        return f;
    files_close(f);
    return NULL;
}

struct files *files_ask(struct task *t, const struct files_request *r, files_answered fn, void *arg, struct err *e)
{
    struct files_request request = *r;

    request.version = FILES_VERSION;
    return start(t, &request, ask_files, fn, arg, e);
}

struct files *files_ask_input(struct task *t, files_answered fn, void *arg, struct err *e)
{
    return start(t, NULL, ask_input, fn, arg, e);
}

void files_end_input(struct task *t, int fd, registry_done done, void *arg)
{
    link_request(t, &(struct supervisor_request){.op = SUP_INPUT_END}, fd, done, arg);
}

void files_commit(struct files *f)
{
    struct files_request r = {.version = FILES_VERSION, .op = FILES_COMMIT};

    msg_send(f->channel, &r, sizeof(r), NULL, 0); /* without a reader it has ended, and the channel tells so */
}

void files_close(struct files *f)
{
    if (!f)
        return;
    loop_remove(f->source);
    close(f->channel);
    free(f);
}
