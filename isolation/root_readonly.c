/* Read-only roots: the host's directories as they are, every mount read-only, nosuid and nodev. What of a chroot is
 * plainly bound is put together once, in a mount namespace that holds nothing else (the template), and copied for a
 * task by one open_tree(2): a start depends neither on the number of files nor of such sources. Sources of which
 * something is hidden or missing are shown through a read-only overlay of each task's own: overlayfs may go on showing
 * what a lower directory held before, and a mount over a secret would be gone when the host renames a new file to its
 * name. Where trees cannot be copied, each task puts all of it together. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "isolation/steps.h"

#define FIXED (TREE_QUIET | MOUNT_ATTR_RDONLY)

static int bind_source(const struct sandbox *b, const char *src, int dst_fd)
{
    _cleanup_close_ int fd = open(src, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? -1 : root_bind(b, fd, dst_fd, FIXED);
}

/* Source n on dst_fd: as it is with what is mounted below, or through a read-only overlay when something of it is
 * hidden or missing. */
static int show(const struct sandbox *b, size_t n, const char *src, int dst_fd)
{
    int lower[2] = {-1, -1};

    _cleanup_close_ int layer = layer_open(b, n);

    if (layer < 0) /* in doubt whether something is to be hidden, nothing is shown */
        return errno == ENOENT ? bind_source(b, src, dst_fd) : -1;
    int count = rootfs_lowers(b, n, src, lower);
    int rc = count < 0 ? -1 : tree_overlay(lower, (size_t)count, -1, -1, dst_fd);
    int saved = errno;

    for (int i = 0; i < count; i++)
        close(lower[i]);
    errno = saved;
    return rc;
}

static bool has_layer(const struct sandbox *b, size_t n)
{
    _cleanup_close_ int fd = layer_open(b, n);

    return fd >= 0;
}

/* Whether source n is none of the template's: shown through an overlay, or in one that is. */
static bool is_apart(const struct sandbox *b, size_t n)
{
    const struct pair *p = b->chroot->map.v;

    for (size_t i = 0; i <= n; i++)
        if (file_below(p[n].value, p[i].value) && has_layer(b, i))
            return true;
    return false;
}

/* Where a source with a layer will be mounted. */
static int make_place(const struct sandbox *b, size_t n, int root_fd)
{
    if (!has_layer(b, n))
        return 0;
    _cleanup_close_ int fd = root_mkdirs(root_fd, b->chroot->map.v[n].value, NULL);
    return fd < 0 ? -1 : 0;
}

/* An empty file system that the sources are mounted in. */
static int make_top(const char *at, int *root_fd)
{
    if (mount("tmpfs", at, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=4m") < 0)
        return -1;
    *root_fd = open(at, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    for (const char *const *own = root_mount_points; *root_fd >= 0 && *own; own++) {
        _cleanup_close_ int made = root_mkdirs(*root_fd, *own, NULL);
        if (made < 0)
            return -1;
    }
    return *root_fd < 0 ? -1 : 0;
}

enum part { ALL, COMMON, APART };

static int place_part(const struct sandbox *b, int root_fd, enum part part, struct err *e)
{
    const struct pairs *map = &b->chroot->map;

    for (size_t i = strcmp(map->v[0].value, "/") == 0; i < map->n; i++) {
        bool apart = part != ALL && is_apart(b, i);
        int rc = 0;

        if (part == ALL || apart == (part == APART))
            rc = rootfs_place(b, i, root_fd, show, FIXED);
        else if (part == COMMON)
            rc = make_place(b, i, root_fd);
        if (rc < 0)
            return err_step(e, "rootfs", errno, "cannot put %.100s at %.60s%s", map->v[i].key, map->v[i].value,
                            rootfs_hint(errno));
    }
    return 0;
}

int readonly_assemble(const struct sandbox *b, const char *at, struct err *e)
{
    _cleanup_close_ int root_fd = -1;

    if (make_top(at, &root_fd) < 0)
        return err_step(e, "rootfs", errno, "cannot make the top of chroot %s", b->chroot->name);
    if (place_part(b, root_fd, COMMON, e) < 0)
        return -1;
    if (tree_protect(root_fd, FIXED) < 0 || tree_verify(root_fd, FIXED) < 0)
        return err_step(e, "rootfs", errno, "cannot make chroot %s read-only", b->chroot->name);
    return 0;
}

/* A source that is mapped to "/": it has a layer always, for our own mount points. */
static int mount_whole(struct entry *c, const char *root, struct err *e)
{
    const struct pair *p = &c->b->chroot->map.v[0];
    char real[PATH_MAX];
    struct stat st;
    _cleanup_close_ int fd = open(root, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (rootfs_source(p, real, &st) != SOURCE_DIR)
        return err_step(e, "rootfs", ENOTDIR, "%s is no directory", p->key);
    if (fd < 0 || show(c->b, 0, real, fd) < 0)
        return err_step(e, "rootfs", errno, "cannot mount %s%s", p->key, rootfs_hint(errno));
    return rootfs_open(c, root, e);
}

static int mount_tree(struct entry *c, const char *root, struct err *e)
{
    _cleanup_close_ int dst = open(root, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (dst < 0 || tree_attach(c->b->root_tree, dst) < 0)
        return err_step(e, "rootfs", errno, "cannot mount the tree of chroot %s", c->b->chroot->name);
    close(c->b->root_tree);
    c->b->root_tree = -1;
    return rootfs_open(c, root, e);
}

int readonly_mount(struct entry *c, const char *root, struct err *e)
{
    bool copied = c->b->root_tree >= 0;

    if (copied) {
        if (mount_tree(c, root, e) < 0)
            return -1;
    } else if (strcmp(c->b->chroot->map.v[0].value, "/") == 0) {
        if (mount_whole(c, root, e) < 0)
            return -1;
    } else if (make_top(root, &c->root_fd) < 0 || rootfs_open(c, root, e) < 0) {
        return err_step(e, "rootfs", errno, "cannot make the top of chroot %s", c->b->chroot->name);
    }
    if (place_part(c->b, c->root_fd, copied ? APART : ALL, e) < 0)
        return -1;
    if (!copied && tree_protect(c->root_fd, FIXED) < 0)
        return err_step(e, "rootfs", errno, "cannot make the root read-only");
    return readonly_extend(c, root, e);
}
