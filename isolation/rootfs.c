/* The root of a task. The default root is an own directory with the host's directories as overlays (overlayfs in the
 * kernel's Documentation/filesystems), so that the task writes to its own layer only. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "isolation/steps.h"

/* A source that cannot be examined must not be left out in silence. */
static enum source_kind missing_or_error(void)
{
    return errno == ENOENT || errno == ENOTDIR ? SOURCE_MISSING : SOURCE_ERROR;
}

enum source_kind rootfs_source(const struct pair *p, char real[PATH_MAX], struct stat *st)
{
    if (lstat(p->key, st) < 0)
        return missing_or_error();
    if (S_ISLNK(st->st_mode) && strcmp(p->key, p->value) == 0)
        return SOURCE_LINK;
    if (!realpath(p->key, real) || stat(real, st) < 0)
        return missing_or_error();
    return S_ISDIR(st->st_mode) ? SOURCE_DIR : S_ISREG(st->st_mode) ? SOURCE_FILE : SOURCE_OTHER;
}

int root_bind(const struct sandbox *b, int src_fd, int dst_fd, uint64_t attrs)
{
    if (!b->userns)
        return tree_bind(src_fd, dst_fd, attrs);
    _cleanup_close_ int fd = tree_clone(src_fd, "", attrs, MS_PRIVATE);
    return fd < 0 || userns_map_tree(b->userns, fd, true) < 0 ? -1 : tree_attach(fd, dst_fd);
}

/* overlayfs takes its layers with the owners that their mounts show (since Linux 5.19), but only from mounts of our
 * namespace: those with other owners are attached out of the way, and go with the host's root in pivot_root. */
static int open_lower(const struct sandbox *b, const char *src)
{
    _cleanup_close_ int plain = open(src, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (plain < 0 || !b->userns)
        return take_fd(&plain);
    _cleanup_free_ char *path = xasprintf("%s/lower", b->data_dir);
    _cleanup_close_ int at = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_close_ int fd = at < 0 ? -1 : tree_clone_top(plain);
    if (fd < 0 || userns_map_tree(b->userns, fd, false) < 0 || tree_attach(fd, at) < 0)
        return -1;
    return take_fd(&fd);
}

int rootfs_lowers(const struct sandbox *b, size_t n, const char *src, int lower[2])
{
    size_t count = 0;
    int mask = layer_open(b, n);

    if (mask < 0 && errno != ENOENT)
        return -1;
    if (mask >= 0)
        lower[count++] = mask;
    lower[count] = open_lower(b, src);
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
    _cleanup_free_ char *path = xasprintf("%s/%s/%zu", b->data_dir, kind, n);

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

int rootfs_place(const struct sandbox *b, size_t n, int root_fd, rootfs_show show, uint64_t attrs)
{
    const struct pair *p = &b->chroot->map.v[n];
    char real[PATH_MAX];
    struct stat st;

    switch (rootfs_source(p, real, &st)) {
    case SOURCE_ERROR:
        return -1;
    case SOURCE_MISSING:
        return 0;
    case SOURCE_LINK:
        return root_copy_link(root_fd, p->key, p->value);
    case SOURCE_FILE:
        return root_bind_file(b, root_fd, real, p->value);
    case SOURCE_DIR: {
        _cleanup_close_ int fd = root_mkdirs(root_fd, p->value, NULL);
        if (fd < 0 || show(b, n, real, fd) < 0)
            return -1;
        _cleanup_close_ int shown = root_open(root_fd, p->value, O_PATH);
        return shown < 0 ? -1 : tree_check(shown, attrs);
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
        if (rootfs_place(c->b, i, c->root_fd, overlay, TREE_QUIET) < 0)
            return err_step(e, "rootfs", errno, "cannot put %.100s at %.60s%s", map->v[i].key, map->v[i].value,
                            rootfs_hint(errno));
    return 0;
}

/* The files are there already: see root_copy.c. */
static int bind_copy(struct entry *c, const char *root, struct err *e)
{
    _cleanup_free_ char *copy = xasprintf("%s/upper/root", c->b->data_dir);
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

/* What a kernel or a file system without id-mapped mounts answers. */
static int explain(struct err *e)
{
    int why = e->errnum;
    char detail[sizeof(e->detail)];

    if (why != EINVAL && why != ENOSYS && why != EOPNOTSUPP && why != EPERM)
        return -1;
    memcpy(detail, e->detail, sizeof(detail));
    err_field(e, "/userns_mode", "this root cannot be shown in a user namespace here: %.200s", detail);
    e->errnum = why;
    snprintf(e->step, sizeof(e->step), "rootfs");
    return -1;
}

int step_rootfs(struct entry *c, struct err *e)
{
    _cleanup_free_ char *root = xasprintf("%s/root", c->b->data_dir);
    bool readonly = c->b->spec->root == ROOT_READONLY;
    int rc = readonly                        ? readonly_mount(c, root, e)
             : c->b->spec->root == ROOT_COPY ? bind_copy(c, root, e)
                                             : make_overlays(c, root, e);

    if (rc < 0)
        return c->b->userns ? explain(e) : -1;
    if (tree_check(c->root_fd, TREE_QUIET | (readonly ? MOUNT_ATTR_RDONLY : 0)) < 0)
        return err_step(e, "rootfs", errno, "the mounts of the root are not as they must be");
    return 0;
}
