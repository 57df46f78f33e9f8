/* A directory as a tar archive: regular files, directories and symbolic links as such; nothing else. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "supervisor/files_internal.h"
#include "supervisor/tar.h"

enum { DEPTH_MAX = 200, OUT = 65536, NAME_FIELD = 100 };

struct writer {
    int fd;
    size_t n;
    char out[OUT];
    struct tar_entry entry; /* path: of the entry that is written */
};

static int flush(struct writer *w)
{
    size_t n = w->n;

    w->n = 0;
    return file_write_all(w->fd, w->out, n);
}

static int put(struct writer *w, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        size_t room = OUT - w->n, part = len < room ? len : room;

        memcpy(w->out + w->n, p, part);
        w->n += part;
        p += part;
        len -= part;
        if (w->n == OUT && flush(w) < 0)
            return -1;
    }
    return 0;
}

static int put_zeros(struct writer *w, uint64_t n)
{
    static const char zeros[TAR_BLOCK * 2];

    for (; n > 0; n -= n < sizeof(zeros) ? n : sizeof(zeros))
        if (put(w, zeros, n < sizeof(zeros) ? (size_t)n : sizeof(zeros)) < 0)
            return -1;
    return 0;
}

static int pad(struct writer *w, uint64_t size)
{
    return put_zeros(w, (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

/* "LENGTH KEY=VALUE\n": the length counts its own digits. */
static void record(struct buf *b, const char *key, const char *value)
{
    size_t rest = strlen(key) + strlen(value) + 3, len = rest;
    char digits[24];

    for (size_t before = 0; before != len;) {
        before = len;
        len = rest + (size_t)snprintf(digits, sizeof(digits), "%zu", before);
    }
    buf_printf(b, "%zu %s=%s\n", len, key, value);
}

static void record_number(struct buf *b, const char *key, uint64_t v)
{
    char text[24];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
    record(b, key, text);
}

/* The header, and before it a pax header with what has no room in it. */
static int put_header(struct writer *w)
{
    const struct tar_entry *e = &w->entry;
    _cleanup_buf_ struct buf b = {0};
    struct tar_header h;

    if (strlen(e->path) > NAME_FIELD)
        record(&b, "path", e->path);
    if (strlen(e->link) > NAME_FIELD)
        record(&b, "linkpath", e->link);
    if (e->size >> 33)
        record_number(&b, "size", e->size);
    if (e->uid >> 21)
        record_number(&b, "uid", e->uid);
    if (e->gid >> 21)
        record_number(&b, "gid", e->gid);
    if (b.len > 0) {
        struct tar_entry pax = {.path = "PaxHeader", .type = TAR_PAX, .mode = 0644, .size = b.len, .mtime = e->mtime};

        tar_fill(&h, &pax);
        if (put(w, &h, sizeof(h)) < 0 || put(w, b.data, b.len) < 0 || pad(w, b.len) < 0)
            return -1;
    }
    tar_fill(&h, e);
    return put(w, &h, sizeof(h));
}

/* As many bytes as the header tells: of a file that has shrunk meanwhile the rest is zeros. */
static int put_contents(struct writer *w, int fd, uint64_t size)
{
    uint64_t left = size;

    while (left > 0) {
        size_t room = OUT - w->n, want = left < room ? (size_t)left : room;
        ssize_t n = read(fd, w->out + w->n, want);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        w->n += (size_t)n;
        left -= (uint64_t)n;
        if (w->n == OUT && flush(w) < 0)
            return -1;
    }
    return put_zeros(w, left) < 0 ? -1 : pad(w, size);
}

static int open_entry(int dirfd, const char *name, int flags)
{
    return file_open_resolve(dirfd, name, flags | O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                             RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

static void describe(struct writer *w, const struct stat *st, char type)
{
    struct tar_entry *e = &w->entry;

    e->type = type;
    e->mode = st->st_mode & 0777;
    e->size = type == TAR_FILE ? (uint64_t)st->st_size : 0;
    e->uid = st->st_uid;
    e->gid = st->st_gid;
    e->mtime = st->st_mtim.tv_sec;
    e->link[0] = '\0';
}

static bool has_vanished(int errnum)
{
    return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == ENXIO;
}

static int put_file(struct writer *w, int dirfd, const char *name)
{
    struct stat st;
    _cleanup_close_ int fd = open_entry(dirfd, name, 0);

    if (fd < 0 || fstat(fd, &st) < 0)
        return has_vanished(errno) ? 0 : -1;
    if (!S_ISREG(st.st_mode))
        return 0;
    describe(w, &st, TAR_FILE);
    return put_header(w) < 0 ? -1 : put_contents(w, fd, (uint64_t)st.st_size);
}

static int put_link(struct writer *w, int dirfd, const char *name, const struct stat *st)
{
    describe(w, st, TAR_SYMLINK);
    ssize_t n = readlinkat(dirfd, name, w->entry.link, sizeof(w->entry.link) - 1);
    if (n < 0)
        return errno == EINVAL || has_vanished(errno) ? 0 : -1;
    w->entry.link[n] = '\0';
    return put_header(w);
}

static int put_below(struct writer *w, int fd, size_t len, int depth);

static int put_entry(struct writer *w, int dirfd, const char *name, size_t len, int depth)
{
    char *path = w->entry.path;
    struct stat st;

    size_t n = (size_t)snprintf(path + len, PATH_MAX - len, "%s", name);
    if (n + 1 >= PATH_MAX - len || depth > DEPTH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return has_vanished(errno) ? 0 : -1;
    if (S_ISREG(st.st_mode))
        return put_file(w, dirfd, name);
    if (S_ISLNK(st.st_mode))
        return put_link(w, dirfd, name, &st);
    if (!S_ISDIR(st.st_mode))
        return 0;
    int fd = open_entry(dirfd, name, O_DIRECTORY);
    if (fd < 0)
        return has_vanished(errno) ? 0 : -1;
    memcpy(path + len + n, "/", 2);
    describe(w, &st, TAR_DIRECTORY);
    if (put_header(w) == 0)
        return put_below(w, fd, len + n + 1, depth + 1);
    close(fd);
    return -1;
}

/* Owns fd. len: of the path of this directory, with its slash. */
static int put_below(struct writer *w, int fd, size_t len, int depth)
{
    DIR *d = fdopendir(fd);
    int rc = 0;

    if (!d) {
        close(fd);
        return -1;
    }
    for (const struct dirent *x; rc == 0 && (errno = 0, x = readdir(d));)
        if (strcmp(x->d_name, ".") != 0 && strcmp(x->d_name, "..") != 0)
            rc = put_entry(w, dirfd(d), x->d_name, len, depth);
    if (rc == 0 && errno)
        rc = -1;
    int saved = errno;
    closedir(d);
    errno = saved;
    return rc;
}

int files_tar(struct files_job *job, int dirfd, struct err *e)
{
    struct writer *w = xcalloc(1, sizeof(*w));
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return files_fail(e, errno);
    files_answer(job, FILES_IS_PIPE, ends[0], false);
    close(ends[0]);
    w->fd = ends[1];
    int rc = put_below(w, dirfd, 0, 0);
    if (rc < 0 || put_zeros(w, TAR_BLOCK * 2) < 0 || flush(w) < 0)
        rc = files_fail(e, errno);
    else /* before the end of the pipe: who sees that knows whether it is the whole archive */
        files_answer(job, FILES_IS_DONE, -1, false);
    free(w);
    return rc;
}
