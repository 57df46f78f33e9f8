#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"

enum { TREE_DEPTH_MAX = 64 /* fds open at once while a tree is removed */, OPEN_TRIES = 128 };

int file_read(int dirfd, const char *path, size_t max, char **out, size_t *len)
{
    _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    return fd < 0 ? -1 : file_read_fd(fd, max, out, len);
}

int file_read_fd(int fd, size_t max, char **out, size_t *len)
{
    _cleanup_buf_ struct buf b = {0};
    char chunk[8192];

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

int memfd_sealed(const char *name, const void *data, size_t len)
{
    _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || file_write_all(fd, data, len) < 0 || lseek(fd, 0, SEEK_SET) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -1;
    return take_fd(&fd);
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

void file_set_topdir(const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int flags = 0;

    if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 || flags & FS_TOPDIR_FL)
        return;
    flags |= FS_TOPDIR_FL;
    ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

char *file_clean_path(const char *path)
{
    _cleanup_free_ char *out = xcalloc(strlen(path) + 2, 1);
    size_t len = 0;

    if (path[0] != '/')
        return NULL;
    while (*path) {
        path += strspn(path, "/");
        size_t n = strcspn(path, "/");
        if (n == 2 && path[0] == '.' && path[1] == '.')
            return NULL;
        if (n > 0 && !(n == 1 && path[0] == '.')) {
            out[len++] = '/';
            memcpy(out + len, path, n);
            len += n;
        }
        path += n;
    }
    return xstrdup(len ? out : "/");
}

const char *file_below(const char *path, const char *dir)
{
    size_t len = strcmp(dir, "/") == 0 ? 0 : strlen(dir);

    if (strncmp(path, dir, len) != 0 || (path[len] && path[len] != '/'))
        return NULL;
    return path[len] ? path + len + 1 : path + len;
}

int file_open_resolve(int dirfd, const char *path, int flags, uint64_t resolve)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = resolve};
    int fd, tries = OPEN_TRIES;

    do
        fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
    while (fd < 0 && errno == EAGAIN && --tries > 0);
    return fd;
}

/* st_dev would not tell a bind mount of the same filesystem apart: only the kernel knows where a mount begins. */
static int open_to_remove(int dirfd, const char *name)
{
    return file_open_resolve(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
                             RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

struct removal_walk {
    int top;            /* the tree's own directory */
    unsigned long hung; /* directories moved up to it so far */
};

static int remove_below(struct removal_walk *w, int fd, int depth);

/* Out of a tree that is deeper than we open fds for: the directory becomes a child of the top and waits its turn. */
static int hang_up(struct removal_walk *w, int dirfd, const char *name)
{
    char moved[40];
    int rc;

    do {
        snprintf(moved, sizeof(moved), ".removing.%lu", w->hung++);
        rc = renameat2(dirfd, name, w->top, moved, RENAME_NOREPLACE);
    } while (rc < 0 && errno == EEXIST);
    return rc;
}

static int remove_one(struct removal_walk *w, int dirfd, const char *name, int depth)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno != ENOTEMPTY)
        return -1;
    int fd = open_to_remove(dirfd, name);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    if (depth >= TREE_DEPTH_MAX) {
        close(fd); /* opened all the same: a mount is never moved */
        return hang_up(w, dirfd, name);
    }
    if (remove_below(w, fd, depth) < 0)
        return -1;
    return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -1 : 0;
}

/* Empties a directory; owns fd. */
static int remove_below(struct removal_walk *w, int fd, int depth)
{
    struct dirent *entry;
    int rc = 0;
    DIR *d = fdopendir(fd);

    if (!d) {
        close(fd);
        return -1;
    }
    while (rc == 0 && (entry = readdir(d)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = remove_one(w, dirfd(d), entry->d_name, depth + 1);
    int saved = errno;
    closedir(d);
    errno = saved;
    return rc;
}

int file_remove_tree(int dirfd, const char *name)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    struct removal_walk w = {.top = open_to_remove(dirfd, name)};
    _cleanup_close_ int top = w.top;
    if (top < 0)
        return errno == ENOENT ? 0 : -1;
    /* Each pass takes TREE_DEPTH_MAX levels off every branch, and leaves at the top what was deeper. */
    while (unlinkat(dirfd, name, AT_REMOVEDIR) < 0) {
        if (errno == ENOENT)
            return 0;
        if (errno != ENOTEMPTY)
            return -1;
        int fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || remove_below(&w, fd, 0) < 0)
            return -1;
    }
    return 0;
}
