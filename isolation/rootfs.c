/* The root of a task, and paths in it. The default root is an own directory with the host's directories as overlays
 * (overlayfs in the kernel's Documentation/filesystems), so that the task writes to its own layer only. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "isolation/steps.h"

enum source_kind rootfs_source(const struct pair *p, char real[PATH_MAX], struct stat *st)
{
    if (lstat(p->key, st) < 0)
        return SOURCE_MISSING;
    if (S_ISLNK(st->st_mode) && strcmp(p->key, p->value) == 0)
        return SOURCE_LINK;
    if (!realpath(p->key, real) || stat(real, st) < 0)
        return SOURCE_MISSING;
    return S_ISDIR(st->st_mode) ? SOURCE_DIR : S_ISREG(st->st_mode) ? SOURCE_FILE : SOURCE_OTHER;
}

int root_open(int root_fd, const char *path, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };

    return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
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

int root_bind_file(int root_fd, const char *src, const char *dst)
{
    _cleanup_close_ int from = open(src, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_close_ int to = from < 0 || root_mkfile(root_fd, dst) < 0 ? -1 : root_open(root_fd, dst, O_PATH);

    return to < 0 ? -1 : tree_bind(from, to, TREE_QUIET | MOUNT_ATTR_RDONLY);
}

int rootfs_lowers(const struct sandbox *b, size_t n, const char *src, int lower[2])
{
    size_t count = 0;
    int mask = layer_open(b->policy, (size_t)(b->chroot - b->policy->chroots), n);

    if (mask < 0 && errno != ENOENT)
        return -1;
    if (mask >= 0)
        lower[count++] = mask;
    lower[count] = open(src, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (lower[count++] >= 0)
        return (int)count;
    if (mask >= 0)
        close(mask);
    return -1;
}

const char *rootfs_hint(int errnum)
{
    return errnum == ELOOP ? " (a source must not hold the state or run directory)" : "";
}

static int open_layer(const struct sandbox *b, const char *kind, size_t n)
{
    _cleanup_free_ char *path = xasprintf("%s/%s/%zu", b->task_dir, kind, n);

    return open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Source n, copy-on-write, on dst_fd. */
static int overlay(const struct sandbox *b, size_t n, const char *src, int dst_fd)
{
    int lower[2] = {-1, -1}, rc = -1;
    _cleanup_close_ int upper = open_layer(b, "upper", n);
    _cleanup_close_ int work = open_layer(b, "work", n);
    int count = upper < 0 || work < 0 ? -1 : rootfs_lowers(b, n, src, lower);

    if (count > 0)
        rc = tree_overlay(lower, (size_t)count, upper, work, dst_fd);
    int saved = errno;
    for (int i = 0; i < count; i++)
        close(lower[i]);
    errno = saved;
    return rc;
}

static int add_source(const struct entry *c, size_t n)
{
    const struct pair *p = &c->b->chroot->map.v[n];
    char real[PATH_MAX];
    struct stat st;

    switch (rootfs_source(p, real, &st)) {
    case SOURCE_MISSING:
        return 0;
    case SOURCE_LINK:
        return root_copy_link(c->root_fd, p->key, p->value);
    case SOURCE_FILE:
        return root_bind_file(c->root_fd, real, p->value);
    case SOURCE_DIR: {
        _cleanup_close_ int fd = root_mkdirs(c->root_fd, p->value, NULL);
        if (fd < 0 || overlay(c->b, n, real, fd) < 0)
            return -1;
        _cleanup_close_ int merged = root_open(c->root_fd, p->value, O_PATH);
        return merged < 0 ? -1 : tree_check(merged, TREE_QUIET);
    }
    case SOURCE_OTHER:
        break;
    }
    errno = ENOTSUP;
    return -1;
}

/* An own directory that the sources are mounted in; or, when one is mapped to "/", the overlay of that. */
static int make_overlays(struct entry *c, const char *root, struct err *e)
{
    const struct pairs *map = &c->b->chroot->map;
    bool whole = strcmp(map->v[0].value, "/") == 0;
    char real[PATH_MAX];
    struct stat st;
    _cleanup_close_ int fd = open(root, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (whole && rootfs_source(&map->v[0], real, &st) != SOURCE_DIR)
        return err_step(e, "rootfs", ENOTDIR, "%s is no directory", map->v[0].key);
    if (fd < 0 || (whole ? overlay(c->b, 0, real, fd) : tree_bind(fd, fd, TREE_QUIET)) < 0)
        return err_step(e, "rootfs", errno, "cannot mount %s%s", whole ? map->v[0].key : root, rootfs_hint(errno));
    if (rootfs_open(c, root, e) < 0)
        return -1;
    for (size_t i = whole; i < map->n; i++)
        if (add_source(c, i) < 0)
            return err_step(e, "rootfs", errno, "cannot put %.100s at %.60s%s", map->v[i].key, map->v[i].value,
                            rootfs_hint(errno));
    return 0;
}

/* The files are there already: see root_copy.c. */
static int bind_copy(struct entry *c, const char *root, struct err *e)
{
    _cleanup_free_ char *copy = xasprintf("%s/upper/root", c->b->task_dir);
    _cleanup_close_ int src = open(copy, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_close_ int dst = open(root, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (src < 0 || dst < 0 || tree_bind(src, dst, TREE_QUIET) < 0)
        return err_step(e, "rootfs", errno, "cannot bind the copy");
    return rootfs_open(c, root, e);
}

int rootfs_open(struct entry *c, const char *root, struct err *e)
{
    if (c->root_fd >= 0)
        close(c->root_fd);
    c->root_fd = open(root, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (c->root_fd < 0 || fstat(c->root_fd, &c->root) < 0)
        return err_step(e, "rootfs", errno, "cannot open %s", root);
    return 0;
}

int step_rootfs(struct entry *c, struct err *e)
{
    _cleanup_free_ char *root = xasprintf("%s/root", c->b->task_dir);
    bool readonly = c->b->spec->root == ROOT_READONLY;
    int rc = readonly                        ? readonly_mount(c, root, e)
             : c->b->spec->root == ROOT_COPY ? bind_copy(c, root, e)
                                             : make_overlays(c, root, e);

    if (rc < 0)
        return -1;
    if (tree_check(c->root_fd, TREE_QUIET | (readonly ? MOUNT_ATTR_RDONLY : 0)) < 0)
        return err_step(e, "rootfs", errno, "the mounts of the root are not as they must be");
    return 0;
}
