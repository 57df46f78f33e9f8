#include "isolation/netns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"

static void dir_close(DIR **d)
{
    if (*d)
        closedir(*d);
}
#define _cleanup_dir_ __attribute__((cleanup(dir_close)))

static int open_spaces(const struct policy *p, bool create)
{
    _cleanup_free_ char *path = xasprintf("%s/netns/spaces", p->run_dir);

    if (create && file_mkdirs(path, 0700) < 0)
        return -1;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Whether the name still leads to the directory: whoever had the lock before may have removed it. */
static bool still_there(int spaces_fd, const char *key, int fd)
{
    struct stat here, there;

    return fstat(fd, &here) == 0 && fstatat(spaces_fd, key, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

int netns_open(struct netns *n, const struct policy *p, const char *key, bool create)
{
    n->dir_fd = -1;
    n->policy = p;
    int pin = snprintf(n->pin, sizeof(n->pin), "%s/netns/spaces/%s/ns", p->run_dir, key);
    int name = snprintf(n->key, sizeof(n->key), "%s", key);
    if (name < 0 || (size_t)name >= sizeof(n->key) || pin < 0 || (size_t)pin >= sizeof(n->pin)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    _cleanup_close_ int spaces = open_spaces(p, create);
    while (spaces >= 0) {
        if (create && mkdirat(spaces, key, 0700) < 0 && errno != EEXIST)
            return -1;
        _cleanup_close_ int fd = openat(spaces, key, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && !(create && errno == ENOENT))
            return -1;
        bool locked = fd >= 0 && flock(fd, LOCK_EX) == 0;
        if (fd >= 0 && !locked && errno != EINTR)
            return -1;
        if (locked && still_there(spaces, key, fd)) {
            n->dir_fd = take_fd(&fd);
            return 0;
        }
    }
    return -1;
}

void netns_close(struct netns *n)
{
    if (n->dir_fd >= 0)
        close(n->dir_fd);
    n->dir_fd = -1;
}

int netns_loopback_up(void)
{
    struct ifreq ifr = {.ifr_name = "lo"};
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
        return -1;
    ifr.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
        return -1;
    if (ifr.ifr_flags & IFF_UP)
        return 0;
    errno = ENETDOWN;
    return -1;
}

bool netns_pinned(const struct netns *n)
{
    struct statfs fs;

    return statfs(n->pin, &fs) == 0 && fs.f_type == NSFS_MAGIC;
}

/* The caller must not leave its own namespace, so a child makes the new one. Its exit status is an errno. */
static int make_in_child(const char *pin)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(unshare(CLONE_NEWNET) < 0 || netns_loopback_up() < 0 ||
                      mount("/proc/self/ns/net", pin, NULL, MS_BIND, NULL) < 0
                  ? errno & 0xff
                  : 0);
    if (pid < 0)
        return -1;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
    return errno ? -1 : 0;
}

int netns_make(struct netns *n)
{
    if (netns_pinned(n))
        return 0;
    _cleanup_close_ int fd = openat(n->dir_fd, "ns", O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0400);
    if (fd < 0 || make_in_child(n->pin) < 0)
        return -1;
    if (netns_pinned(n))
        return 0;
    errno = ENODEV;
    return -1;
}

int netns_join(struct netns *n, const char *id)
{
    _cleanup_free_ char *name = xasprintf("members/%s", id);

    if (mkdirat(n->dir_fd, "members", 0700) < 0 && errno != EEXIST)
        return -1;
    _cleanup_close_ int fd = openat(n->dir_fd, name, O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return -1;
    return take_fd(&fd);
}

static bool member_lives(int members_fd, const char *id)
{
    _cleanup_close_ int fd = openat(members_fd, id, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

int netns_sweep(struct netns *n, const char *id)
{
    int left = 0, fd = openat(n->dir_fd, "members", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_dir_ DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

    if (fd < 0 && errno == ENOENT)
        return 0;
    if (!d)
        return -1;
    for (struct dirent *entry; (entry = readdir(d));) {
        if (entry->d_name[0] == '.' || (id && strcmp(id, entry->d_name) == 0))
            continue;
        if (member_lives(fd, entry->d_name))
            left++;
        else if (unlinkat(fd, entry->d_name, 0) < 0)
            return -1;
    }
    return left;
}

int netns_leave(struct netns *n, const char *id)
{
    _cleanup_free_ char *name = xasprintf("members/%s", id);

    return unlinkat(n->dir_fd, name, 0) < 0 && errno != ENOENT ? -1 : 0;
}

int netns_remove(struct netns *n, bool all)
{
    _cleanup_close_ int spaces = open_spaces(n->policy, false);

    if (spaces < 0)
        return -1;
    while (netns_pinned(n))
        if (umount2(n->pin, MNT_DETACH) < 0)
            return -1;
    if (unlinkat(n->dir_fd, "ns", 0) < 0 && errno != ENOENT)
        return -1;
    if (!all)
        return 0;
    return file_remove_tree(spaces, n->key);
}

int netns_each(const struct policy *p, int (*fn)(void *arg, const char *key), void *arg)
{
    int rc = 0, fd = open_spaces(p, false);
    _cleanup_dir_ DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

    if (!d)
        return 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(d));)
        if (entry->d_name[0] != '.')
            rc = fn(arg, entry->d_name);
    return rc;
}
