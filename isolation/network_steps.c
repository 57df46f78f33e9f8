/* The network's steps in the child: into the namespace, and the files of /etc that tell of it. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "isolation/netns.h"
#include "isolation/steps.h"

enum { LINKS_MAX = 40 }; /* as path_resolution(7) */

static int join(const struct network *n, struct err *e)
{
    struct statfs fs;
    _cleanup_close_ int fd = open(n->pin, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || fstatfs(fd, &fs) < 0)
        return err_step(e, "network", errno, "cannot open the network namespace");
    if (fs.f_type != NSFS_MAGIC)
        return err_step(e, "network", EINVAL, "the network namespace is none");
    if (setns(fd, CLONE_NEWNET) < 0)
        return err_step(e, "network", errno, "cannot join the network namespace");
    return 0;
}

/* Whether an interface of this namespace has the address. */
static bool has_address(const char *ip)
{
    struct ifaddrs *all = NULL;
    char text[INET6_ADDRSTRLEN];
    bool found = false;

    if (getifaddrs(&all) < 0)
        return false;
    for (const struct ifaddrs *a = all; a && !found; a = a->ifa_next) {
        int family = a->ifa_addr ? a->ifa_addr->sa_family : AF_UNSPEC;
        const void *bytes = family == AF_INET    ? (const void *)&((struct sockaddr_in *)(void *)a->ifa_addr)->sin_addr
                            : family == AF_INET6 ? &((struct sockaddr_in6 *)(void *)a->ifa_addr)->sin6_addr
                                                 : NULL;

        found = bytes && inet_ntop(family, bytes, text, sizeof(text)) && strcmp(text, ip) == 0;
    }
    freeifaddrs(all);
    return found;
}

int step_network(struct entry *c, struct err *e)
{
    const struct network *n = c->b->network;
    struct stat st;

    if (!n || n->mode == NET_HOST)
        return 0;
    if (n->pin[0] && join(n, e) < 0)
        return -1;
    if (stat("/proc/self/ns/net", &st) < 0)
        return err_step(e, "network", errno, "cannot examine the network namespace");
    if (st.st_ino == n->host_inode || (n->pin[0] && st.st_ino != n->inode))
        return err_step(e, "network", EPERM, "the network namespace is not the task's");
    if (netns_loopback_up() < 0)
        return err_step(e, "network", errno, "cannot bring the loopback up");
    if (n->status.ip[0] && !has_address(n->status.ip))
        return err_step(e, "network", EADDRNOTAVAIL, "no interface has the address %s", n->status.ip);
    return 0;
}

/* Where the link at path leads, as a path from the root. ".." takes off the component before it. */
static int follow(const char *path, const char *target, char out[PATH_MAX])
{
    _cleanup_buf_ struct buf b = {0};
    _cleanup_free_ char *joined = target[0] == '/' ? xstrdup(target) : xasprintf("%s/../%s", path, target);
    char *save = NULL;

    for (char *part = strtok_r(joined, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
        if (strcmp(part, "..") == 0) {
            while (b.len > 0 && b.data[--b.len] != '/')
                ;
            if (b.data)
                b.data[b.len] = '\0';
        } else if (strcmp(part, ".") != 0) {
            buf_printf(&b, "/%s", part);
        }
    }
    int n = snprintf(out, PATH_MAX, "%s", b.len ? b.data : "/");
    return n < PATH_MAX ? 0 : -1;
}

/* The file that path names below the new root, which is made if it is missing, also where links lead to nothing: a
 * host with systemd-resolved has a link into /run, which the task has no copy of. 0 or -1 with errno. */
static int make_target(struct entry *c, const char *path, char out[PATH_MAX])
{
    char target[PATH_MAX], next[PATH_MAX];

    snprintf(out, PATH_MAX, "%s", path);
    for (int i = 0; i < LINKS_MAX; i++) {
        _cleanup_close_ int fd = root_open(c->root_fd, out, O_PATH | O_NOFOLLOW);
        if (fd < 0)
            return errno == ENOENT ? root_mkfile(c->root_fd, out) : -1;
        ssize_t n = readlinkat(fd, "", target, sizeof(target) - 1);
        if (n < 0)
            return errno == EINVAL || errno == ENOENT ? 0 : -1; /* no link */
        target[n] = '\0';
        if (follow(out, target, next) < 0)
            return -1;
        memcpy(out, next, sizeof(next));
    }
    errno = ELOOP;
    return -1;
}

static bool same_file(int root_fd, const char *path, const char *host_path)
{
    struct stat a, b;
    _cleanup_close_ int fd = root_open(root_fd, path, O_PATH);

    return fd >= 0 && fstat(fd, &a) == 0 && stat(host_path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int step_network_files(struct entry *c, struct err *e)
{
    char target[PATH_MAX];

    for (int f = 0; f < NET_FILES; f++) {
        const char *name = network_file_names[f];
        _cleanup_free_ char *src = xasprintf("%s/etc/%s", c->b->task_dir, name);
        _cleanup_free_ char *dst = xasprintf("/etc/%s", name);

        if (!network_file_wanted(c->b, (enum network_file)f))
            continue;
        if (make_target(c, dst, target) < 0 ||
            root_mount(c->root_fd, src, target, NULL, MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
            return err_step(e, "network_files", errno, "cannot put %s in place", dst);
        if (!same_file(c->root_fd, dst, src))
            return err_step(e, "network_files", EXDEV, "%s is not the task's", dst);
    }
    return 0;
}
