/* GET /v1/tasks/{id}/files/{path...}: a file's contents, what a name is, a directory's entries, or an archive of it. */
#include "api/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"

enum { JSON_MAX = 64 << 20, PAGE = 100, PAGE_MAX = 1000 };

struct reading {
    struct request *q;
    struct files *files;
    int fd; /* the file, or the archive's pipe */
    uint64_t at, end;
    struct loop_source *source;
    bool streaming, done, failed; /* of an archive: what its writer has told */
};

int files_path(const struct request *q, struct files_request *r, struct err *e)
{
    const char *path = request_param(q, 1);
    size_t len = path ? strlen(path) : 0;

    if (len >= sizeof(r->path))
        return err_set(e, 404, "file_not_found", "the path is longer than any that there is");
    if (path)
        memcpy(r->path, path, len + 1);
    return 0;
}

int files_format(const struct request *q, bool *tar, struct err *e)
{
    const char *format = request_query(q, "format", 0);

    *tar = format && strcmp(format, "tar") == 0;
    return !format || *tar ? 0 : bad_parameter(e, "format", format);
}

static void on_end(void *arg)
{
    struct reading *r = arg;

    loop_remove(r->source);
    files_close(r->files);
    if (r->fd >= 0)
        close(r->fd);
    free(r);
}

static ssize_t read_file(void *arg, char *out, size_t cap)
{
    struct reading *r = arg;
    uint64_t left = r->end - r->at;
    ssize_t n;

    if (left == 0)
        return -1;
    do
        n = pread(r->fd, out, left < cap ? (size_t)left : cap, (off_t)r->at);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return -2; /* it has shrunk */
    r->at += (uint64_t)n;
    return n;
}

static void on_ready(void *arg, uint32_t events)
{
    struct reading *r = arg;

    (void)events;
    loop_remove(r->source);
    r->source = NULL;
    request_wake(r->q);
}

/* An archive without the writer's word that it is whole is cut off, so that its reader knows. */
static ssize_t read_pipe(void *arg, char *out, size_t cap)
{
    struct reading *r = arg;
    ssize_t n = read(r->fd, out, cap);

    if (n > 0)
        return n;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (!r->source)
            r->source = loop_add_fd(request_loop(r->q), r->fd, EPOLLIN, on_ready, r);
        return r->source ? 0 : -2;
    }
    return n < 0 || r->failed ? -2 : r->done ? -1 : 0;
}

static void reply_file(struct reading *r)
{
    const char *type;
    int status;

    if (!file_reply_begins(r->q, r->fd, &status, &type, &r->at, &r->end))
        return;
    if (r->end == r->at) {
        reply_data(r->q, status, type, xcalloc(1, 1), 0);
        return;
    }
    reply_length(r->q, r->end - r->at);
    reply_stream(r->q, status, type, (struct stream){.read = read_file, .arg = r});
}

static void reply_listing(struct reading *r)
{
    char *text = NULL;
    struct err e = {0};
    size_t len = 0;

    if (file_read_fd(r->fd, JSON_MAX, &text, &len) == 0) {
        reply_data(r->q, 200, "application/json", text, len);
        return;
    }
    err_set(&e, 500, "file_failed", "the list of files cannot be read");
    reply_problem(r->q, &e);
}

static void on_answer(void *arg, const struct files_reply *a, int fd)
{
    struct reading *r = arg;

    if (r->streaming || a->err.status || fd < 0) {
        if (fd >= 0)
            close(fd);
        r->failed = r->failed || (a->err.status && !r->done);
        r->done = r->done || !a->err.status;
        if (r->streaming)
            request_wake(r->q);
        else
            reply_problem(r->q, &a->err);
        return;
    }
    r->fd = fd;
    r->streaming = true;
    if (a->what == FILES_IS_FILE) {
        reply_file(r);
    } else if (a->what == FILES_IS_JSON) {
        reply_listing(r);
    } else {
        fcntl(fd, F_SETFL, O_NONBLOCK);
        reply_stream(r->q, 200, "application/x-tar", (struct stream){.read = read_pipe, .arg = r});
    }
}

static int read_query(struct request *q, struct files_request *r, struct err *e)
{
    const char *cursor = request_query(q, "cursor", 0);
    int64_t limit = PAGE;
    bool stat, tar;

    if (query_bool(q, "stat", &stat, e) < 0 || files_format(q, &tar, e) < 0 ||
        query_int(q, "limit", 1, PAGE_MAX, &limit, e) < 0 || files_path(q, r, e) < 0)
        return -1;
    if (stat && !r->path[0])
        return err_set(e, 400, "invalid_parameter", "the query parameter stat needs a path");
    if (tar && !r->path[0])
        return err_set(e, 400, "invalid_parameter", "an archive is made of one directory: local, alloc or tmp");
    size_t n = cursor ? strlen(cursor) : 0;
    if (n % 2 || n / 2 >= sizeof(r->after) || (cursor && strspn(cursor, "0123456789abcdef") != n))
        return bad_parameter(e, "cursor", cursor);
    for (size_t i = 0; i < n / 2; i++)
        r->after[i] = (char)strtoul((char[]){cursor[2 * i], cursor[2 * i + 1], '\0'}, NULL, 16);
    r->op = FILES_GET;
    r->limit = (uint32_t)limit;
    r->flags = (stat ? FILES_STAT : 0U) | (tar ? FILES_TAR : 0U);
    return 0;
}

void files_read(struct request *q)
{
    struct files_request r = {0};
    struct err e = {0};
    struct task *t = request_task(q);

    if (!t)
        return;
    struct reading *x = xcalloc(1, sizeof(*x));
    *x = (struct reading){.q = q, .fd = -1};
    if (read_query(q, &r, &e) < 0 || !(x->files = files_ask(t, &r, on_answer, x, &e))) {
        free(x);
        reply_problem(q, &e);
        return;
    }
    request_on_end(q, on_end, x);
}
