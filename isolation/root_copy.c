/* The root "copy": the chroot's files as files of the task's own, below upper/root of its directory. They are made
 * before the fork, in small steps, so that the supervisor can answer and be stopped meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/copy.h"
#include "base/file.h"
#include "isolation/secrets.h"
#include "isolation/steps.h"

#define UNFINISHED "root.part"

struct hidden {
    struct file_id *v;
    size_t n;
};

static int remember(void *arg, const char *path)
{
    struct hidden *h = arg;
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    h->v = xrealloc(h->v, (h->n + 1) * sizeof(*h->v));
    h->v[h->n++] = (struct file_id){.dev = st.st_dev, .ino = st.st_ino};
    return 0;
}

/* The directory that path is to be in, made if missing; *name is its last component, from which what an earlier source
 * put there is removed: the last one mapped is what shows, as with mounts. */
static int clear_place(const struct copy *c, int root_fd, const char *path, const char **name)
{
    const struct identity owner = {.uid = c->id_base, .gid = c->id_base};
    _cleanup_free_ char *dir = xstrdup(path);

    *name = strrchr(path, '/') + 1;
    dir[*name - path] = '\0';
    _cleanup_close_ int at = root_mkdirs(root_fd, dir, &owner);
    _cleanup_close_ int fd = at < 0 ? -1 : openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || file_remove_tree(fd, *name) < 0)
        return -1;
    return take_fd(&fd);
}

static int copy_tree(struct copy *c, const char *src, int dst_fd)
{
    _cleanup_close_ int from = open(src, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return from < 0 || dst_fd < 0 ? -1 : copy_directory(c, from, dst_fd);
}

static int copy_source(struct copy *c, const struct pair *p, int root_fd)
{
    char real[PATH_MAX];
    struct stat st;
    const char *name;
    enum source_kind kind = rootfs_source(p, real, &st);

    if (kind == SOURCE_ERROR)
        return -1;
    if (kind == SOURCE_MISSING)
        return 0;
    if (kind == SOURCE_LINK)
        return root_copy_link(root_fd, p->key, p->value);
    if (kind == SOURCE_OTHER || (kind == SOURCE_FILE && strcmp(p->value, "/") == 0)) {
        errno = ENOTSUP;
        return -1;
    }
    if (strcmp(p->value, "/") == 0)
        return copy_tree(c, real, root_fd);
    _cleanup_close_ int at = clear_place(c, root_fd, p->value, &name);
    if (at < 0)
        return -1;
    if (kind == SOURCE_FILE)
        return copy_file(c, AT_FDCWD, real, at, name);
    _cleanup_close_ int dst = make_dir(at, name, 0700, 0, 0);
    return copy_tree(c, real, dst);
}

static int fail(const struct copy *c, const struct pair *p, struct err *e)
{
    if (errno == ECANCELED)
        return err_set(e, 409, "task_stopped", "the task was stopped before it started");
    err_step(e, "rootfs", errno, "cannot copy %.100s%s%.100s", p->key, *c->failed ? ": " : "", c->failed);
    if (errno == ENOSPC || errno == EDQUOT)
        e->status = 507;
    return -1;
}

/* As in the other roots, our own mounts go onto directories, whatever the source had at these names. */
static int make_own_places(const struct copy *c, int root)
{
    for (const char *const *own = root_mount_points; *own; own++) {
        struct stat st;

        if (fstatat(root, *own, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode) && unlinkat(root, *own, 0) < 0)
            return -1;
        if (mkdirat(root, *own, 0755) == 0 ? fchownat(root, *own, c->id_base, c->id_base, AT_SYMLINK_NOFOLLOW) < 0
                                           : errno != EEXIST)
            return -1;
    }
    return 0;
}

static int copy_all(struct copy *c, const struct pairs *map, int upper, struct err *e)
{
    _cleanup_close_ int root = make_dir(upper, UNFINISHED, 0755, c->id_base, c->id_base);

    if (root < 0)
        return err_step(e, "rootfs", errno, "cannot make the root");
    for (size_t i = 0; i < map->n; i++)
        if (copy_source(c, &map->v[i], root) < 0)
            return fail(c, &map->v[i], e);
    if (make_own_places(c, root) < 0)
        return err_step(e, "rootfs", errno, "cannot make the places of our own mounts");
    if (renameat(upper, UNFINISHED, upper, "root") < 0)
        return err_step(e, "rootfs", errno, "cannot name the root");
    return 0;
}

static int on_progress(void *arg, const struct copy *c)
{
    struct root_progress *p = arg;

    p->files = c->files;
    p->bytes = c->bytes;
    return p->tell(p->arg);
}

int sandbox_copy_root(const struct sandbox *b, struct root_progress *progress, struct err *e)
{
    struct hidden hidden = {0};
    struct copy c = {
        .progress = progress->tell ? on_progress : NULL, .arg = progress, .id_base = sandbox_host_id(b, 0)};

    if (b->spec->root != ROOT_COPY)
        return 0;
    _cleanup_free_ char *path = xasprintf("%s/upper", b->data_dir);
    _cleanup_close_ int upper = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (faccessat(upper, "root", F_OK, 0) == 0)
        return 0; /* from an earlier run of the task */
    if (upper < 0 || file_remove_tree(upper, UNFINISHED) < 0)
        return err_step(e, "rootfs", errno, "cannot clear the root");
    int rc =
        secrets_each(b->policy, remember, &hidden) != 0 ? err_step(e, "rootfs", errno, "cannot list the secrets") : 0;
    c.skip = hidden.v;
    c.nskip = hidden.n;
    if (rc == 0)
        rc = copy_all(&c, &b->chroot->map, upper, e);
    progress->files = c.files;
    progress->bytes = c.bytes;
    if (rc < 0)
        file_remove_tree(upper, UNFINISHED);
    free(hidden.v);
    return rc;
}
