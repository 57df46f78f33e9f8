/* PUT /v1/tasks/{id}/stdin: a body of any size and duration into a running task's standard input. Bytes go from the
 * socket into the task's pipe; while that is full the client is not read from. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "api/common.h"
#include "base/buf.h"
#include "tasks/files.h"

struct feed_in {
    struct request *q; /* NULL when the client has left */
    struct registry *registry;
    char task_id[ID_LEN + 1];
    struct files *asked;
    int fd; /* the pipe; -1 before and after */
    struct loop_source *source;
    bool close, has_ended; /* the end of the body is the end of the input; it has come */
    bool busy;             /* the supervisor is asked to end the input */
};

static void close_pipe(struct feed_in *f)
{
    loop_remove(f->source);
    f->source = NULL;
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static void on_end(void *arg)
{
    struct feed_in *f = arg;
    struct task *t = registry_find(f->registry, f->task_id);

    if (t)
        t->feeding = false;
    files_close(f->asked);
    close_pipe(f);
    f->q = NULL;
    if (!f->busy)
        free(f);
}

static void fail(struct feed_in *f, const char *detail)
{
    struct err e = {0};

    err_set(&e, 409, "stdin_closed", "%s", detail);
    close_pipe(f);
    reply_problem(f->q, &e);
}

static void on_room(void *arg, uint32_t events)
{
    struct feed_in *f = arg;

    (void)events;
    loop_remove(f->source);
    f->source = NULL;
    request_wake(f->q);
}

static ssize_t on_data(void *arg, const char *data, size_t len)
{
    struct feed_in *f = arg;

    if (f->fd < 0)
        return 0;
    ssize_t n = write(f->fd, data, len);
    if (n > 0)
        return n;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        fail(f, "the task has closed its standard input, or its run has ended");
    else if (!f->source && !(f->source = loop_add_fd(request_loop(f->q), f->fd, EPOLLOUT, on_room, f)))
        fail(f, "the task's standard input cannot be watched");
    return 0;
}

static void on_closed(void *arg, const struct err *e)
{
    struct feed_in *f = arg;

    f->busy = false;
    if (!f->q)
        free(f);
    else if (e->status)
        reply_problem(f->q, e);
    else
        reply_empty(f->q, 204);
}

static void finish(struct feed_in *f)
{
    struct task *t = registry_find(f->registry, f->task_id);

    if (!f->close || !t) {
        close_pipe(f);
        reply_empty(f->q, 204);
        return;
    }
    int fd = f->fd;
    f->fd = -1;
    f->busy = true;
    files_end_input(t, fd, on_closed, f); /* f may be gone then */
    close(fd);
}

static void on_last(void *arg)
{
    struct feed_in *f = arg;

    f->has_ended = true;
    if (f->fd >= 0)
        finish(f);
}

static void on_answer(void *arg, const struct files_reply *a, int fd)
{
    struct feed_in *f = arg;

    files_close(f->asked);
    f->asked = NULL;
    if (a->err.status || fd < 0) {
        reply_problem(f->q, &a->err);
        return;
    }
    f->fd = fd;
    if (f->has_ended)
        finish(f);
    else
        request_wake(f->q);
}

static int start(struct request *q, struct task *t, struct err *e)
{
    bool ends;

    if (query_bool(q, "close", &ends, e) < 0)
        return -1;
    if (!t->spec.input.open)
        return err_set(e, 409, "stdin_not_open", "the task was not given an open standard input");
    if (t->feeding)
        return err_set(e, 409, "stdin_busy", "another request writes into the task's standard input");
    struct feed_in *f = xcalloc(1, sizeof(*f));
    *f = (struct feed_in){.q = q, .registry = request_registry(q), .fd = -1, .close = ends};
    memcpy(f->task_id, t->id, sizeof(f->task_id));
    f->asked = files_ask_input(t, on_answer, f, e);
    if (!f->asked) {
        free(f);
        return -1;
    }
    t->feeding = true;
    request_on_end(q, on_end, f);
    request_receive(q, (struct receiver){.write = on_data, .end = on_last, .arg = f, .patient = true});
    return 0;
}

void stdin_write(struct request *q)
{
    struct err e = {0};
    struct task *t = request_task(q);

    if (t && start(q, t, &e) < 0)
        reply_problem(q, &e);
}
