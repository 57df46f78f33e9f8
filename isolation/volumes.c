#include "isolation/volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "isolation/steps.h"

static const struct volume_mount *mount_at(const struct spec *s, size_t i)
{
    return (const struct volume_mount *)s->volume_mounts.v + i;
}

int volumes_field(struct err *e, int errnum, size_t i, const char *name, const char *what)
{
    char pointer[64];

    snprintf(pointer, sizeof(pointer), "/volume_mounts/%zu/%s", i, name);
    err_field(e, pointer, "%s", what);
    e->errnum = errnum;
    if (errnum)
        snprintf(e->step, sizeof(e->step), "volume_mounts");
    return -1;
}

static int check_propagation(bool userns, const struct volume *v, const struct volume_mount *m, size_t i, struct err *e)
{
    if (m->propagation == PROPAGATION_PRIVATE)
        return 0;
    if (userns)
        return volumes_field(e, 0, i, "propagation_mode",
                             "in a user namespace (userns_mode) it is private: later mounts would have other owners");
    /* A mount that comes from the host later has the host's flags: the volume would no longer be read-only. */
    if (v->read_only || m->read_only)
        return volumes_field(e, 0, i, "propagation_mode", "a read-only volume is private");
    if (m->propagation == PROPAGATION_BIDIRECTIONAL && !v->allow_bidirectional) {
        err_set(e, 403, "propagation_denied", "the operator does not allow bidirectional mounts of \"%s\"", v->name);
        snprintf(e->pointer, sizeof(e->pointer), "/volume_mounts/%zu/propagation_mode", i);
        return -1;
    }
    return 0;
}

int volumes_check(const struct spec *s, const struct policy *p, struct err *e)
{
    if (!policy_chroot(p, s->chroot))
        return err_field(e, "/chroot", "the operator has configured no chroot \"%s\"", s->chroot);
    for (size_t i = 0; i < s->volume_mounts.n; i++) {
        const struct volume_mount *m = mount_at(s, i);
        const struct volume *v = policy_volume(p, m->volume);
        _cleanup_free_ char *here = file_clean_path(m->destination);

        if (!v)
            return volumes_field(e, 0, i, "volume", "the operator has configured no such volume");
        if (m->propagation == PROPAGATION_BIDIRECTIONAL && s->resources.disk)
            return volumes_field(e, 0, i, "propagation_mode", "a task with resources.disk has its own mounts");
        if (check_propagation(userns_wanted(s, p), v, m, i, e) < 0)
            return -1;
        for (size_t k = 0; k < i; k++) {
            _cleanup_free_ char *other = file_clean_path(mount_at(s, k)->destination);
            if (strcmp(here, other) == 0)
                return volumes_field(e, 0, i, "destination", "another volume is there");
        }
    }
    return 0;
}

/* Whether mounts below fd can travel, from the host (slave) and to it (shared): mount_namespaces(7). */
static int check_peers(int fd, enum propagation propagation)
{
    _cleanup_mounts_ struct mount_table t = {0};
    struct statx st;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0 || mount_table_read(&t) < 0)
        return -1;
    for (size_t i = 0; i < t.n; i++)
        if ((uint64_t)t.v[i].id == st.stx_mnt_id &&
            (t.v[i].shared || (t.v[i].slave && propagation == PROPAGATION_HOST_TO_TASK)))
            return 0;
    errno = EINVAL;
    return -1;
}

static uint64_t attrs_of(const struct volume *v, const struct volume_mount *m)
{
    return TREE_QUIET | (v->read_only || m->read_only ? MOUNT_ATTR_RDONLY : 0);
}

/* Links were followed when the daemon started. Later ones may be a task's, made through a volume that holds this path.
 */
static int open_path(const char *path)
{
    return file_open_resolve(AT_FDCWD, path, O_PATH, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

void volumes_look(const struct sandbox *b, size_t i)
{
    struct stat st;
    _cleanup_close_ int fd = open_path(policy_volume(b->policy, mount_at(b->spec, i)->volume)->path);

    if (fd >= 0)
        fstat(fd, &st);
}

static int open_volume(struct sandbox *b, size_t i, struct err *e)
{
    static const uint64_t types[] = {
        [PROPAGATION_PRIVATE] = MS_PRIVATE,
        [PROPAGATION_HOST_TO_TASK] = MS_SLAVE,
        [PROPAGATION_BIDIRECTIONAL] = MS_SHARED,
    };
    const struct volume_mount *m = mount_at(b->spec, i);
    const struct volume *v = policy_volume(b->policy, m->volume);
    struct stat st;
    _cleanup_close_ int fd = open_path(v->path);

    if (fd < 0 || fstat(fd, &st) < 0)
        return volumes_field(e, errno, i, "volume", "cannot open what the operator configured for it");
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return volumes_field(e, ENOTSUP, i, "volume", "it is neither a directory nor a file");
    b->volumes[i].is_dir = S_ISDIR(st.st_mode);
    if (m->propagation != PROPAGATION_PRIVATE && check_peers(fd, m->propagation) < 0)
        return volumes_field(e, errno, i, "propagation_mode", "the volume is not on a shared mount of the host");
    b->volumes[i].fd = tree_clone(fd, "", attrs_of(v, m), types[m->propagation]);
    if (b->volumes[i].fd >= 0 && b->userns && userns_map_tree(b->userns, b->volumes[i].fd, true) < 0)
        return volumes_field(e, errno, i, "volume", "the kernel or its file system cannot show it in a user namespace");
    if (b->volumes[i].fd >= 0)
        return 0;
    if (errno != ENOSYS || b->userns)
        return volumes_field(e, errno, i, "volume", "cannot take a copy of its mounts");
    if (m->propagation != PROPAGATION_PRIVATE)
        return volumes_field(e, ENOSYS, i, "propagation_mode", "mount trees cannot be copied here");
    b->volumes[i].fd = take_fd(&fd); /* mount(2) in the task's namespace has to do */
    b->volumes[i].is_path = true;
    return 0;
}

int volumes_open(struct sandbox *b, struct err *e)
{
    size_t n = b->spec->volume_mounts.n;

    if (n == 0)
        return 0;
    b->volumes = xcalloc(n, sizeof(*b->volumes));
    for (size_t i = 0; i < n; i++)
        b->volumes[i].fd = -1;
    for (size_t i = 0; i < n; i++)
        if (open_volume(b, i, e) < 0)
            return -1;
    return 0;
}

void volumes_close(struct sandbox *b)
{
    for (size_t i = 0; b->volumes && i < b->spec->volume_mounts.n; i++)
        if (b->volumes[i].fd >= 0)
            close(b->volumes[i].fd);
    free(b->volumes);
    b->volumes = NULL;
}

/* The place of the i-th, made when it is missing. A link may lead to it, but not to the root itself. */
static int open_destination(struct entry *c, size_t i)
{
    const char *path = mount_at(c->b->spec, i)->destination;
    struct stat st;

    if (!c->b->volumes[i].is_dir && root_mkfile(c->root_fd, path) < 0)
        return -1;
    _cleanup_close_ int fd =
        c->b->volumes[i].is_dir ? root_mkdirs(c->root_fd, path, NULL) : root_open(c->root_fd, path, O_PATH);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -1;
    if (st.st_dev == c->root.st_dev && st.st_ino == c->root.st_ino) {
        errno = EBUSY;
        return -1;
    }
    return take_fd(&fd);
}

static int attach(struct entry *c, size_t i)
{
    struct task_volume *t = &c->b->volumes[i];
    const struct volume_mount *m = mount_at(c->b->spec, i);
    const struct volume *v = policy_volume(c->b->policy, m->volume);
    _cleanup_close_ int dst = open_destination(c, i);
    _cleanup_close_ int src = -1;

    if (dst < 0)
        return -1;
    if (t->is_path) { /* its fd is of the host's namespace; the same path in ours is wanted */
        src = open_path(v->path);
        return src < 0 ? -1 : tree_bind(src, dst, attrs_of(v, m));
    }
    return tree_attach(t->fd, dst);
}

int step_volume_mounts(struct entry *c, struct err *e)
{
    for (size_t i = 0; i < c->b->spec->volume_mounts.n; i++) {
        const struct volume_mount *m = mount_at(c->b->spec, i);
        const struct volume *v = policy_volume(c->b->policy, m->volume);

        if (attach(c, i) < 0)
            return volumes_field(e, errno, i, "destination", "cannot mount the volume there");
        _cleanup_close_ int top = root_open(c->root_fd, m->destination, O_PATH);
        if (top < 0 || tree_verify(top, attrs_of(v, m)) < 0)
            return err_step(e, "volume_mounts", errno, "the volume %s is not mounted as it must be", v->name);
    }
    volumes_close(c->b);
    return 0;
}
