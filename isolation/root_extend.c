/* Places for volumes, the working directory and the network's files in a root that cannot be written to. A directory
 * that lacks one is covered by a read-only overlay of itself and a layer of the task's that holds the place. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "isolation/steps.h"
#include "isolation/volumes.h"

#define FIXED (TREE_QUIET | MOUNT_ATTR_RDONLY)

struct extension {
    char dir[PATH_MAX]; /* inside the root, real */
    int old;            /* O_PATH of it as it was */
    int layer;          /* what it gets besides */
};

struct extensions {
    struct extension *v;
    size_t n;
};

static void release(struct extensions *x)
{
    for (size_t i = 0; i < x->n; i++) {
        close(x->v[i].old);
        close(x->v[i].layer);
    }
    free(x->v);
}
#define _cleanup_extensions_ __attribute__((cleanup(release)))

/* The deepest directory of path that exists; *rest is what is missing below it. */
static int deepest(int root_fd, const char *path, const char **rest)
{
    _cleanup_free_ char *copy = xstrdup(path);
    size_t len = strlen(copy);

    for (;;) {
        int fd = root_open(root_fd, len ? copy : "/", O_PATH);

        if (fd >= 0 || errno != ENOENT || len == 0) {
            *rest = path + len + strspn(path + len, "/");
            return fd;
        }
        do
            len--;
        while (copy[len] != '/');
        copy[len] = '\0';
    }
}

static int new_layer(const struct sandbox *b, size_t n, const struct stat *st)
{
    _cleanup_free_ char *upper = xasprintf("%s/upper", b->data_dir);
    _cleanup_close_ int fd = open(upper, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    char name[32];

    snprintf(name, sizeof(name), "extra.%zu", n);
    /* A merged directory looks like its topmost layer. */
    return fd < 0 ? -1 : make_dir(fd, name, st->st_mode, st->st_uid, st->st_gid);
}

/* The extension of the directory old, which it takes, or one that is there already. */
static struct extension *extension_of(struct entry *c, struct extensions *x, int old)
{
    char root[PATH_MAX], dir[PATH_MAX];
    _cleanup_close_ int fd = old;
    struct stat st;

    if (tree_path(c->root_fd, root) < 0 || tree_path(old, dir) < 0 || fstat(old, &st) < 0)
        return NULL;
    const char *inside = file_below(dir, root);
    if (!inside || !S_ISDIR(st.st_mode)) {
        errno = inside ? ENOTDIR : EXDEV;
        return NULL;
    }
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->v[i].dir, inside) == 0)
            return &x->v[i];
    int layer = new_layer(c->b, x->n, &st);
    if (layer < 0)
        return NULL;
    x->v = xrealloc(x->v, (x->n + 1) * sizeof(*x->v));
    struct extension *n = &x->v[x->n++];
    *n = (struct extension){.old = take_fd(&fd), .layer = layer};
    memcpy(n->dir, inside, strlen(inside) + 1);
    return n;
}

/* Makes room for path, unless it is there. */
static int need(struct entry *c, struct extensions *x, const char *path, bool is_dir, const struct identity *owner)
{
    const char *rest;
    int fd = deepest(c->root_fd, path, &rest);

    if (fd < 0)
        return -1;
    if (!*rest) {
        close(fd);
        return 0;
    }
    const struct extension *e = extension_of(c, x, fd);
    if (!e)
        return -1;
    if (!is_dir)
        return root_mkfile(e->layer, rest);
    _cleanup_close_ int made = root_mkdirs(e->layer, rest, owner);
    return made < 0 ? -1 : 0;
}

/* Whether mount i is below another one that is below path, or hidden by one at the same place. */
static bool comes_with_another(const struct mount_table *t, size_t i, const char *path)
{
    for (size_t k = 0; k < t->n; k++) {
        const char *rel = file_below(t->v[i].point, t->v[k].point), *other = file_below(t->v[k].point, path);

        if (k != i && rel && other && *other && (*rel || k < i))
            return true;
    }
    return false;
}

/* What was mounted below the directory before shows again. */
static int show_mounts(const struct extension *x, int new_fd, const struct mount_table *before, const char *path)
{
    for (size_t i = 0; i < before->n; i++) {
        const char *rel = file_below(before->v[i].point, path);

        if (!rel || !*rel || comes_with_another(before, i, path))
            continue;
        _cleanup_close_ int src = root_open(x->old, rel, O_PATH);
        _cleanup_close_ int dst = root_open(new_fd, rel, O_PATH);
        if (src < 0 || dst < 0 || tree_bind(src, dst, FIXED) < 0)
            return -1;
    }
    return 0;
}

static int apply(struct entry *c, const struct extension *x, const char *root, struct err *e)
{
    _cleanup_mounts_ struct mount_table before = {0};
    char path[PATH_MAX];

    if (tree_path(x->old, path) < 0 || mount_table_read(&before) < 0 ||
        tree_overlay((const int[]){x->layer, x->old}, 2, -1, -1, x->old) < 0)
        return err_step(e, "rootfs", errno, "cannot extend /%.128s", x->dir);
    if (!*x->dir && rootfs_open(c, root, e) < 0)
        return -1;
    _cleanup_close_ int now = root_open(c->root_fd, *x->dir ? x->dir : "/", O_PATH);
    if (now < 0 || show_mounts(x, now, &before, path) < 0)
        return err_step(e, "rootfs", errno, "cannot show what is mounted below /%.128s", x->dir);
    return 0;
}

/* Our own directories can be written to, the kernel's are filled later, and below a volume the volume decides. */
static bool is_elsewhere(const struct sandbox *b, const char *path)
{
    const struct records *mounts = &b->spec->volume_mounts;

    for (const char *const *own = root_mount_points; *own; own++)
        if (file_below(path + 1, *own))
            return true;
    for (size_t i = 0; i < mounts->n; i++) {
        _cleanup_free_ char *other = file_clean_path(((const struct volume_mount *)mounts->v)[i].destination);
        const char *below = file_below(path, other);
        if (below && *below)
            return true;
    }
    return false;
}

static int deeper_first(const void *a, const void *b)
{
    return strcmp(((const struct extension *)b)->dir, ((const struct extension *)a)->dir);
}

int readonly_extend(struct entry *c, const char *root, struct err *e)
{
    _cleanup_extensions_ struct extensions x = {0};
    const struct spec *s = c->b->spec;
    const struct volume_mount *v = s->volume_mounts.v;

    for (size_t i = 0; i < s->volume_mounts.n; i++) {
        _cleanup_free_ char *path = file_clean_path(v[i].destination);

        if (!is_elsewhere(c->b, path) && need(c, &x, path, c->b->volumes[i].is_dir, NULL) < 0)
            return volumes_field(e, errno, i, "destination", "cannot make a place for it in the root");
    }
    _cleanup_free_ char *dir = file_clean_path(s->work_dir);
    if (dir && !is_elsewhere(c->b, dir) && need(c, &x, dir, true, &c->b->host_who) < 0) {
        err_field(e, "/work_dir", "cannot make the directory in the root: %s", err_errno_name(errno));
        return -1;
    }
    for (int f = 0; f < NET_FILES; f++) {
        _cleanup_free_ char *file = xasprintf("/etc/%s", network_file_names[f]);

        if (network_file_wanted(c->b, (enum network_file)f) && need(c, &x, file, false, NULL) < 0)
            return err_step(e, "network_files", errno, "cannot make a place for %s in the root", file);
    }
    if (x.n > 1)
        qsort(x.v, x.n, sizeof(*x.v), deeper_first);
    for (size_t i = 0; i < x.n; i++)
        if (apply(c, &x.v[i], root, e) < 0)
            return -1;
    return x.n > 0 && tree_verify(c->root_fd, FIXED) < 0
               ? err_step(e, "rootfs", errno, "the extended root is not read-only")
               : 0;
}
