#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"

enum { TREE_DEPTH_MAX = 512 };

int file_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };

    return (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
}

int file_read(int dirfd, const char *path, size_t max, char **out, size_t *len)
{
    _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    _cleanup_buf_ struct buf b = {0};
    char chunk[8192];

    if (fd < 0)
        return -1;
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        if (b.len + (size_t)n > max) {
            errno = EFBIG;
            return -1;
        }
        buf_append(&b, chunk, (size_t)n);
    }
    *out = buf_take(&b, len);
    return 0;
}

int file_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int file_write_atomic(int dirfd, const char *name, const void *data, size_t len, mode_t mode, bool durable)
{
    _cleanup_free_ char *temporary = xasprintf(".%s.tmp.%d", name, (int)getpid());
    _cleanup_close_ int dir = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);

    if (dir < 0 || fd < 0)
        return -1;
    if (fchmod(fd, mode) < 0 || file_write_all(fd, data, len) < 0 || (durable && fsync(fd) < 0) ||
        renameat(dirfd, temporary, dirfd, name) < 0) {
        int saved = errno;

        unlinkat(dirfd, temporary, 0);
        errno = saved;
        return -1;
    }
    return durable ? fsync(dir) : 0;
}

int file_write_at(int dirfd, const char *path, const char *text)
{
    _cleanup_close_ int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
    size_t len = strlen(text);

    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, len);
    if (n >= 0 && (size_t)n != len)
        errno = EIO;
    return n == (ssize_t)len ? 0 : -1;
}

int file_mkdirs(const char *path, mode_t mode)
{
    _cleanup_free_ char *copy = xstrdup(path);

    for (char *p = copy + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            if (mkdir(copy, mode) < 0 && errno != EEXIST)
                return -1;
            *p = '/';
        }
    return mkdir(copy, mode) < 0 && errno != EEXIST ? -1 : 0;
}

static int remove_below(int fd, dev_t device, int depth);

static int remove_one(int dirfd, const char *name, dev_t device, int depth)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    if (remove_below(fd, device, depth) < 0)
        return -1;
    return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -1 : 0;
}

/* Owns fd. */
static int remove_below(int fd, dev_t device, int depth)
{
    struct stat st;
    struct dirent *entry;
    int rc = 0;

    if (depth > TREE_DEPTH_MAX || fstat(fd, &st) < 0 || st.st_dev != device) {
        close(fd);
        errno = depth > TREE_DEPTH_MAX ? ELOOP : EXDEV;
        return -1;
    }
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return -1;
    }
    while (rc == 0 && (entry = readdir(d)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = remove_one(dirfd(d), entry->d_name, device, depth + 1);
    int saved = errno;
    closedir(d);
    errno = saved;
    return rc;
}

int file_remove_tree(int dirfd, const char *name)
{
    struct stat st;

    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -1;
    return remove_one(dirfd, name, st.st_dev, 0);
}
