/* Word from the kernel when it may have killed a task's processes for memory. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "isolation/cgroup_internal.h"

static int open_in(const char *dir, const char *file)
{
    char path[CG_FILE];

    snprintf(path, sizeof(path), "%s/%s", dir, file);
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* v1: an eventfd, registered by a line in cgroup.event_control (Documentation/admin-guide/cgroup-v1/memory.rst, 9 and
 * 10). Kernels without v1's OOM control (PREEMPT_RT) refuse. */
static int watch_v1(const char *dir)
{
    char line[32];
    _cleanup_close_ int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    _cleanup_close_ int control = open_in(dir, "memory.oom_control");

    if (event < 0 || control < 0)
        return -1;
    snprintf(line, sizeof(line), "%d %d", event, control);
    return cg_write(dir, "cgroup.event_control", line) < 0 ? -1 : take_fd(&event);
}

int cgroup_oom_watch(const struct cgroup_host *h, const char *id)
{
    char dir[CG_PATH];
    int version = h->ctl[CG_MEMORY].version;

    if (version == 0 || !cg_name_ok(id)) {
        errno = ENOTSUP;
        return -1;
    }
    cg_dir(h, h->ctl[CG_MEMORY].mount, id, dir);
    return version == 1 ? watch_v1(dir) : open_in(dir, "memory.events");
}

/* v2's file can be read at any time: POLLPRI alone tells of a change (kernfs_generic_poll in the kernel's
 * fs/kernfs/file.c; Documentation/admin-guide/cgroup-v2.rst, memory.events). */
uint32_t cgroup_oom_events(const struct cgroup_host *h)
{
    return h->ctl[CG_MEMORY].version == 1 ? EPOLLIN : EPOLLPRI;
}

bool cgroup_oom_clear(const struct cgroup_host *h, int fd)
{
    bool v1 = h->ctl[CG_MEMORY].version == 1;
    struct pollfd p = {.fd = fd, .events = v1 ? POLLIN : POLLPRI};
    char seen[4096];

    if (poll(&p, 1, 0) != 1)
        return false;
    /* v2 tells of changes since the file was last read through this very fd. */
    return (v1 ? read(fd, seen, sizeof(uint64_t)) : pread(fd, seen, sizeof(seen), 0)) > 0;
}
