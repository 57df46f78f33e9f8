/* Cores of a task's own. The parent group has two parts, as Nomad's has: share, whose tasks use all cores that nobody
 * has for itself, and reserve, with a group for each task that has. What is taken is read from the groups themselves,
 * under a lock on the reserve's directory: nothing can get out of step, whoever dies. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "isolation/cgroup_internal.h"
#include "isolation/cpus.h"

enum { NODES_MAX = 64, DIR_MODE = 0755 };

static void part_dir(const struct cgroup_host *h, const char *part, char out[CG_PATH])
{
    snprintf(out, CG_PATH, "%s/%s%s%s", h->ctl[CG_CPUSET].mount, h->parent, part ? "/" : "", part ? part : "");
}

static int read_cpus(const char *dir, const char *file, struct cpus *c)
{
    char text[CPUS_TEXT];
    return cg_read(dir, file, text, sizeof(text)) < 0 ? -1 : cpus_parse(text, c);
}

/* The cores that the parent group may use. */
static int usable(const struct cgroup_host *h, struct cpus *c)
{
    char dir[CG_PATH];
    part_dir(h, NULL, dir);
    return read_cpus(dir, h->ctl[CG_CPUSET].version == 2 ? "cpuset.cpus.effective" : "cpuset.effective_cpus", c);
}

static int add_taken(void *arg, const char *dir, const char *name)
{
    struct cpus c;
    char path[CG_PATH];
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) < sizeof(path) &&
        read_cpus(path, "cpuset.cpus", &c) == 0)
        cpus_add(arg, &c);
    return 0;
}

static struct cpus taken(const char *reserve)
{
    struct cpus c = {{0}};
    cg_children(reserve, add_taken, &c);
    return c;
}

static int write_cpus(const char *dir, const struct cpus *c)
{
    char text[CPUS_TEXT];
    struct cpus is;
    /* an empty set is a line of its own: a write of no bytes would be none */
    if (cpus_format(c, text, sizeof(text)) < 0 || cg_write(dir, "cpuset.cpus", text[0] ? text : "\n") < 0 ||
        read_cpus(dir, "cpuset.cpus", &is) < 0)
        return -1;
    if (memcmp(&is, c, sizeof(is)) == 0)
        return 0;
    errno = EINVAL;
    return -1;
}

/* share = usable without what is taken; reserve = what is taken. */
static int balance(const struct cgroup_host *h, const struct cpus *own)
{
    char share[CG_PATH], reserve[CG_PATH];
    struct cpus all;
    part_dir(h, CG_SHARE, share);
    part_dir(h, CG_RESERVE, reserve);
    if (usable(h, &all) < 0)
        return -1;
    cpus_remove(&all, own);
    return write_cpus(share, &all) < 0 || write_cpus(reserve, own) < 0 ? -1 : 0;
}

/* On v1 a group without memory nodes takes no process: cpuset(7). */
static int copy_mems(const char *from, const char *to)
{
    char text[CPUS_TEXT];
    return cg_read(from, "cpuset.mems", text, sizeof(text)) < 0 || cg_write(to, "cpuset.mems", text) < 0 ? -1 : 0;
}

static int lock_reserve(const struct cgroup_host *h)
{
    char dir[CG_PATH];
    part_dir(h, CG_RESERVE, dir);
    _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0 && flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return -1;
    return take_fd(&fd);
}

static int make_part(const struct cgroup_host *h, const char *part)
{
    char parent[CG_PATH], dir[CG_PATH];
    part_dir(h, NULL, parent);
    part_dir(h, part, dir);
    if ((mkdir(parent, DIR_MODE) < 0 && errno != EEXIST) || (mkdir(dir, DIR_MODE) < 0 && errno != EEXIST))
        return -1;
    if (h->ctl[CG_CPUSET].version == 2)
        return 0;
    char text[CPUS_TEXT];
    if (cg_read(parent, "cpuset.cpus", text, sizeof(text)) < 0)
        return -1;
    if (!text[0] && (copy_mems(h->ctl[CG_CPUSET].mount, parent) < 0 ||
                     cg_read(h->ctl[CG_CPUSET].mount, "cpuset.cpus", text, sizeof(text)) < 0 ||
                     cg_write(parent, "cpuset.cpus", text) < 0))
        return -1;
    return copy_mems(parent, dir);
}

/* Whether a controller that every task's group needs sits in the same v1 hierarchy. */
static bool together(const struct cgroup_host *h)
{
    const char *mounts[CG_TREES];
    size_t n = cg_trees(h, mounts);
    for (size_t i = 0; i < n; i++) {
        if (h->ctl[CG_CPUSET].version == 1 && strcmp(mounts[i], h->ctl[CG_CPUSET].mount) == 0)
            return true;
    }
    return false;
}

void cg_cpuset_init(struct cgroup_host *h)
{
    struct cpus own;
    char dir[CG_PATH];
    if (!h->ctl[CG_CPUSET].version)
        return;
    if (!together(h) && make_part(h, CG_SHARE) == 0 && make_part(h, CG_RESERVE) == 0) {
        _cleanup_close_ int lock = lock_reserve(h);
        part_dir(h, CG_RESERVE, dir);
        own = taken(dir);
        if (lock >= 0 && balance(h, &own) == 0)
            return;
    }
    h->ctl[CG_CPUSET].version = 0;
    h->ctl[CG_CPUSET].mount[0] = '\0';
}

static int make_reserved(const struct cgroup_host *h, const char *dir, const char *reserve, const struct cpus *picked)
{
    if (mkdir(dir, DIR_MODE) < 0)
        return -1;
    if ((h->ctl[CG_CPUSET].version == 1 && copy_mems(reserve, dir) < 0) || write_cpus(dir, picked) < 0) {
        int saved = errno;
        rmdir(dir);
        errno = saved;
        return -1;
    }
    return 0;
}

int cg_cores_reserve(const struct cgroup_host *h, const char *id, size_t n, char out[CGROUP_CORES_TEXT], struct err *e)
{
    struct cpus nodes[NODES_MAX], all, own, picked;
    char reserve[CG_PATH], dir[CG_FILE];
    part_dir(h, CG_RESERVE, reserve);
    snprintf(dir, sizeof(dir), "%s/%s", reserve, id);
    _cleanup_close_ int lock = lock_reserve(h);
    own = taken(reserve);
    if (lock < 0 || usable(h, &all) < 0)
        return err_step(e, "cgroup_create", errno, "cannot read the cores of %s", reserve);
    cpus_remove(&all, &own);
    if (cpus_count(&all) < n + 1 || !cpus_pick(&all, n, nodes, cpus_nodes(nodes, NODES_MAX), &picked)) {
        err_set(e, 503, "cores_unavailable", "%zu cores are free, one of them must stay shared", cpus_count(&all));
        snprintf(e->pointer, sizeof(e->pointer), "/resources/cores");
        return -1;
    }
    cpus_add(&own, &picked);
    /* the reserve must have the cores before a group below it can */
    if (cpus_format(&picked, out, CGROUP_CORES_TEXT) < 0 || balance(h, &own) < 0 ||
        make_reserved(h, dir, reserve, &picked) < 0) {
        err_step(e, "cgroup_create", errno, "cannot reserve the cores %s", out);
        own = taken(reserve);
        balance(h, &own);
        return -1;
    }
    return 0;
}

void cg_cores_release(const struct cgroup_host *h)
{
    char reserve[CG_PATH];
    struct cpus is;
    if (!h->ctl[CG_CPUSET].version)
        return;
    part_dir(h, CG_RESERVE, reserve);
    if (read_cpus(reserve, "cpuset.cpus", &is) == 0 && cpus_count(&is) == 0)
        return; /* nobody has any: the common case needs no lock */
    _cleanup_close_ int lock = lock_reserve(h);
    struct cpus own = taken(reserve);
    if (lock >= 0 && memcmp(&own, &is, sizeof(own)) != 0)
        balance(h, &own);
}

bool cg_cpuset_dir(const struct cgroup_host *h, const char *id, char out[CG_PATH])
{
    if (h->ctl[CG_CPUSET].version != 1)
        return false;
    snprintf(out, CG_PATH, "%s/%s/" CG_RESERVE "/%s", h->ctl[CG_CPUSET].mount, h->parent, id);
    if (access(out, F_OK) < 0)
        snprintf(out, CG_PATH, "%s/%s/" CG_SHARE, h->ctl[CG_CPUSET].mount, h->parent);
    return true;
}
