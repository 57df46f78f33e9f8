/* What is made on the host before a task starts: its directories, and once the layers that hide host secrets. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "isolation/steps.h"

/* Never shown to a task, not even to one that runs as root. Patterns of glob(7). */
static const char *const secrets[] = {
    "/etc/shadow",   "/etc/shadow-",     "/etc/gshadow",          "/etc/gshadow-",
    "/etc/sudoers",  "/etc/sudoers.d",   "/etc/ssh/ssh_host_*",   "/etc/ssl/private",
    "/etc/cloister", "/etc/krb5.keytab", "/etc/security/opasswd",
};

/* Makes name in the directory dirfd with exactly this mode and owner; one that is there is adjusted. fd or -1. */
static int make_dir(int dirfd, const char *name, mode_t mode, uid_t uid, gid_t gid)
{
    if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
        return -1;
    _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchown(fd, uid, gid) < 0 || fchmod(fd, mode & 07777) < 0)
        return -1;
    return take_fd(&fd);
}

static int make_plain(int dirfd, const char *name, mode_t mode)
{
    _cleanup_close_ int fd = make_dir(dirfd, name, mode, 0, 0);

    return fd < 0 ? -1 : 0;
}

/* The upper directory gives the merged one its mode and owner. */
static int make_layers(const struct policy *p, int task_fd)
{
    _cleanup_close_ int upper = make_dir(task_fd, "upper", 0700, 0, 0);
    _cleanup_close_ int work = make_dir(task_fd, "work", 0700, 0, 0);

    if (upper < 0 || work < 0)
        return -1;
    for (size_t i = 0; i < p->chroot.n; i++) {
        char real[PATH_MAX], name[24];
        struct stat st;

        if (rootfs_source(p->chroot.v[i].key, real, &st) != SOURCE_DIR)
            continue;
        snprintf(name, sizeof(name), "%zu", i);
        _cleanup_close_ int fd = make_dir(upper, name, st.st_mode, st.st_uid, st.st_gid);
        if (fd < 0 || make_plain(work, name, 0700) < 0)
            return -1;
    }
    return 0;
}

int sandbox_prepare_dirs(const struct sandbox *b, struct err *e)
{
    static const struct {
        const char *name;
        mode_t mode;
    } dirs[] = {
        {"root", 0755}, {"local", 0777}, {"alloc", 0777}, {"alloc/data", 0777}, {"alloc/tmp", 0777}, {"tmp", 01777},
    };
    _cleanup_close_ int fd = open(b->task_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return err_step(e, "task_directory", errno, "cannot open %s", b->task_dir);
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
        if (make_plain(fd, dirs[i].name, dirs[i].mode) < 0)
            return err_step(e, "task_directory", errno, "cannot make %s", dirs[i].name);
    if (make_layers(b->policy, fd) < 0)
        return err_step(e, "task_directory", errno, "cannot make the layers");
    return 0;
}

/* Part of path below dir, or NULL when it is not below. */
static const char *below(const char *path, const char *dir)
{
    size_t len = strcmp(dir, "/") == 0 ? 0 : strlen(dir);

    return strncmp(path, dir, len) == 0 && path[len] == '/' && path[len + 1] ? path + len + 1 : NULL;
}

/* A whiteout (a character device 0:0) hides the name in the layers below; an unreadable empty file does too. */
static int make_whiteout(int dirfd, const char *name)
{
    if (mknodat(dirfd, name, S_IFCHR, makedev(0, 0)) == 0 || errno == EEXIST)
        return 0;
    _cleanup_close_ int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0);
    return fd < 0 ? -1 : 0;
}

/* Hides src/rel in the layer; directories on the way are made with the host's modes, as they show through. A directory
 * that the host lacks ends it: there is nothing to hide. */
static int hide(int layer_fd, const char *src, const char *rel)
{
    _cleanup_free_ char *path = xstrdup(rel);
    _cleanup_close_ int fd = dup(layer_fd);
    char *name = path;

    for (char *slash; fd >= 0 && (slash = strchr(name, '/')); name = slash + 1) {
        struct stat st;

        *slash = '\0';
        _cleanup_free_ char *host = xasprintf("%s/%s", src, path);
        if (lstat(host, &st) < 0 || !S_ISDIR(st.st_mode))
            return 0;
        int next = make_dir(fd, name, st.st_mode, st.st_uid, st.st_gid);
        close(fd);
        fd = next;
        *slash = '/';
    }
    return fd < 0 ? -1 : make_whiteout(fd, name);
}

static int hide_secret(int *layer_fd, int mask_fd, size_t n, const char *src, const struct stat *st, const char *secret)
{
    const char *rel = below(secret, src);
    char name[24];

    if (!rel)
        return 0;
    snprintf(name, sizeof(name), "%zu", n);
    if (*layer_fd < 0)
        *layer_fd = make_dir(mask_fd, name, st->st_mode, st->st_uid, st->st_gid);
    return *layer_fd < 0 ? -1 : hide(*layer_fd, src, rel);
}

static int make_mask(int mask_fd, size_t n, const char *key)
{
    _cleanup_close_ int layer_fd = -1;
    char real[PATH_MAX];
    struct stat st;

    if (rootfs_source(key, real, &st) != SOURCE_DIR)
        return 0;
    for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
        glob_t found = {0};
        /* Without a match the pattern itself is what remains: a plain name that may come to be later. */
        int rc = glob(secrets[i], GLOB_NOCHECK | GLOB_NOSORT, NULL, &found);

        for (size_t k = 0; rc == 0 && k < found.gl_pathc; k++)
            if (!strchr(found.gl_pathv[k], '*'))
                rc = hide_secret(&layer_fd, mask_fd, n, real, &st, found.gl_pathv[k]);
        globfree(&found);
        if (rc != 0)
            return -1;
    }
    return 0;
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
    for (size_t i = 0; i < p->chroot.n; i++)
        buf_printf(&sources, "%s\n", p->chroot.v[i].key);
    _cleanup_close_ int mask_fd = open_mask(run_fd, sources.data ? sources.data : "");
    if (mask_fd < 0)
        return err_step(e, "mask", errno, "cannot make %s/mask", p->run_dir);
    for (size_t i = 0; i < p->chroot.n; i++)
        if (make_mask(mask_fd, i, p->chroot.v[i].key) < 0)
            return err_step(e, "mask", errno, "cannot hide the secrets in %s", p->chroot.v[i].key);
    return 0;
}
