#include "base/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/ids.h"

enum { CHUNK = 8 << 20, DEPTH_MAX = 200, ATTRIBUTE_MAX = 64 << 10 };

static bool is_skipped(const struct copy *c, const struct stat *st)
{
    for (size_t i = 0; i < c->nskip; i++)
        if (c->skip[i].dev == st->st_dev && c->skip[i].ino == st->st_ino)
            return true;
    return false;
}

static int step(struct copy *c)
{
    if (!c->progress || c->progress(c->arg, c) == 0)
        return 0;
    errno = ECANCELED;
    return -1;
}

static bool is_kept(const char *name)
{
    return strncmp(name, "user.", 5) == 0 || strncmp(name, "system.posix_acl_", 17) == 0;
}

static int copy_attributes(int src, int dst)
{
    _cleanup_free_ char *names = xcalloc(1, ATTRIBUTE_MAX), *value = xcalloc(1, ATTRIBUTE_MAX);
    ssize_t len = flistxattr(src, names, ATTRIBUTE_MAX);

    if (len < 0)
        return errno == ENOTSUP ? 0 : -1;
    for (const char *name = names; name < names + len; name += strlen(name) + 1) {
        if (!is_kept(name))
            continue;
        ssize_t n = fgetxattr(src, name, value, ATTRIBUTE_MAX);
        if (n < 0 && errno == ENODATA)
            continue;
        /* A target that knows no such attributes has none to keep. */
        if (n < 0 || (fsetxattr(dst, name, value, (size_t)n, 0) < 0 && errno != ENOTSUP))
            return -1;
    }
    return 0;
}

/* Owner before mode: chown(2) clears the set-id bits. An access list goes before the mode too, which is part of it. */
static int finish(const struct copy *c, int src, int dst, const struct stat *st)
{
    const struct timespec times[] = {st->st_atim, st->st_mtim};

    if (fchown(dst, ids_shift(c->id_base, st->st_uid), ids_shift(c->id_base, st->st_gid)) < 0 ||
        copy_attributes(src, dst) < 0 || fchmod(dst, st->st_mode & 07777) < 0 || futimens(dst, times) < 0)
        return -1;
    return 0;
}

/* Where copy_file_range(2) cannot: across some file systems, and in files that the kernel makes up. */
static ssize_t copy_by_hand(int src, int dst, off_t offset)
{
    _cleanup_free_ char *data = xcalloc(1, 1 << 16);
    ssize_t n = pread(src, data, 1 << 16, offset), at = 0;

    while (n > 0 && at < n) {
        ssize_t w = pwrite(dst, data + at, (size_t)(n - at), offset + at);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -1;
        at += w;
    }
    return n;
}

static int copy_range(struct copy *c, int src, int dst, off_t from, off_t to)
{
    while (from < to) {
        off_t in = from, out = from;
        size_t len = to - from > CHUNK ? CHUNK : (size_t)(to - from);
        ssize_t n = copy_file_range(src, &in, dst, &out, len, 0);

        if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS))
            n = copy_by_hand(src, dst, from);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break; /* it has become shorter */
        from += n;
        c->bytes += n;
        if (step(c) < 0)
            return -1;
    }
    return 0;
}

static int copy_data(struct copy *c, int src, int dst, off_t size)
{
    if (size > 0 && ioctl(dst, FICLONE, src) == 0) {
        c->bytes += size;
        return 0;
    }
    for (off_t at = 0; at < size;) {
        off_t data = lseek(src, at, SEEK_DATA);

        if (data < 0 && errno == ENXIO)
            break; /* a hole up to the end */
        off_t hole = data < 0 ? -1 : lseek(src, data, SEEK_HOLE);
        if (data < 0 || hole < 0) { /* no such knowledge: all is data */
            data = at;
            hole = size;
        }
        if (copy_range(c, src, dst, data, hole < size ? hole : size) < 0)
            return -1;
        at = hole;
    }
    return ftruncate(dst, size);
}

static bool has_vanished(int errnum)
{
    return errnum == ENOENT || errnum == ESTALE;
}

int copy_file(struct copy *c, int src_dir, const char *src_name, int dst_dir, const char *dst_name)
{
    struct stat st;
    _cleanup_close_ int src = openat(src_dir, src_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (src < 0 || fstat(src, &st) < 0)
        return has_vanished(errno) ? 0 : -1;
    if (!S_ISREG(st.st_mode) || is_skipped(c, &st))
        return 0;
    _cleanup_close_ int dst = openat(dst_dir, dst_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (dst < 0 || copy_data(c, src, dst, st.st_size) < 0 || finish(c, src, dst, &st) < 0)
        return -1;
    c->files++;
    return step(c);
}

static int copy_link(struct copy *c, int src_dir, int dst_dir, const char *name, const struct stat *st)
{
    const struct timespec times[] = {st->st_atim, st->st_mtim};
    char target[PATH_MAX];
    ssize_t n = readlinkat(src_dir, name, target, sizeof(target) - 1);

    if (n < 0)
        return has_vanished(errno) ? 0 : -1;
    target[n] = '\0';
    if (symlinkat(target, dst_dir, name) < 0 ||
        fchownat(dst_dir, name, ids_shift(c->id_base, st->st_uid), ids_shift(c->id_base, st->st_gid),
                 AT_SYMLINK_NOFOLLOW) < 0 ||
        utimensat(dst_dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    c->files++;
    return step(c);
}

static int copy_below(struct copy *c, int src_fd, int dst_fd, int depth);

static int copy_child_directory(struct copy *c, int src_dir, int dst_dir, const char *name, int depth)
{
    int src = file_open_resolve(src_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
                                RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);

    if (src < 0 && errno != EXDEV)
        return has_vanished(errno) || errno == ELOOP || errno == ENOTDIR ? 0 : -1;
    if (mkdirat(dst_dir, name, 0700) < 0) {
        if (src >= 0)
            close(src);
        return -1;
    }
    c->files++;
    if (src < 0) /* something is mounted there: a place for it remains */
        return fchownat(dst_dir, name, c->id_base, c->id_base, AT_SYMLINK_NOFOLLOW) < 0
                   ? -1
                   : fchmodat(dst_dir, name, 0755, 0);
    _cleanup_close_ int dst = openat(dst_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dst < 0) {
        close(src);
        return -1;
    }
    return copy_below(c, src, dst, depth);
}

static int copy_entry(struct copy *c, int src_dir, int dst_dir, const char *name, int depth)
{
    struct stat st;
    int rc = 0;

    if (fstatat(src_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return has_vanished(errno) ? 0 : -1;
    if (is_skipped(c, &st))
        return 0;
    if (S_ISREG(st.st_mode))
        rc = copy_file(c, src_dir, name, dst_dir, name);
    else if (S_ISLNK(st.st_mode))
        rc = copy_link(c, src_dir, dst_dir, name, &st);
    else if (S_ISDIR(st.st_mode))
        rc = copy_child_directory(c, src_dir, dst_dir, name, depth + 1);
    if (rc < 0 && !c->failed[0])
        snprintf(c->failed, sizeof(c->failed), "%s", name);
    return rc;
}

/* Owns src_fd. */
static int copy_below(struct copy *c, int src_fd, int dst_fd, int depth)
{
    struct stat st;
    int rc = fstat(src_fd, &st);
    DIR *d = rc == 0 ? fdopendir(src_fd) : NULL;

    if (!d) {
        close(src_fd);
        return -1;
    }
    if (depth > DEPTH_MAX) {
        errno = ENAMETOOLONG;
        rc = -1;
    }
    for (struct dirent *entry; rc == 0;) {
        errno = 0;
        entry = readdir(d);
        if (!entry) {
            rc = errno ? -1 : 0;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = copy_entry(c, src_fd, dst_fd, entry->d_name, depth);
    }
    if (rc == 0)
        rc = finish(c, src_fd, dst_fd, &st);
    int saved = errno;
    closedir(d);
    errno = saved;
    return rc;
}

int copy_directory(struct copy *c, int src_fd, int dst_fd)
{
    int own = openat(src_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return own < 0 || copy_below(c, own, dst_fd, 0) < 0 ? -1 : step(c);
}
