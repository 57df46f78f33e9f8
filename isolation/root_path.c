/* Paths in the root of a task: no link and no ".." leads out of it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "isolation/steps.h"

int root_open(int root_fd, const char *path, int flags)
{
    return file_open_resolve(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

static bool has_dotdot(const char *path)
{
    for (const char *p = path; (p = strstr(p, "..")); p += 2)
        if ((p == path || p[-1] == '/') && (p[2] == '/' || !p[2]))
            return true;
    return false;
}

/* Opens name in the directory *fd, making it when it is missing, and puts it in the directory's place. */
static int enter_component(int root_fd, const char *prefix, const char *name, const struct identity *owner, int *fd)
{
    int next = root_open(root_fd, prefix, O_PATH | O_DIRECTORY);

    if (next < 0 && errno == ENOENT) {
        if (mkdirat(*fd, name, 0755) < 0 ||
            (owner && fchownat(*fd, name, owner->uid, owner->gid, AT_SYMLINK_NOFOLLOW) < 0))
            return -1;
        next = root_open(root_fd, prefix, O_PATH | O_DIRECTORY);
    }
    if (next < 0)
        return -1;
    close(*fd);
    *fd = next;
    return 0;
}

int root_mkdirs(int root_fd, const char *path, const struct identity *owner)
{
    char prefix[PATH_MAX];
    size_t len = strlen(path), at = 0;

    if (len >= sizeof(prefix) || has_dotdot(path)) {
        errno = EINVAL;
        return -1;
    }
    memcpy(prefix, path, len + 1);
    _cleanup_close_ int fd = root_open(root_fd, "/", O_PATH | O_DIRECTORY);
    while (fd >= 0) {
        at += strspn(path + at, "/");
        if (!path[at])
            return take_fd(&fd);
        size_t start = at;
        at += strcspn(path + at, "/");
        prefix[at] = '\0';
        if (enter_component(root_fd, prefix, prefix + start, owner, &fd) < 0)
            return -1;
        prefix[at] = path[at];
    }
    return -1;
}

/* Makes the directory of path; *name is its last component. O_PATH fd of the directory, or -1. */
static int parent_of(int root_fd, const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *dir = xstrdup(path);

    *name = slash ? slash + 1 : path;
    if (!**name || has_dotdot(path)) {
        errno = EINVAL;
        return -1;
    }
    dir[*name - path] = '\0';
    return root_mkdirs(root_fd, dir, NULL);
}

int root_mkfile(int root_fd, const char *path)
{
    const char *name;
    _cleanup_close_ int there = root_open(root_fd, path, O_PATH);
    struct stat st;

    if (there >= 0) {
        errno = EISDIR;
        return fstat(there, &st) == 0 && !S_ISDIR(st.st_mode) ? 0 : -1;
    }
    _cleanup_close_ int dir = parent_of(root_fd, path, &name);
    if (dir < 0)
        return -1;
    _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    return fd < 0 ? -1 : 0;
}

static int mount_at(int root_fd, const char *src, const char *dst, const char *type, unsigned long flags,
                    const char *data)
{
    char target[40];
    _cleanup_close_ int fd = root_open(root_fd, dst, O_PATH);

    if (fd < 0)
        return -1;
    snprintf(target, sizeof(target), "/proc/self/fd/%d", fd);
    return mount(src, target, type, flags, data);
}

int root_mount(int root_fd, const char *src, const char *dst, const char *type, unsigned long flags, const char *data)
{
    if (!(flags & MS_BIND) || (flags & MS_REMOUNT))
        return mount_at(root_fd, src, dst, type, flags, data);
    if (mount_at(root_fd, src, dst, NULL, MS_BIND, NULL) < 0)
        return -1;
    return mount_at(root_fd, NULL, dst, NULL, flags | MS_REMOUNT, NULL);
}

int root_copy_link(int root_fd, const char *src, const char *dst)
{
    char target[PATH_MAX];
    const char *name;
    ssize_t n = readlink(src, target, sizeof(target) - 1);

    if (n < 0)
        return -1;
    target[n] = '\0';
    _cleanup_close_ int dir = parent_of(root_fd, dst, &name);
    if (dir < 0)
        return -1;
    return symlinkat(target, dir, name) < 0 && errno != EEXIST ? -1 : 0;
}

int root_bind_file(const struct sandbox *b, int root_fd, const char *src, const char *dst)
{
    _cleanup_close_ int from = open(src, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_close_ int to = from < 0 || root_mkfile(root_fd, dst) < 0 ? -1 : root_open(root_fd, dst, O_PATH);

    return to < 0 ? -1 : root_bind(b, from, to, TREE_QUIET | MOUNT_ATTR_RDONLY);
}
