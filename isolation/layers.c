/* Lower layers that are made once, before any task: whiteouts that hide host secrets, and the mount points that a
 * source lacks. One directory for each source that needs one: RUN/mask/<chroot>.<source>. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "isolation/secrets.h"
#include "isolation/steps.h"

const char *const root_mount_points[] = {"local", "alloc", "secrets", "tmp", "dev", "proc", "sys", NULL};

struct layer {
    int mask_fd; /* RUN/mask */
    char name[48];
    int fd; /* -1 until there is something to put in */
    char src[PATH_MAX];
    struct stat st; /* of src */
};

int make_dir(int dirfd, const char *name, mode_t mode, uid_t uid, gid_t gid)
{
    if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
        return -1;
    _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchown(fd, uid, gid) < 0 || fchmod(fd, mode & 07777) < 0)
        return -1;
    return take_fd(&fd);
}

static void layer_name(char name[48], size_t chroot, size_t source)
{
    snprintf(name, 48, "%zu.%zu", chroot, source);
}

int layer_open(const struct sandbox *b, size_t source)
{
    char name[48];

    layer_name(name, (size_t)(b->chroot - b->policy->chroots), source);
    _cleanup_free_ char *path = b->userns ? xasprintf("%s/upper/mask.%zu", b->data_dir, source)
                                          : xasprintf("%s/mask/%s", b->policy->run_dir, name);
    return open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* A whiteout (a character device 0:0) hides the name in the layers below; an unreadable empty file does too. */
static int make_whiteout(int dirfd, const char *name)
{
    if (mknodat(dirfd, name, S_IFCHR, makedev(0, 0)) == 0 || errno == EEXIST)
        return 0;
    _cleanup_close_ int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0);
    return fd < 0 ? -1 : 0;
}

/* The directory of rel in the layer; *name becomes the last component (in rel). Directories on the way have the host's
 * modes, as they show through; where the host has none, they are made if asked to, else it is ENOENT. */
static int open_parent(struct layer *l, char *rel, bool make_missing, char **name)
{
    if (l->fd < 0)
        l->fd = make_dir(l->mask_fd, l->name, l->st.st_mode, l->st.st_uid, l->st.st_gid);
    _cleanup_close_ int fd = l->fd < 0 ? -1 : dup(l->fd);

    *name = rel;
    for (char *slash; fd >= 0 && (slash = strchr(*name, '/')); *name = slash + 1) {
        struct stat st = {.st_mode = S_IFDIR | 0755};

        *slash = '\0';
        _cleanup_free_ char *host = xasprintf("%s/%s", l->src, rel);
        if ((lstat(host, &st) < 0 && !make_missing) || !S_ISDIR(st.st_mode)) {
            errno = ENOENT;
            return -1;
        }
        int next = make_dir(fd, *name, st.st_mode, st.st_uid, st.st_gid);
        close(fd);
        fd = next;
        *slash = '/';
    }
    return take_fd(&fd);
}

static int hide_secret(void *arg, const char *secret)
{
    struct layer *l = arg;
    const char *rel = file_below(secret, l->src);
    char *name;

    if (!rel || !*rel)
        return 0;
    _cleanup_free_ char *copy = xstrdup(rel);
    _cleanup_close_ int fd = open_parent(l, copy, false, &name);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1; /* the host lacks its directory: there is nothing to hide */
    return make_whiteout(fd, name);
}

/* Makes what is mapped below the source a place there, unless there is one. */
static int make_mount_point(struct layer *l, const char *rel, const struct pair *mapped)
{
    char real[PATH_MAX], target[PATH_MAX] = "", *name;
    struct stat st;
    enum source_kind kind = rootfs_source(mapped, real, &st);
    _cleanup_close_ int src = open(l->src, O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int there = src < 0 ? -1 : root_open(src, rel, O_PATH | O_NOFOLLOW);

    if (kind == SOURCE_ERROR || kind == SOURCE_MISSING || kind == SOURCE_OTHER || there >= 0)
        return 0;
    if (kind == SOURCE_LINK && readlink(mapped->key, target, sizeof(target) - 1) < 0)
        return -1;
    _cleanup_free_ char *copy = xstrdup(rel);
    _cleanup_close_ int fd = open_parent(l, copy, true, &name);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1; /* its directory is a link: where that leads is seen when it is mounted */
    if (kind == SOURCE_LINK)
        return symlinkat(target, fd, name) < 0 && errno != EEXIST ? -1 : 0;
    _cleanup_close_ int made = kind == SOURCE_DIR ? make_dir(fd, name, 0755, 0, 0)
                                                  : openat(fd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    return made < 0 ? -1 : 0;
}

/* The source that path lies in: the longest that comes before it. (size_t)-1 when there is none. */
static size_t source_of(const struct pairs *map, size_t n)
{
    size_t found = (size_t)-1;

    for (size_t i = 0; i < n; i++) {
        char real[PATH_MAX];
        struct stat st;
        const char *rest = file_below(map->v[n].value, map->v[i].value);

        if (rest && *rest && rootfs_source(&map->v[i], real, &st) == SOURCE_DIR)
            found = i;
    }
    return found;
}

static int make_layer(int mask_fd, const struct policy *p, size_t chroot, size_t n)
{
    const struct pairs *map = &p->chroots[chroot].map;
    struct layer l = {.mask_fd = mask_fd, .fd = -1};
    int rc = 0;

    if (rootfs_source(&map->v[n], l.src, &l.st) != SOURCE_DIR)
        return 0;
    layer_name(l.name, chroot, n);
    if (secrets_each(p, hide_secret, &l) != 0)
        rc = -1;
    for (const char *const *own = root_mount_points; rc == 0 && strcmp(map->v[n].value, "/") == 0 && *own; own++) {
        _cleanup_free_ char *copy = xstrdup(*own);
        char *name;
        _cleanup_close_ int top = open_parent(&l, copy, true, &name);
        _cleanup_close_ int fd = top < 0 ? -1 : make_dir(top, name, 0755, 0, 0);
        rc = fd < 0 ? -1 : 0;
    }
    for (size_t i = n + 1; rc == 0 && i < map->n; i++)
        if (source_of(map, i) == n)
            rc = make_mount_point(&l, file_below(map->v[i].value, map->v[n].value), &map->v[i]);
    if (l.fd >= 0)
        close(l.fd);
    return rc;
}

/* Layers of tasks that outlived an earlier launcher are in use, so they are never removed: the same sources add to what
 * is there, other sources put it aside. */
static int open_mask(int run_fd, const char *sources)
{
    _cleanup_free_ char *old = NULL;
    char aside[48];
    size_t len;
    bool same = file_read(run_fd, "mask/sources", 1 << 20, &old, &len) == 0 && strcmp(old, sources) == 0;

    snprintf(aside, sizeof(aside), "mask.%lld", (long long)clock_real_ns());
    if (!same && renameat(run_fd, "mask", run_fd, aside) < 0 && errno != ENOENT)
        return -1;
    _cleanup_close_ int fd = make_dir(run_fd, "mask", 0700, 0, 0);
    if (fd < 0 || (!same && file_write_atomic(fd, "sources", sources, strlen(sources), 0600, false) < 0))
        return -1;
    return take_fd(&fd);
}

int sandbox_prepare_host(const struct policy *p, struct err *e)
{
    _cleanup_buf_ struct buf sources = {0};
    _cleanup_close_ int run_fd = open(p->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (run_fd < 0)
        return err_step(e, "mask", errno, "cannot open %s", p->run_dir);
    for (size_t i = 0; i < p->nchroots; i++)
        for (size_t k = 0; k < p->chroots[i].map.n; k++)
            buf_printf(&sources, "%zu %s = %s\n", i, p->chroots[i].map.v[k].key, p->chroots[i].map.v[k].value);
    _cleanup_close_ int mask_fd = open_mask(run_fd, sources.data ? sources.data : "");
    if (mask_fd < 0)
        return err_step(e, "mask", errno, "cannot make %s/mask", p->run_dir);
    for (size_t i = 0; i < p->nchroots; i++)
        for (size_t k = 0; k < p->chroots[i].map.n; k++)
            if (make_layer(mask_fd, p, i, k) < 0)
                return err_step(e, "mask", errno, "cannot make the layer of %s", p->chroots[i].map.v[k].key);
    return 0;
}
