/* Into a group. A move takes a lock that all forks and exits of the host share, and waits for an RCU grace period, 8 ms
 * and more, where no other was just before (the kernel's cgroup_threadgroup_rwsem, and kernel/rcu/sync.c). On v2 a
 * process can be born in its group instead, which waits for nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "isolation/cgroup_internal.h"

enum { JOIN_LOOKS = 20 };

/* One hierarchy, v2's. */
static bool is_v2(const struct cgroup_host *h)
{
    const char *mounts[CG_TREES];

    return h->v2_mount[0] && cg_trees(h, mounts) == 1;
}

int cgroup_open(const struct cgroup_host *h, const char *id)
{
    char dir[CG_PATH];

    if (!is_v2(h) || !cg_name_ok(id)) {
        errno = ENOTSUP;
        return -1;
    }
    cg_dir(h, h->v2_mount, id, dir);
    return open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* v1 makes the list for as many members as it has counted before, so that one who joins while others fork may be
 * missing from it once (pidlist_array_load in the kernel's cgroup-v1.c). */
static bool has_joined(const char *dir, pid_t pid)
{
    for (int i = 0; i < JOIN_LOOKS; i++)
        if (cg_has_pid(dir, pid))
            return true;
    return false;
}

int cgroup_attach(const struct cgroup_host *h, const char *id, pid_t pid, struct err *e)
{
    const char *mounts[CG_TREES];
    char dir[CG_PATH], text[CG_NAME];
    if (!cg_name_ok(id))
        return err_step(e, "cgroup_attach", EINVAL, "the task's id is no plain name");
    size_t n = cg_trees(h, mounts);
    bool born = is_v2(h), apart = cg_cpuset_dir(h, id, dir);
    for (size_t i = 0; i < n + apart; i++) { /* cgroup.procs moves all threads; v1's tasks, libcgroup's way, does not */
        if (i < n)
            cg_dir(h, mounts[i], id, dir);
        else
            cg_cpuset_dir(h, id, dir);
        snprintf(text, sizeof(text), "%d", (int)pid);
        if (born && cg_has_pid(dir, pid))
            continue;
        if (cg_write(dir, "cgroup.procs", text) < 0)
            return err_step(e, "cgroup_attach", errno, "cannot move the task into %s", dir);
        if (!has_joined(dir, pid))
            return err_step(e, "cgroup_attach", ESRCH, "the task is not in %s", dir);
    }
    return 0;
}
