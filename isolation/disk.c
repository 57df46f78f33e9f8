#include "isolation/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"

enum { LOCK_TRIES = 200, LOOP_TRIES = 64, MIB_SHIFT = 20 };

static const char MKE2FS[] = "/sbin/mke2fs";

const char *disk_mode_name(enum disk_mode m)
{
    return m == DISK_EXT4 ? "ext4" : m == DISK_TMPFS ? "tmpfs" : NULL;
}

/* Runs mke2fs on the file, with nothing of ours. Without a journal: what a task wrote need not outlive a power cut,
 * since the task does not. */
static int make_file_system(const char *image)
{
    char *const argv[] = {"mke2fs",
                          "-q",
                          "-F",
                          "-t",
                          "ext4",
                          "-m",
                          "0",
                          "-O",
                          "^has_journal,^resize_inode",
                          "-E",
                          "lazy_itable_init=1,nodiscard,root_owner=0:0",
                          (char *)image,
                          NULL};
    char *const envp[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "MKE2FS_CONFIG=/dev/null", NULL};
    int status;
    pid_t pid = fork();

    if (pid < 0)
        return -1;
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 ||
            close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
            _exit(126);
        execve(MKE2FS, argv, envp);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    errno = WIFEXITED(status) && WEXITSTATUS(status) == 127 ? ENOENT : EIO;
    return -1;
}

/* The image is named in its final form only when it is whole: an interrupted one is made anew. */
static int make_image(int dir, const char *task_dir, int64_t mib)
{
    _cleanup_free_ char *path = xasprintf("%s/" DISK_IMAGE ".new", task_dir);

    if (faccessat(dir, DISK_IMAGE, F_OK, 0) == 0)
        return 0; /* from an earlier run of the task */
    _cleanup_close_ int fd = openat(dir, DISK_IMAGE ".new", O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, mib << MIB_SHIFT) < 0 || make_file_system(path) < 0)
        return -1;
    return renameat(dir, DISK_IMAGE ".new", dir, DISK_IMAGE);
}

/* A free loop device bound to the file: loop(4). It is given back with its last mount or fd (LO_FLAGS_AUTOCLEAR). */
static int open_loop(int backing, int flags, char path[32])
{
    struct loop_config config = {.fd = (uint32_t)backing, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
    _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    for (int i = 0; control >= 0 && i < LOOP_TRIES; i++) {
        int n = ioctl(control, LOOP_CTL_GET_FREE);
        if (n < 0)
            return -1;
        snprintf(path, 32, "/dev/loop%d", n);
        _cleanup_close_ int fd = open(path, flags | O_CLOEXEC);
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0)
            return take_fd(&fd);
        if (errno != EBUSY && errno != ENXIO) /* somebody else took it: the next one */
            return -1;
    }
    return -1;
}

static int mount_ext4(const struct sandbox *b, int dir)
{
    char device[32];

    if (make_image(dir, b->task_dir, b->spec->resources.disk) < 0)
        return -1;
    _cleanup_close_ int backing = openat(dir, DISK_IMAGE, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    /* The loop device holds the open file, and with it the lock. */
    _cleanup_close_ int loop =
        backing < 0 || flock(backing, LOCK_EX | LOCK_NB) < 0 ? -1 : open_loop(backing, O_RDWR, device);
    if (loop < 0)
        return -1;
    return mount(device, b->data_dir, "ext4", MS_NOSUID | MS_NODEV, "errors=remount-ro");
}

int disk_look(const char *task_dir, struct err *e)
{
    _cleanup_free_ char *image = xasprintf("%s/" DISK_IMAGE, task_dir),
                        *mount_point = xasprintf("%s/" DISK_MOUNT, task_dir);
    _cleanup_close_ int backing = open(image, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char device[32];

    if (backing < 0)
        return err_step(e, "disk", errno, "cannot open the image");
    int rc, tries = LOCK_TRIES; /* the loop device goes a moment after its last user */
    while ((rc = flock(backing, LOCK_SH | LOCK_NB)) < 0 && errno == EWOULDBLOCK && --tries > 0)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    if (rc < 0)
        return err_set(e, 409, "disk_in_use", "the task's disk is still in use");
    _cleanup_close_ int loop = open_loop(backing, O_RDONLY, device);
    if (loop < 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(device, mount_point, "ext4", MS_RDONLY | MS_NOSUID | MS_NODEV, "noload") < 0)
        return err_step(e, "disk", errno, "cannot mount it");
    return 0;
}

static int mount_tmpfs(const struct sandbox *b)
{
    char options[64];

    snprintf(options, sizeof(options), "size=%lldm,mode=0755", (long long)b->spec->resources.disk);
    return mount("tmpfs", b->data_dir, "tmpfs", MS_NOSUID | MS_NODEV, options);
}

/* Reads back that it is a file system of its own and no larger than asked for. */
static int verify(const struct sandbox *b, struct err *e)
{
    struct stat inside, outside;
    struct statfs fs;

    if (stat(b->data_dir, &inside) < 0 || stat(b->task_dir, &outside) < 0 || statfs(b->data_dir, &fs) < 0)
        return err_step(e, "disk", errno, "cannot examine it");
    if (inside.st_dev == outside.st_dev)
        return err_step(e, "disk", EXDEV, "it was not mounted");
    if ((int64_t)fs.f_blocks * fs.f_bsize > b->spec->resources.disk << MIB_SHIFT)
        return err_step(e, "disk", ERANGE, "it is larger than asked for");
    return 0;
}

static int make(struct disk *d, const struct sandbox *b, struct err *e)
{
    _cleanup_close_ int dir = open(b->task_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (dir < 0 || (mkdirat(dir, DISK_MOUNT, 0755) < 0 && errno != EEXIST))
        return err_step(e, "disk", errno, "cannot make its directory");
    bool no_loop = access(MKE2FS, X_OK) < 0 || access("/dev/loop-control", F_OK) < 0;
    if (!no_loop && mount_ext4(b, dir) == 0)
        d->mode = DISK_EXT4;
    else if (!no_loop && errno == EFBIG)
        return err_field(e, "/resources/disk", "the state directory's file system holds no file of that size");
    else if (!no_loop)
        return err_step(e, "disk", errno, "cannot make the file system");
    else if (mount_tmpfs(b) == 0)
        d->mode = DISK_TMPFS;
    else
        return err_step(e, "disk", errno, "cannot mount a tmpfs");
    if (verify(b, e) < 0)
        return -1;
    d->ns_fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    d->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return d->ns_fd < 0 || d->root_fd < 0 ? err_step(e, "disk", errno, "cannot hold its namespace") : 0;
}

/* setns(2) also changes the root and the working directory to those of the namespace. */
static int go(int ns_fd, int root_fd)
{
    return setns(ns_fd, CLONE_NEWNS) < 0 || fchdir(root_fd) < 0 || chroot(".") < 0 || chdir("/") < 0 ? -1 : 0;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int disk_enter(struct disk *d, const struct sandbox *b, struct err *e)
{
    if (!b->spec->resources.disk)
        return 0;
    d->home_ns_fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    d->home_root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (d->home_ns_fd < 0 || d->home_root_fd < 0)
        return err_step(e, "disk", errno, "cannot hold our namespace");
    if (d->ns_fd >= 0)
        return go(d->ns_fd, d->root_fd) < 0 ? err_step(e, "disk", errno, "cannot enter its namespace") : 0;
    /* Slave: what the host mounts still arrives, ours stays here. */
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return err_step(e, "disk", errno, "cannot make a mount namespace");
    return make(d, b, e);
}

int disk_leave(struct disk *d, struct err *e)
{
    int rc = 0;

    if (d->home_ns_fd >= 0 && d->home_root_fd >= 0 && go(d->home_ns_fd, d->home_root_fd) < 0)
        rc = err_step(e, "disk", errno, "cannot return from its namespace");
    close_fd(&d->home_ns_fd);
    close_fd(&d->home_root_fd);
    return rc;
}
