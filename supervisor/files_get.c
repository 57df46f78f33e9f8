/* Files for reading, what they are, and directories page by page. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "supervisor/files_internal.h"

struct page { /* the first names after one, sorted */
    char **v;
    size_t n, max;
};

static void page_free(struct page *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->v[i]);
    free(p->v);
}
#define _cleanup_page_ __attribute__((cleanup(page_free)))

static void page_add(struct page *p, const char *name)
{
    size_t low = 0, high = p->n;

    if (p->n == p->max) {
        if (strcmp(name, p->v[p->n - 1]) >= 0)
            return;
        free(p->v[--p->n]);
        high = p->n;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(p->v[middle], name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    memmove(p->v + low + 1, p->v + low, (p->n - low) * sizeof(*p->v));
    p->v[low] = xstrdup(name);
    p->n++;
}

/* Bytes that are no UTF-8 as U+FFFD: JSON has no other place for them. */
static void set_text(struct json *j, const char *key, const char *text)
{
    _cleanup_buf_ struct buf b = {0};
    const char *end = text + strlen(text);

    while (text < end) {
        size_t n = utf8_sequence((const unsigned char *)text, (size_t)(end - text));

        if (n > 0)
            buf_append(&b, text, n);
        else
            buf_puts(&b, "\xef\xbf\xbd");
        text += n > 0 ? n : 1;
    }
    json_set_string(j, key, b.data ? b.data : "");
}

/* As it is written in a path of a URL (RFC 3986, 2.1). */
static void set_escaped(struct json *j, const char *key, const char *name)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    _cleanup_buf_ struct buf b = {0};

    for (; *name; name++)
        if (strchr(plain, *name))
            buf_append(&b, name, 1);
        else
            buf_printf(&b, "%%%02X", (unsigned char)*name);
    json_set_string(j, key, b.data);
}

static const char *type_of(mode_t mode)
{
    return S_ISREG(mode)    ? "file"
           : S_ISDIR(mode)  ? "directory"
           : S_ISLNK(mode)  ? "symlink"
           : S_ISFIFO(mode) ? "fifo"
           : S_ISSOCK(mode) ? "socket"
                            : "device";
}

/* NULL when it is not there. */
static struct json *entry(int dirfd, const char *name)
{
    char text[CLOCK_TEXT], target[PATH_MAX + 1];
    struct stat st;

    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return NULL;
    struct json *j = json_object();
    set_text(j, "name", name);
    if (!utf8_is_text(name, strlen(name)))
        set_escaped(j, "name_escaped", name);
    json_set_string(j, "type", type_of(st.st_mode));
    json_set_int(j, "size", st.st_size);
    snprintf(text, sizeof(text), "%04o", (unsigned)st.st_mode & 07777);
    json_set_string(j, "mode", text);
    json_set_int(j, "uid", st.st_uid);
    json_set_int(j, "gid", st.st_gid);
    clock_format((int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec, text);
    json_set_string(j, "mtime", text);
    ssize_t n = S_ISLNK(st.st_mode) ? readlinkat(dirfd, name, target, sizeof(target) - 1) : -1;
    if (n >= 0) {
        target[n] = '\0';
        set_text(j, "target", target);
    }
    return j;
}

static int answer_json(const struct files_job *job, struct json *j, struct err *e)
{
    _cleanup_free_ char *text = json_print(j);
    _cleanup_close_ int fd = memfd_sealed("files", text, strlen(text));

    json_free(j);
    if (fd < 0)
        return files_fail(e, errno);
    files_answer(job, FILES_IS_JSON, fd, false);
    return 0;
}

static void set_cursor(struct json *j, const char *name)
{
    _cleanup_buf_ struct buf b = {0};

    for (; *name; name++)
        buf_printf(&b, "%02x", (unsigned char)*name);
    json_set_string(j, "next_cursor", b.data);
}

/* Owns fd. all: else only the task's own directories. */
static int list(const struct files_job *job, int fd, bool all, struct err *e)
{
    size_t limit = job->request.limit > 0 ? job->request.limit : 1;
    _cleanup_page_ struct page p = {.v = xcalloc(limit + 2, sizeof(*p.v)), .max = limit + 1};
    DIR *d = fdopendir(fd);

    if (!d) {
        close(fd);
        return files_fail(e, errno);
    }
    errno = 0;
    for (const struct dirent *x; (x = readdir(d));)
        if (strcmp(x->d_name, ".") != 0 && strcmp(x->d_name, "..") != 0 && (all || files_is_top(x->d_name)) &&
            strcmp(x->d_name, job->request.after) > 0)
            page_add(&p, x->d_name);
    struct json *j = json_object(), *items = json_array();
    for (size_t i = 0; i < p.n && i < limit; i++) {
        struct json *one = entry(dirfd(d), p.v[i]);

        if (one) /* it may have been removed since */
            json_push(items, one);
    }
    closedir(d);
    json_set(j, "items", items);
    if (p.n > limit)
        set_cursor(j, p.v[limit - 1]);
    return answer_json(job, j, e);
}

static int tell_entry(const struct files_job *job, struct err *e)
{
    const char *rest, *name = job->request.path;
    _cleanup_close_ int top = files_top(job, &rest, e);
    _cleanup_close_ int parent = -1;

    if (top < 0)
        return -1;
    if (*rest && (parent = files_parent(job, false, &name, e)) < 0)
        return -1;
    struct json *j = entry(parent >= 0 ? parent : job->root, name);
    return j ? answer_json(job, j, e) : files_fail(e, errno);
}

/* A device must not even be opened, and a FIFO would wait for its other end: what it is is asked first. Another may
 * come into its place between; then the mount keeps devices shut, and O_NONBLOCK does not wait. */
int files_get(struct files_job *job, struct err *e)
{
    struct stat st;

    if (!job->request.path[0])
        return list(job, open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), false, e);
    if (job->request.flags & FILES_STAT)
        return tell_entry(job, e);
    _cleanup_close_ int there = files_open(job, O_PATH, e);
    if (there < 0)
        return -1;
    if (fstat(there, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
        return files_fail(e, ENXIO);
    if (S_ISREG(st.st_mode) && job->request.flags & FILES_TAR)
        return err_set(e, 409, "not_a_directory", "an archive is made of a directory");
    _cleanup_close_ int fd = files_open(job, O_RDONLY | O_NONBLOCK | O_NOCTTY, e);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
        return files_fail(e, ENXIO);
    if (S_ISREG(st.st_mode))
        return files_answer(job, FILES_IS_FILE, fd, false);
    return job->request.flags & FILES_TAR ? files_tar(job, take_fd(&fd), e) : list(job, take_fd(&fd), true, e);
}
