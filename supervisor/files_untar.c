/* A tar archive unpacked in a directory: regular files, directories and symbolic links, which are made and never
 * followed. Owners and set-id bits are not taken over. What an archive that fails has made stays. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "supervisor/files_internal.h"
#include "supervisor/tar.h"

enum { PAX_MAX = 65536, CHUNK = 65536 };

struct reader {
    struct files_job *job;
    int fd, dir;
    struct tar_entry entry;
    char chunk[CHUNK];
};

static int bad(struct err *e, const char *what)
{
    return err_set(e, 422, "bad_archive", "%s", what);
}

/* 1, 0 at the end of the stream (which must be here when `end` is given), -1 with e. */
static int get(struct reader *r, void *data, size_t len, bool at_end, struct err *e)
{
    char *p = data;
    size_t got = 0;

    while (got < len) {
        ssize_t n = read(r->fd, p + got, len - got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return files_fail(e, errno);
        if (n == 0)
            return at_end && got == 0 ? 0 : bad(e, "the archive is cut short");
        got += (size_t)n;
    }
    return 1;
}

static uint64_t padding(uint64_t size)
{
    return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}

static int skip(struct reader *r, uint64_t len, struct err *e)
{
    for (size_t n; len > 0; len -= n) {
        n = len < CHUNK ? (size_t)len : CHUNK;
        if (get(r, r->chunk, n, false, e) < 0)
            return -1;
    }
    return 0;
}

/* Without "./" before it and slashes after it; NULL for what leads elsewhere. */
static char *clean(char *path)
{
    size_t len = strlen(path);

    while (path[0] == '.' && path[1] == '/')
        path += 2 + strspn(path + 2, "/");
    if (path[0] == '/')
        return NULL;
    len = strlen(path);
    while (len > 0 && path[len - 1] == '/')
        path[--len] = '\0';
    return strcmp(path, ".") == 0 ? path + 1 : path;
}

/* What is there gives way, unless it is a directory. */
static int make_room(int dir, const char *name)
{
    return unlinkat(dir, name, 0) < 0 && errno != ENOENT ? -1 : 0;
}

static int finish(struct reader *r, int fd)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = r->entry.mtime}};

    return fchown(fd, r->job->uid, r->job->gid) < 0 || fchmod(fd, r->entry.mode & 0777) < 0 || futimens(fd, times) < 0
               ? -1
               : 0;
}

static int write_file(struct reader *r, int fd, struct err *e)
{
    size_t n;

    for (uint64_t left = r->entry.size; left > 0; left -= n) {
        n = left < CHUNK ? (size_t)left : CHUNK;
        if (get(r, r->chunk, n, false, e) < 0)
            return -1;
        for (size_t at = 0; at < n;) {
            ssize_t w = write(fd, r->chunk + at, n - at);

            if (w < 0 && errno != EINTR)
                return files_fail(e, errno);
            at += w > 0 ? (size_t)w : 0;
        }
    }
    return finish(r, fd) < 0 ? files_fail(e, errno) : skip(r, padding(r->entry.size), e);
}

static int make_file(struct reader *r, int dir, const char *name, struct err *e)
{
    if (make_room(dir, name) < 0)
        return files_fail(e, errno);
    _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return files_fail(e, errno);
    if (write_file(r, fd, e) == 0)
        return 0;
    unlinkat(dir, name, 0);
    return -1;
}

static int make_directory(struct reader *r, int dir, const char *name, struct err *e)
{
    if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
        return files_fail(e, errno);
    _cleanup_close_ int path_fd = files_directory(r->job, dir, name, false, e);
    if (path_fd < 0)
        return -1;
    _cleanup_close_ int fd = openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || finish(r, fd) < 0 ? files_fail(e, errno) : 0;
}

static int make_link(struct reader *r, int dir, const char *name, struct err *e)
{
    if (make_room(dir, name) < 0 || symlinkat(r->entry.link, dir, name) < 0 ||
        fchownat(dir, name, r->job->uid, r->job->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return files_fail(e, errno);
    return 0;
}

static int unpack(struct reader *r, struct err *e)
{
    char *path = clean(r->entry.path);

    if (!path)
        return bad(e, "an entry has an absolute path");
    if (!*path)
        return r->entry.type == TAR_DIRECTORY ? 0 : bad(e, "an entry has no name");
    char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strlen(name) >= FILES_NAME)
        return bad(e, "an entry's path leads elsewhere");
    if (slash)
        *slash = '\0';
    _cleanup_close_ int dir = files_directory(r->job, r->dir, slash ? path : "", true, e);
    if (dir < 0)
        return -1;
    if (r->entry.type == TAR_DIRECTORY)
        return make_directory(r, dir, name, e);
    return r->entry.type == TAR_SYMLINK ? make_link(r, dir, name, e) : make_file(r, dir, name, e);
}

/* The data of a pax header, or of GNU's long names, up to what PATH_MAX needs. Caller frees. */
static char *read_text(struct reader *r, struct err *e)
{
    uint64_t size = r->entry.size;

    if (size > PAX_MAX) {
        bad(e, "an extended header is too long");
        return NULL;
    }
    _cleanup_free_ char *text = xcalloc((size_t)size + 1, 1);
    if ((size > 0 && get(r, text, (size_t)size, false, e) < 0) || skip(r, padding(size), e) < 0)
        return NULL;
    char *taken = text;
    text = NULL;
    return taken;
}

struct extension { /* what headers before an entry say of it */
    struct tar_entry over;
    bool has_size, has_mtime;
};

static void take_over(struct tar_entry *e, const struct extension *x)
{
    if (x->over.path[0])
        memcpy(e->path, x->over.path, sizeof(e->path));
    if (x->over.link[0])
        memcpy(e->link, x->over.link, sizeof(e->link));
    if (x->has_size)
        e->size = x->over.size;
    if (x->over.mtime)
        e->mtime = x->over.mtime;
}

/* An extended header of type t; false when t is none. */
static int extend(struct reader *r, struct extension *x, struct err *e)
{
    char t = r->entry.type;
    _cleanup_free_ char *text = read_text(r, e);

    if (!text)
        return -1;
    size_t len = strlen(text);
    if (t == TAR_PAX && tar_parse_pax(text, (size_t)r->entry.size, &x->over, &x->has_size) < 0)
        return bad(e, "an extended header is malformed");
    if ((t == 'L' || t == 'K') && len >= PATH_MAX)
        return bad(e, "a name is too long");
    if (t == 'L')
        memcpy(x->over.path, text, len + 1);
    if (t == 'K')
        memcpy(x->over.link, text, len + 1);
    return 0;
}

static bool is_end(const struct tar_header *h)
{
    static const struct tar_header zeros;

    return memcmp(h, &zeros, sizeof(*h)) == 0;
}

static int unpack_all(struct reader *r, struct err *e)
{
    struct extension *x = xcalloc(1, sizeof(*x));
    struct tar_header h;
    int rc;

    while ((rc = get(r, &h, sizeof(h), true, e)) > 0 && !is_end(&h)) {
        char t;

        if (!tar_parse(&h, &r->entry)) {
            rc = bad(e, "it is no tar archive, or damaged");
            break;
        }
        t = r->entry.type;
        if (t == TAR_PAX || t == TAR_PAX_GLOBAL || t == 'L' || t == 'K') {
            rc = extend(r, x, e);
        } else {
            take_over(&r->entry, x);
            *x = (struct extension){0};
            rc = t == TAR_FILE || t == TAR_DIRECTORY || t == TAR_SYMLINK
                     ? unpack(r, e)
                     : bad(e, "an entry is neither a file nor a directory nor a symbolic link");
        }
        if (rc < 0)
            break;
    }
    free(x);
    return rc < 0 ? -1 : 0;
}

int files_untar(struct files_job *job, struct err *e)
{
    struct reader *r = xcalloc(1, sizeof(*r));
    const char *rest;
    int ends[2];
    _cleanup_close_ int top = files_top(job, &rest, e);

    r->job = job;
    r->dir = top < 0 ? -1 : files_directory(job, top, rest, job->request.flags & FILES_MKDIRS, e);
    if (r->dir < 0)
        return -1;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return files_fail(e, errno);
    files_answer(job, FILES_IS_PIPE, ends[1], false);
    close(ends[1]);
    r->fd = ends[0];
    int rc = unpack_all(r, e);
    while (rc == 0 && read(r->fd, r->chunk, CHUNK) > 0) /* what pads the archive */
        ;
    if (rc == 0)
        files_answer(job, FILES_IS_DONE, -1, false);
    close(r->fd);
    free(r);
    return rc;
}
