/* Read-only roots: the host's directories as they are, every mount read-only, nosuid and nodev. The tree of each chroot
 * is put together once, in a mount namespace that holds nothing else (the template), and copied for a task by one
 * open_tree(2): a start depends neither on the number of files nor of sources. Where that cannot be, each task puts its
 * tree together itself. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "isolation/steps.h"

#define FIXED (TREE_QUIET | MOUNT_ATTR_RDONLY)

/* Source n on dst_fd: as it is with what is mounted below, or through a read-only overlay when something of it is
 * hidden or missing. */
static int show(const struct sandbox *b, size_t n, const char *src, int dst_fd)
{
    int lower[2] = {-1, -1};
    int count = rootfs_lowers(b, n, src, lower);
    int rc = count < 0    ? -1
             : count == 1 ? tree_bind(lower[0], dst_fd, FIXED)
                          : tree_overlay(lower, (size_t)count, -1, -1, dst_fd);
    int saved = errno;

    for (int i = 0; i < count; i++)
        close(lower[i]);
    errno = saved;
    return rc;
}

static int place(const struct sandbox *b, size_t n, int root_fd)
{
    const struct pair *p = &b->chroot->map.v[n];
    char real[PATH_MAX];
    struct stat st;

    switch (rootfs_source(p, real, &st)) {
    case SOURCE_MISSING:
        return 0;
    case SOURCE_LINK:
        return root_copy_link(root_fd, p->key, p->value);
    case SOURCE_FILE:
        return root_bind_file(root_fd, real, p->value);
    case SOURCE_DIR: {
        _cleanup_close_ int fd = root_mkdirs(root_fd, p->value, NULL);
        return fd < 0 ? -1 : show(b, n, real, fd);
    }
    case SOURCE_OTHER:
        break;
    }
    errno = ENOTSUP;
    return -1;
}

/* The top of the tree: the source that is mapped to "/", or an empty file system that the others are mounted in. */
static int make_top(const struct sandbox *b, const char *at, int *root_fd)
{
    const struct pair *first = &b->chroot->map.v[0];
    bool whole = strcmp(first->value, "/") == 0;
    char real[PATH_MAX];
    struct stat st;
    _cleanup_close_ int fd = open(at, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (whole && rootfs_source(first, real, &st) != SOURCE_DIR) {
        errno = ENOTDIR;
        return -1;
    }
    if (fd < 0 ||
        (whole ? show(b, 0, real, fd) : mount("tmpfs", at, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=4m")) < 0)
        return -1;
    *root_fd = open(at, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    for (const char *const *own = root_mount_points; *root_fd >= 0 && *own; own++) {
        _cleanup_close_ int made = root_mkdirs(*root_fd, *own, NULL);
        if (made < 0)
            return -1;
    }
    return *root_fd < 0 ? -1 : 0;
}

static int assemble(const struct sandbox *b, const char *at, struct err *e)
{
    const struct pairs *map = &b->chroot->map;
    _cleanup_close_ int root_fd = -1;

    if (make_top(b, at, &root_fd) < 0)
        return err_step(e, "rootfs", errno, "cannot mount the top of chroot %s%s", b->chroot->name,
                        rootfs_hint(errno));
    for (size_t i = strcmp(map->v[0].value, "/") == 0; i < map->n; i++)
        if (place(b, i, root_fd) < 0)
            return err_step(e, "rootfs", errno, "cannot put %.100s at %.60s%s", map->v[i].key, map->v[i].value,
                            rootfs_hint(errno));
    if (tree_protect(root_fd, FIXED) < 0 || tree_verify(root_fd, FIXED) < 0)
        return err_step(e, "rootfs", errno, "cannot make chroot %s read-only", b->chroot->name);
    return 0;
}

int readonly_mount(struct entry *c, const char *root, struct err *e)
{
    if (c->b->root_tree >= 0) {
        _cleanup_close_ int dst = open(root, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (dst < 0 || tree_attach(c->b->root_tree, dst) < 0)
            return err_step(e, "rootfs", errno, "cannot mount the tree of chroot %s", c->b->chroot->name);
        close(c->b->root_tree);
        c->b->root_tree = -1;
    } else if (assemble(c->b, root, e) < 0) {
        return -1;
    }
    if (rootfs_open(c, root, e) < 0)
        return -1;
    return readonly_extend(c, root, e);
}

/* In the template's process. A chroot that cannot be put together is left out: its tasks are told why. */
static int fill_template(const struct policy *p, struct err *e)
{
    _cleanup_free_ char *top = xasprintf("%s/trees", p->run_dir);

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", top, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=4m") < 0)
        return err_step(e, "template", errno, "cannot make a mount namespace");
    for (size_t i = 0; i < p->nchroots; i++) {
        const struct sandbox b = {.policy = p, .chroot = &p->chroots[i]};
        _cleanup_free_ char *at = xasprintf("%s/%zu", top, i);
        struct err why = {0};

        if (mkdir(at, 0700) == 0 && assemble(&b, at, &why) == 0)
            continue;
        log_warn("chroot %s has no template: %s", p->chroots[i].name, why.detail);
        umount2(at, MNT_DETACH);
        rmdir(at);
    }
    /* Nothing of the host stays mounted here but the trees: a file system can still be unmounted there. */
    if (chdir(top) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
        return err_step(e, "template", errno, "cannot leave the host's mounts");
    return 0;
}

_Noreturn static void template_main(const struct policy *p, int report, int hold)
{
    struct err e = {0};
    char end;

    umask(0);
    fill_template(p, &e);
    if (write(report, &e, sizeof(e)) != sizeof(e))
        _exit(1);
    close(report);
    ssize_t n = read(hold, &end, 1); /* until the launcher holds the namespace */
    _exit(n == 0 ? 0 : 1);
}

/* Whether kernel and filters let us copy trees at all; without it a template would be of no use. */
static int probe_clone(void)
{
    _cleanup_close_ int fd = tree_clone(AT_FDCWD, "/", 0, 0);

    return fd < 0 ? -1 : 0;
}

int sandbox_template_open(const struct policy *p, struct err *e)
{
    int report[2], hold[2];
    char path[64];
    _cleanup_free_ char *top = xasprintf("%s/trees", p->run_dir);

    if (probe_clone() < 0)
        return err_step(e, "template", errno, "mount trees cannot be copied here");
    if ((mkdir(top, 0700) < 0 && errno != EEXIST) || pipe2(report, O_CLOEXEC) < 0)
        return err_step(e, "template", errno, "cannot prepare %s", top);
    if (pipe2(hold, O_CLOEXEC) < 0) {
        close(report[0]);
        close(report[1]);
        return err_step(e, "template", errno, "cannot make a pipe");
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(hold[1]);
        template_main(p, report[1], hold[0]);
    }
    close(report[1]);
    close(hold[0]);
    _cleanup_close_ int from = report[0];
    _cleanup_close_ int until = hold[1];
    if (pid < 0 || read(from, e, sizeof(*e)) != sizeof(*e))
        err_step(e, "template", errno, "its process died");
    snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
    _cleanup_close_ int ns = e->status == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    close(take_fd(&until));
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (e->status == 0 && ns < 0)
        err_step(e, "template", errno, "cannot open its namespace");
    return take_fd(&ns);
}

int readonly_clone(struct sandbox *b, int template_fd, struct err *e)
{
    char path[32];

    if (b->spec->root != ROOT_READONLY || template_fd < 0)
        return 0;
    _cleanup_close_ int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (home < 0 || root < 0 || setns(template_fd, CLONE_NEWNS) < 0)
        return err_step(e, "rootfs", errno, "cannot enter the template");
    snprintf(path, sizeof(path), "/%zu", (size_t)(b->chroot - b->policy->chroots));
    b->root_tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    int why = errno;
    /* setns(2) has changed root and working directory to those of the namespace. */
    if (setns(home, CLONE_NEWNS) < 0 || fchdir(root) < 0 || chroot(".") < 0)
        return err_step(e, "rootfs", errno, "cannot leave the template");
    if (b->root_tree < 0 && why != ENOENT)
        return err_step(e, "rootfs", why, "cannot copy the tree of chroot %s", b->chroot->name);
    return 0;
}
