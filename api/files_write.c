/* PUT and DELETE /v1/tasks/{id}/files/{path...}. A body goes straight into the file (or into the process that unpacks
 * the archive): none of it is held here. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "api/files.h"
#include "base/buf.h"

struct writing {
    struct request *q;
    struct files *files;
    int fd; /* the new file, or the pipe of an archive; -1 before and after */
    struct loop_source *source;
    bool has_begun, has_ended; /* an fd has come; the body is over */
    bool failed;               /* the pipe has no reader: its answer tells why */
};

static void on_end(void *arg)
{
    struct writing *w = arg;

    loop_remove(w->source);
    files_close(w->files);
    if (w->fd >= 0)
        close(w->fd);
    free(w);
}

static void on_room(void *arg, uint32_t events)
{
    struct writing *w = arg;

    (void)events;
    loop_remove(w->source);
    w->source = NULL;
    request_wake(w->q);
}

static void fail(struct writing *w, int errnum)
{
    struct err e = {0};

    if (errnum == ENOSPC || errnum == EDQUOT)
        err_set(&e, 507, "no_space", "there is no room on the disk");
    else if (errnum == EFBIG)
        err_set(&e, 413, "file_too_large", "the file system takes no file of this size");
    else
        err_set(&e, 500, "file_failed", "the file cannot be written: %s", strerror(errnum));
    reply_problem(w->q, &e);
}

static ssize_t on_data(void *arg, const char *data, size_t len)
{
    struct writing *w = arg;

    if (w->failed)
        return (ssize_t)len; /* dropped */
    if (w->fd < 0)
        return 0;
    ssize_t n = write(w->fd, data, len);
    if (n >= 0 || errno == EINTR)
        return n > 0 ? n : 0;
    if (errno == EAGAIN) {
        if (!w->source)
            w->source = loop_add_fd(request_loop(w->q), w->fd, EPOLLOUT, on_room, w);
    } else if (errno == EPIPE) {
        w->failed = true;
        return (ssize_t)len;
    } else {
        fail(w, errno);
    }
    return 0;
}

static void finish(struct writing *w)
{
    loop_remove(w->source);
    w->source = NULL;
    close(w->fd); /* of a pipe: the end of the archive */
    w->fd = -1;
    files_commit(w->files);
}

static void on_last(void *arg)
{
    struct writing *w = arg;

    w->has_ended = true;
    if (w->fd >= 0)
        finish(w);
}

static void on_answer(void *arg, const struct files_reply *a, int fd)
{
    struct writing *w = arg;

    if (a->err.status || fd < 0 || w->has_begun) {
        if (fd >= 0)
            close(fd);
        if (a->err.status)
            reply_problem(w->q, &a->err);
        else
            reply_empty(w->q, a->created ? 201 : 204);
        return;
    }
    w->has_begun = true;
    w->fd = fd;
    if (a->what == FILES_IS_PIPE)
        fcntl(fd, F_SETFL, O_NONBLOCK);
    if (w->has_ended)
        finish(w);
    else
        request_wake(w->q);
}

static int query_mode(const struct request *q, uint32_t *mode, struct err *e)
{
    const char *text = request_query(q, "mode", 0);

    *mode = 0644;
    if (!text)
        return 0;
    size_t n = strlen(text);
    if (n == 0 || n > 4 || strspn(text, "01234567") != n || strtoul(text, NULL, 8) > 0777)
        return bad_parameter(e, "mode", text);
    *mode = (uint32_t)strtoul(text, NULL, 8);
    return 0;
}

/* Asks for what r tells; the answer is the reply's. NULL after a reply. */
static struct writing *begin(struct request *q, struct task *t, const struct files_request *r)
{
    struct err e = {0};
    struct writing *w = xcalloc(1, sizeof(*w));

    *w = (struct writing){.q = q, .fd = -1};
    w->files = files_ask(t, r, on_answer, w, &e);
    if (w->files) {
        request_on_end(q, on_end, w);
        return w;
    }
    free(w);
    reply_problem(q, &e);
    return NULL;
}

/* Nothing is written or removed on a condition, or in part: who asks for that must not get the whole without it
 * (RFC 9110, 13.2.1 and 14.4). */
static int unconditional(const struct request *q, struct err *e)
{
    static const char *const headers[] = {"If-Match", "If-None-Match", "If-Unmodified-Since", "Content-Range"};

    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        if (request_header(q, headers[i]))
            return err_set(e, 400, "unsupported_header", "files are not written or removed with %s", headers[i]);
    return 0;
}

void files_write(struct request *q)
{
    struct files_request r = {0};
    struct err e = {0};
    bool mkdirs, tar;
    struct task *t = request_task(q);

    if (!t)
        return;
    if (unconditional(q, &e) < 0 || query_bool(q, "mkdirs", &mkdirs, &e) < 0 || files_format(q, &tar, &e) < 0 ||
        query_mode(q, &r.mode, &e) < 0 || files_path(q, &r, &e) < 0) {
        reply_problem(q, &e);
        return;
    }
    r.op = tar ? FILES_UNTAR : FILES_PUT;
    r.flags = mkdirs ? FILES_MKDIRS : 0;
    struct writing *w = begin(q, t, &r);
    if (w)
        request_receive(q, (struct receiver){.write = on_data, .end = on_last, .arg = w});
}

void files_remove(struct request *q)
{
    struct files_request r = {.op = FILES_DELETE};
    struct err e = {0};
    bool recursive;
    struct task *t = request_task(q);

    if (!t)
        return;
    if (unconditional(q, &e) < 0 || query_bool(q, "recursive", &recursive, &e) < 0 || files_path(q, &r, &e) < 0) {
        reply_problem(q, &e);
        return;
    }
    r.flags = recursive ? FILES_RECURSIVE : 0;
    begin(q, t, &r);
}
