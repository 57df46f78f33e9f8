/* Groups of tasks over all hierarchies: found at start, made, joined, removed. */
#include "isolation/cgroup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "isolation/cgroup_internal.h"
#include "isolation/cgroup_lib.h"
#include "isolation/devices.h"
#include "isolation/cpus.h"

enum { REMOVE_MS = 2000, REMOVE_SLEEP_MS = 10, DIR_MODE = 0755, READ_BACK = 4096 };

static const char *const names[CG_COUNT] = {
    [CG_CPU] = "cpu",       [CG_CPUACCT] = "cpuacct", [CG_MEMORY] = "memory",
    [CG_PIDS] = "pids",     [CG_FREEZER] = "freezer", [CG_DEVICES] = "devices",
    [CG_CPUSET] = "cpuset", [CG_IO] = "io",           [CG_HUGETLB] = "hugetlb",
};

const char *cgroup_controller_name(enum cgroup_controller c)
{
    return (unsigned)c < CG_COUNT ? names[c] : "?";
}

static const char *v1_name(enum cgroup_controller c)
{
    return c == CG_IO ? "blkio" : names[c];
}

bool cgroup_tracks(const struct cgroup_host *h)
{
    const char *mounts[CG_TREES];
    return cg_trees(h, mounts) > 0;
}

bool cgroup_tells_cpu(const struct cgroup_host *h)
{
    return h->v2_mount[0] || h->ctl[CG_CPUACCT].version;
}

void cgroup_missing(const struct cgroup_host *h, char out[CGROUP_MISSING_TEXT])
{
    static const enum cgroup_controller wanted[] = {CG_CPU, CG_CPUSET, CG_MEMORY, CG_PIDS};
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (!h->ctl[wanted[i]].version)
            len += (size_t)snprintf(out + len, CGROUP_MISSING_TEXT - len, "%s%s", len ? "," : "", names[wanted[i]]);
    }
}

/* Which hierarchy has the controller. */
static void find_controller(struct cgroup_host *h, enum cgroup_controller c)
{
    char mount[sizeof(h->ctl[c].mount)] = "";
    if (h->v2_mount[0] && cg_v2_offers(h->v2_mount, c)) {
        h->ctl[c].version = 2;
        snprintf(h->ctl[c].mount, sizeof(h->ctl[c].mount), "%s", h->v2_mount);
        return;
    }
    if (cglib_mount(v1_name(c), mount, sizeof(mount)) < 0 || !strcmp(mount, h->v2_mount))
        return;
    h->ctl[c].version = 1;
    snprintf(h->ctl[c].mount, sizeof(h->ctl[c].mount), "%s", mount);
}

/* On v1 a new group of the cpuset controller has no CPU and no memory node, and nothing can join it: cpuset(7). Only of
 * concern where cpuset shares a hierarchy with a controller that we use; task groups then clone the parent's. */
static void seed_cpuset(const char *mount, const char *dir)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    char have[1024], from[1024];
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (cg_read(dir, files[i], have, sizeof(have)) == 0 && !have[0] &&
            cg_read(mount, files[i], from, sizeof(from)) == 0)
            cg_write(dir, files[i], from);
    }
    if (cg_has(dir, "cpuset.cpus"))
        cg_write(dir, "cgroup.clone_children", "1");
}

/* A hierarchy that cannot be written to is as good as none: its limits are then refused by cgroup_check.
 * mount is no part of *h. */
static void drop_tree(struct cgroup_host *h, const char *mount)
{
    for (int c = 0; c < CG_COUNT; c++) {
        if (!strcmp(h->ctl[c].mount, mount)) {
            h->ctl[c].version = 0;
            h->ctl[c].mount[0] = '\0';
        }
    }
    if (!strcmp(h->v2_mount, mount))
        h->v2_mount[0] = '\0';
}

static int make_parts(const struct cgroup_host *h, struct err *e)
{
    static const char *const parts[] = {CG_SHARE, CG_RESERVE};
    char dir[CG_PATH];
    for (size_t i = 0; h->v2_mount[0] && i < sizeof(parts) / sizeof(parts[0]); i++) {
        snprintf(dir, sizeof(dir), "%s/%s/%s", h->v2_mount, h->parent, parts[i]);
        if (mkdir(dir, DIR_MODE) < 0 && errno != EEXIST)
            return err_step(e, "cgroup_create", errno, "cannot make the control group %s", dir);
    }
    return 0;
}

/* 0, or -1 with errno. One that is another user's, or takes no processes, is as good as none. */
static int make_parent(const char *mount, const char *dir)
{
    if (mkdir(dir, DIR_MODE) < 0 && (errno != EEXIST || access(dir, W_OK) < 0))
        return -1;
    seed_cpuset(mount, dir);
    if (cg_v2_takes_processes(dir))
        return 0;
    rmdir(dir);
    errno = EOPNOTSUPP;
    return -1;
}

static int make_parents(struct cgroup_host *h, struct err *e)
{
    const char *mounts[CG_TREES];
    char copies[CG_TREES][sizeof(h->v2_mount)], dir[CG_PATH];
    size_t n = cg_trees(h, mounts);
    for (size_t i = 0; i < n; i++)
        snprintf(copies[i], sizeof(copies[i]), "%s", mounts[i]);
    for (size_t i = 0; i < n; i++) {
        cg_dir(h, copies[i], NULL, dir);
        if (make_parent(copies[i], dir) == 0)
            continue;
        if (errno != EROFS && errno != EACCES && errno != EPERM && errno != EOPNOTSUPP)
            return err_step(e, "cgroup_create", errno, "cannot make the control group %s", dir);
        drop_tree(h, copies[i]);
    }
    return make_parts(h, e);
}

/* What cannot be passed on to our groups is as good as absent, see enable_in of cgroup_v2.c. */
static void enable_v2(struct cgroup_host *h)
{
    for (int c = 0; c < CG_COUNT; c++) {
        if (h->ctl[c].version == 2 && cg_v2_enable(h, (enum cgroup_controller)c) < 0) {
            h->ctl[c].version = 0;
            h->ctl[c].mount[0] = '\0';
        }
    }
}

static bool there(const char *mount, const char *parent, const char *part)
{
    char dir[CG_PATH];
    snprintf(dir, sizeof(dir), "%s/%s/%s", mount, parent, part);
    return access(dir, F_OK) == 0;
}

static bool parents_there(const struct cgroup_host *h)
{
    const char *mounts[CG_TREES];
    const char *parted[] = {h->v2_mount, h->ctl[CG_CPUSET].mount};
    size_t n = cg_trees(h, mounts);
    for (size_t i = 0; i < n; i++)
        if (!there(mounts[i], h->parent, ""))
            return false;
    for (size_t i = 0; i < sizeof(parted) / sizeof(parted[0]); i++)
        if (parted[i][0] && !(there(parted[i], h->parent, CG_SHARE) && there(parted[i], h->parent, CG_RESERVE)))
            return false;
    return true;
}

void cgroup_host_restore(const struct cgroup_host *h)
{
    struct cgroup_host copy = *h;
    struct err ignored = {0};
    if (parents_there(h) || make_parents(&copy, &ignored) < 0)
        return;
    enable_v2(&copy);
    cg_cpuset_init(&copy);
}

int cgroup_host_init(struct cgroup_host *h, const char *parent, struct err *e)
{
    *h = (struct cgroup_host){.mode = "none"};
    if (!cg_name_ok(parent))
        return err_set(e, 500, "invalid_config", "the control group parent \"%s\" is no plain name", parent);
    snprintf(h->parent, sizeof(h->parent), "%s", parent);
    cg_v2_mount(h->v2_mount, sizeof(h->v2_mount));
    for (int c = 0; c < CG_COUNT; c++)
        find_controller(h, (enum cgroup_controller)c);
    if (make_parents(h, e) < 0)
        return -1;
    enable_v2(h);
    cg_cpuset_init(h);
    devices_init(h);
    h->core_mhz = cpus_mhz();
    h->total_mhz = h->core_mhz * sysconf(_SC_NPROCESSORS_ONLN);
    bool v1 = false;
    for (int c = 0; c < CG_COUNT; c++)
        v1 = v1 || h->ctl[c].version == 1;
    h->mode = v1 ? (h->v2_mount[0] ? "hybrid" : "v1") : h->v2_mount[0] ? "v2" : "none";
    return 0;
}

static int create_v1(const struct cgroup_host *h, const char *id, const struct cg_value *v, size_t n, struct err *e)
{
    static const enum cgroup_controller used[] = {CG_CPU,     CG_CPUACCT, CG_MEMORY, CG_PIDS,
                                                  CG_FREEZER, CG_DEVICES, CG_IO,     CG_HUGETLB};
    struct cglib_value all[CG_COUNT + CG_VALUES];
    size_t count = 0;
    char path[CG_PATH];
    for (size_t i = 0; i < sizeof(used) / sizeof(used[0]); i++) {
        if (h->ctl[used[i]].version == 1)
            all[count++] = (struct cglib_value){v1_name(used[i]), NULL, NULL};
    }
    if (count == 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (h->ctl[v[i].ctl].version == 1)
            all[count++] = (struct cglib_value){v1_name(v[i].ctl), v[i].file, v[i].text};
    }
    snprintf(path, sizeof(path), "%s/%s", h->parent, id);
    const char *why = cglib_create(path, all, count);
    if (why)
        return err_step(e, "cgroup_create", errno ? errno : EIO, "cannot make the control group %s (%s)", path, why);
    if (h->ctl[CG_MEMORY].version == 1) { /* newer kernels may refuse it; without swap it means nothing */
        char dir[CG_PATH];
        cg_dir(h, h->ctl[CG_MEMORY].mount, id, dir);
        cg_write(dir, "memory.swappiness", "0");
    }
    return 0;
}

/* The group itself is there already when it has been made with its cores. */
static int create_v2(const struct cgroup_host *h, const char *id, const struct cg_value *v, size_t n, struct err *e)
{
    char dir[CG_PATH];
    if (!h->v2_mount[0])
        return 0;
    cg_dir(h, h->v2_mount, id, dir);
    if (mkdir(dir, DIR_MODE) < 0 && errno != EEXIST)
        return err_step(e, "cgroup_create", errno, "cannot make the control group %s", dir);
    for (size_t i = 0; i < n; i++) {
        if (h->ctl[v[i].ctl].version == 2 && cg_write(dir, v[i].file, v[i].text) < 0)
            return err_step(e, "cgroup_create", errno, "cannot set %s to %s", v[i].file, v[i].text);
    }
    return 0;
}

static bool has_line(const char *text, const char *line)
{
    size_t len = strlen(line);
    for (const char *at = text; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, line, len) == 0 && (at[len] == '\n' || !at[len]))
            return true;
    return false;
}

/* The kernel may round or clamp a value, and libcgroup skips what it takes for unchanged. */
int cg_verify(const struct cgroup_host *h, const char *id, const struct cg_value *v, size_t n, struct err *e)
{
    char dir[CG_PATH], text[READ_BACK];
    for (size_t i = 0; i < n; i++) {
        cg_dir(h, h->ctl[v[i].ctl].mount, id, dir);
        if (cg_read(dir, v[i].file, text, sizeof(text)) < 0)
            return err_step(e, "cgroup_create", errno, "cannot read %s back", v[i].file);
        if (v[i].line ? !has_line(text, v[i].text) : strcmp(text, v[i].text) != 0)
            return err_step(e, "cgroup_create", EINVAL, "%s is %.64s, not %s", v[i].file, text, v[i].text);
    }
    return 0;
}

/* libcgroup can say that it has made a group where it has not. */
static int verify(const struct cgroup_host *h, const char *id, const struct cg_value *v, size_t n, struct err *e)
{
    char dir[CG_PATH];
    const char *mounts[CG_TREES];
    size_t trees = cg_trees(h, mounts);
    for (size_t i = 0; i < trees; i++) {
        cg_dir(h, mounts[i], id, dir);
        if (!cg_has(dir, "cgroup.procs"))
            return err_step(e, "cgroup_create", ENOENT, "the control group %s is not there", dir);
    }
    return cg_verify(h, id, v, n, e);
}

int cgroup_create(const struct cgroup_host *h, const char *id, const struct resources *r, char cores[CGROUP_CORES_TEXT],
                  struct err *e)
{
    struct cg_value v[CG_VALUES];
    const char *mounts[CG_TREES];
    char dir[CG_PATH];
    if (!cg_name_ok(id))
        return err_step(e, "cgroup_create", EINVAL, "the task's id is no plain name");
    size_t trees = cg_trees(h, mounts), n = cg_values(h, r, v);
    cores[0] = '\0';
    for (size_t i = 0; i < trees; i++) { /* another's group must neither be joined nor rolled back */
        cg_dir(h, mounts[i], id, dir);
        if (access(dir, F_OK) == 0)
            return err_step(e, "cgroup_create", EEXIST, "the control group %s is already there", dir);
    }
    if (r->cores && cg_cores_reserve(h, id, (size_t)r->cores, cores, e) < 0)
        return -1;
    if (create_v1(h, id, v, n, e) == 0 && create_v2(h, id, v, n, e) == 0 && verify(h, id, v, n, e) == 0 &&
        devices_apply(h, id, e) == 0)
        return 0;
    cgroup_remove(h, id);
    return -1;
}

/* One try at one hierarchy; the controller is NULL on v2. */
static int remove_tree(const struct cgroup_host *h, const char *mount, const char *controller, const char *id)
{
    char dir[CG_PATH], path[CG_PATH];
    cg_dir(h, mount, id, dir);
    if (access(dir, F_OK) < 0)
        return errno == ENOENT ? 0 : -1;
    if (cg_remove_below(dir) < 0)
        return -1;
    if (cg_has_pid(dir, -1)) {
        errno = EBUSY;
        return -1;
    }
    snprintf(path, sizeof(path), "%s/%s", h->parent, id);
    if (controller)
        cglib_remove(path, controller); /* rmdir(2) below tells whether it has worked */
    return rmdir(dir) == 0 || errno == ENOENT ? 0 : -1;
}

static const char *controller_at(const struct cgroup_host *h, const char *mount)
{
    for (int c = 0; c < CG_COUNT; c++) {
        if (h->ctl[c].version == 1 && !strcmp(h->ctl[c].mount, mount))
            return v1_name((enum cgroup_controller)c);
    }
    return NULL;
}

/* The group with own cores in a cpuset hierarchy of its own; on v2 it has been removed like any other. */
static int remove_reserved(const struct cgroup_host *h, const char *id)
{
    char dir[CG_PATH];
    const char *name;
    if (cg_cpuset_dir(h, id, dir) && (name = strrchr(dir, '/')) && !strcmp(name + 1, id) && rmdir(dir) < 0 &&
        errno != ENOENT)
        return -1;
    cg_cores_release(h);
    return 0;
}

int cgroup_remove(const struct cgroup_host *h, const char *id)
{
    const char *mounts[CG_TREES];
    int64_t deadline = clock_mono_ms() + REMOVE_MS;
    if (!cg_name_ok(id)) {
        errno = EINVAL;
        return -1;
    }
    size_t n = cg_trees(h, mounts);
    for (;;) {
        int failed = 0;
        for (size_t i = 0; i < n; i++) {
            if (remove_tree(h, mounts[i], controller_at(h, mounts[i]), id) < 0)
                failed = errno;
        }
        if (remove_reserved(h, id) < 0)
            failed = errno;
        if (!failed)
            return 0;
        if (failed != EBUSY || clock_mono_ms() >= deadline) {
            errno = failed;
            return -1;
        }
        nanosleep(&(struct timespec){.tv_nsec = REMOVE_SLEEP_MS * 1000000}, NULL);
    }
}

struct each {
    void (*fn)(void *arg, const char *id);
    void *arg;
};

static int each_child(void *arg, const char *dir, const char *name)
{
    const struct each *each = arg;
    (void)dir;
    each->fn(each->arg, name);
    return 0;
}

static int each_part(void *arg, const char *dir, const char *name)
{
    char path[CG_PATH];
    if (strcmp(name, CG_SHARE) != 0 && strcmp(name, CG_RESERVE) != 0)
        return 0;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return cg_children(path, each_child, arg);
}

void cgroup_each(const struct cgroup_host *h, void (*fn)(void *arg, const char *id), void *arg)
{
    const char *mounts[CG_TREES];
    char dir[CG_PATH];
    size_t n = cg_trees(h, mounts);
    struct each each = {fn, arg};
    for (size_t i = 0; i < n; i++) {
        cg_dir(h, mounts[i], NULL, dir);
        if (strcmp(mounts[i], h->v2_mount) != 0)
            cg_children(dir, each_child, &each);
        else
            cg_children(dir, each_part, &each);
    }
}
