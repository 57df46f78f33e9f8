/* The file systems of a task that are not the host's (own directories, /dev, /proc, /sys), and the change of root. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "isolation/devices.h"
#include "isolation/steps.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define QUIET (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static int make_and_mount(struct entry *c, const char *src, const char *dst, const char *type, unsigned long flags,
                          const char *data)
{
    _cleanup_close_ int fd = root_mkdirs(c->root_fd, dst, NULL);

    return fd < 0 ? -1 : root_mount(c->root_fd, src, dst, type, flags, data);
}

int step_volumes(struct entry *c, struct err *e)
{
    static const char *const names[] = {"local", "alloc", "tmp"};
    char options[96];

    for (size_t i = 0; i < COUNT(names); i++) {
        _cleanup_free_ char *src = xasprintf("%s/%s", c->b->data_dir, names[i]);

        if (make_and_mount(c, src, names[i], NULL, MS_BIND | MS_NOSUID | MS_NODEV, NULL) < 0)
            return err_step(e, "volumes", errno, "cannot mount /%s", names[i]);
    }
    snprintf(options, sizeof(options), "size=1m,nr_inodes=1024,mode=0700,uid=%u,gid=%u", c->b->host_who.uid,
             c->b->host_who.gid);
    if (make_and_mount(c, "tmpfs", "secrets", "tmpfs", QUIET, options) < 0)
        return err_step(e, "volumes", errno, "cannot mount /secrets");
    return 0;
}

static const struct link {
    const char *name, *target;
} links[] = {
    {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},
};

/* The umask is 0 here. */
static int make_node(struct entry *c, int dev_fd, const struct device *d)
{
    char path[32];

    if (mknodat(dev_fd, d->name, S_IFCHR | 0666, makedev((unsigned)d->major, (unsigned)d->minor)) == 0)
        return 0;
    if (errno != EPERM)
        return -1;
    /* Where device nodes may not be made, the host's is shown. */
    snprintf(path, sizeof(path), "/dev/%s", d->name);
    if (root_mkfile(c->root_fd, path) < 0)
        return -1;
    return root_mount(c->root_fd, path, path, NULL, MS_BIND | MS_NOSUID | MS_NOEXEC, NULL);
}

static int fill_dev(struct entry *c)
{
    _cleanup_close_ int fd = root_open(c->root_fd, "dev", O_PATH | O_DIRECTORY);
    size_t n;
    const struct device *d = devices_table(&n);

    if (fd < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (d[i].node && make_node(c, fd, &d[i]) < 0)
            return -1;
    for (size_t i = 0; i < COUNT(links); i++)
        if (symlinkat(links[i].target, fd, links[i].name) < 0)
            return -1;
    return 0;
}

/* devpts gives its root to the host's, whoever mounts it. */
static int own_root(struct entry *c, const char *path)
{
    uid_t root = sandbox_host_id(c->b, 0);
    _cleanup_close_ int fd = root_open(c->root_fd, path, O_PATH | O_DIRECTORY);

    return fd < 0 ? -1 : fchownat(fd, "", root, root, AT_EMPTY_PATH);
}

int step_dev(struct entry *c, struct err *e)
{
    char options[64];

    snprintf(options, sizeof(options), "newinstance,ptmxmode=0666,mode=0620,gid=%u", sandbox_host_id(c->b, GID_TTY));
    if (make_and_mount(c, "tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=1m,nr_inodes=256") < 0)
        return err_step(e, "dev", errno, "cannot mount /dev");
    if (fill_dev(c) < 0)
        return err_step(e, "dev", errno, "cannot make the device nodes");
    if (make_and_mount(c, "devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, options) < 0)
        return err_step(e, "dev", errno, "cannot mount /dev/pts");
    if (own_root(c, "dev/pts") < 0)
        return err_step(e, "dev", errno, "cannot give /dev/pts its owner");
    if (make_and_mount(c, "shm", "dev/shm", "tmpfs", QUIET, "mode=1777,size=64m") < 0)
        return err_step(e, "dev", errno, "cannot mount /dev/shm");
    if (c->b->ipc_mode == NS_PRIVATE && make_and_mount(c, "mqueue", "dev/mqueue", "mqueue", QUIET, NULL) < 0)
        return err_step(e, "dev", errno, "cannot mount /dev/mqueue");
    /* This is the only place without nodev, so a task with CAP_MKNOD must not be able to make nodes in it. Nodes that
     * are there can be written to all the same. */
    if (root_mount(c->root_fd, NULL, "dev", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL) < 0)
        return err_step(e, "dev", errno, "cannot make /dev read-only");
    return 0;
}

/* Hides a file or directory; one that is missing needs no hiding. */
static int mask(struct entry *c, const char *path)
{
    char null[40];
    struct stat st;
    _cleanup_close_ int fd = root_open(c->root_fd, path, O_PATH);

    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    if (fstat(fd, &st) < 0)
        return -1;
    if (S_ISDIR(st.st_mode))
        return root_mount(c->root_fd, "tmpfs", path, "tmpfs", QUIET | MS_RDONLY, "mode=0555,size=4k,nr_inodes=2");
    _cleanup_close_ int null_fd = root_open(c->root_fd, "dev/null", O_PATH);
    if (null_fd < 0)
        return -1;
    snprintf(null, sizeof(null), "/proc/self/fd/%d", null_fd);
    return root_mount(c->root_fd, null, path, NULL, MS_BIND | MS_NOSUID | MS_NOEXEC | MS_RDONLY, NULL);
}

static int read_only(struct entry *c, const char *path)
{
    char self[40];
    _cleanup_close_ int fd = root_open(c->root_fd, path, O_PATH);

    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    return root_mount(c->root_fd, self, path, NULL, MS_BIND | MS_RDONLY | QUIET, NULL);
}

static int each(struct entry *c, const char *step, const char *const *paths, int (*fn)(struct entry *, const char *),
                struct err *e)
{
    for (; *paths; paths++)
        if (fn(c, *paths) < 0)
            return err_step(e, step, errno, "cannot hide or protect /%s", *paths);
    return 0;
}

/* kpage*: what every page of the host is used for; the mode lets a task's root read it. */
int step_proc(struct entry *c, struct err *e)
{
    static const char *const hidden[] = {
        "proc/kcore",       "proc/keys",   "proc/latency_stats", "proc/timer_list",
        "proc/sched_debug", "proc/scsi",   "proc/acpi",          "proc/interrupts",
        "proc/timer_stats", "proc/asound", "proc/kpagecount",    "proc/kpageflags",
        "proc/kpagecgroup", NULL,
    };
    static const char *const fixed[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger", NULL};

    if (make_and_mount(c, "proc", "proc", "proc", QUIET, NULL) < 0)
        return err_step(e, "proc", errno, "cannot mount /proc");
    if (each(c, "proc", hidden, mask, e) < 0)
        return -1;
    return each(c, "proc", fixed, read_only, e);
}

int step_sys(struct entry *c, struct err *e)
{
    static const char *const hidden[] = {"sys/firmware", "sys/devices/virtual/powercap", NULL};

    if (make_and_mount(c, "sysfs", "sys", "sysfs", QUIET | MS_RDONLY, NULL) < 0)
        return err_step(e, "sys", errno, "cannot mount /sys");
    return each(c, "sys", hidden, mask, e);
}

int enter_namespace_root(void)
{
    _cleanup_close_ int ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

    return ns < 0 ? -1 : setns(ns, CLONE_NEWNS);
}

int step_pivot_root(struct entry *c, struct err *e)
{
    struct stat root, up;

    if (enter_namespace_root() < 0 || fchdir(c->root_fd) < 0)
        return err_step(e, "pivot_root", errno, "cannot enter the root");
    if (c->b->policy->no_pivot_root) {
        /* As switch_root(8) does. The old root stays below the new one; a walk up ends on top of the stack. */
        if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
            return err_step(e, "pivot_root", errno, "cannot move the root to /");
    } else {
        /* pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one, then goes. */
        if (syscall(SYS_pivot_root, ".", ".") < 0)
            return err_step(e, "pivot_root", errno,
                            errno == EINVAL ? "pivot_root (a root on a ramdisk needs no_pivot_root)" : "pivot_root");
        if (umount2(".", MNT_DETACH) < 0)
            return err_step(e, "pivot_root", errno, "cannot leave the host's root");
    }
    if (chdir("/") < 0 || stat("/", &root) < 0 || stat("/..", &up) < 0)
        return err_step(e, "pivot_root", errno, "cannot examine /");
    if (root.st_dev != c->root.st_dev || root.st_ino != c->root.st_ino || up.st_dev != root.st_dev ||
        up.st_ino != root.st_ino)
        return err_step(e, "pivot_root", EXDEV, "/ is not the task's root");
    return 0;
}
