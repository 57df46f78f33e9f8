/* The root of a task: an own directory with the host's directories as overlays (overlayfs in the kernel's
 * Documentation/filesystems), so that the task writes to its own layer only. */
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

#define BIND_FLAGS (MS_NOSUID | MS_NODEV)

enum source_kind rootfs_source(const char *src, char real[PATH_MAX], struct stat *st)
{
    if (lstat(src, st) < 0)
        return SOURCE_MISSING;
    if (S_ISLNK(st->st_mode))
        return SOURCE_LINK;
    if (!realpath(src, real) || stat(real, st) < 0)
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

static int copy_link(int root_fd, const char *src, const char *dst)
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

/* Options are split at ',' and layers at ':'; how '\' quotes them differs between kernels. */
static bool overlay_safe(const char *path)
{
    return !strpbrk(path, ",:\\\n");
}

static int overlay(const struct entry *c, size_t n, const char *src, const char *dst)
{
    const struct policy *p = c->b->policy;
    const char *task = c->b->task_dir;
    _cleanup_free_ char *mask = xasprintf("%s/mask/%zu", p->run_dir, n);
    struct stat st;
    _cleanup_close_ int fd = root_mkdirs(c->root_fd, dst, NULL);

    if (fd < 0)
        return -1;
    if (!overlay_safe(src) || !overlay_safe(task) || !overlay_safe(mask)) {
        errno = EINVAL;
        return -1;
    }
    bool masked = stat(mask, &st) == 0;
    _cleanup_free_ char *lower = masked ? xasprintf("%s:%s", mask, src) : xstrdup(src);
    _cleanup_free_ char *data =
        xasprintf("lowerdir=%s,upperdir=%s/upper/%zu,workdir=%s/work/%zu", lower, task, n, task, n);
    return root_mount(c->root_fd, "overlay", dst, "overlay", BIND_FLAGS, data);
}

static int add_source(const struct entry *c, size_t n)
{
    const struct pair *p = &c->b->policy->chroot.v[n];
    char real[PATH_MAX];
    struct stat st;

    if (!p->value[strspn(p->value, "/.")]) { /* the root itself is ours */
        errno = EINVAL;
        return -1;
    }
    switch (rootfs_source(p->key, real, &st)) {
    case SOURCE_MISSING:
        return 0;
    case SOURCE_LINK:
        return copy_link(c->root_fd, p->key, p->value);
    case SOURCE_DIR:
        return overlay(c, n, real, p->value);
    case SOURCE_FILE:
        if (root_mkfile(c->root_fd, p->value) < 0)
            return -1;
        return root_mount(c->root_fd, real, p->value, NULL, MS_BIND | MS_RDONLY | BIND_FLAGS, NULL);
    case SOURCE_OTHER:
        break;
    }
    errno = ENOTSUP;
    return -1;
}

int step_rootfs(struct entry *c, struct err *e)
{
    const struct sandbox *b = c->b;
    _cleanup_free_ char *root = xasprintf("%s/root", b->task_dir);

    if (mount(root, root, NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, root, NULL, MS_BIND | MS_REMOUNT | BIND_FLAGS, NULL) < 0)
        return err_step(e, "rootfs", errno, "cannot bind %s", root);
    c->root_fd = open(root, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (c->root_fd < 0 || fstat(c->root_fd, &c->root) < 0)
        return err_step(e, "rootfs", errno, "cannot open %s", root);
    for (size_t i = 0; i < b->policy->chroot.n; i++)
        if (add_source(c, i) < 0)
            return err_step(e, "rootfs", errno, "cannot put %s at %s", b->policy->chroot.v[i].key,
                            b->policy->chroot.v[i].value);
    return 0;
}
