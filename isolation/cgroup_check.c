/* Which limits this host can enforce. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "isolation/cgroup_internal.h"

static int check_controllers(const struct cgroup_host *h, const struct resources *r, struct err *e)
{
    const struct {
        bool asked;
        enum cgroup_controller ctl;
        const char *pointer;
    } needs[] = {
        {r->cpu, CG_CPU, "/resources/cpu"},
        {r->cores, CG_CPUSET, "/resources/cores"},
        {r->cpu_hard_limit, CG_CPU, "/resources/cpu_hard_limit"},
        {r->memory, CG_MEMORY, "/resources/memory"},
        {r->memory_max, CG_MEMORY, "/resources/memory_max"},
        {r->swap, CG_MEMORY, "/resources/swap"},
        {r->pids, CG_PIDS, "/resources/pids"},
        {r->io.weight || r->io.limits.n, CG_IO, "/resources/io"},
        {r->hugetlb.n, CG_HUGETLB, "/resources/hugetlb"},
    };
    for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
        if (needs[i].asked && !h->ctl[needs[i].ctl].version)
            return err_field(e, needs[i].pointer, "this host has no %s controller",
                             cgroup_controller_name(needs[i].ctl));
    }
    return 0;
}

int cg_device(const char *name, char out[CG_NAME])
{
    char path[CG_FILE];
    struct stat st;
    dev_t device;
    unsigned major_number, minor_number;
    if (sscanf(name, "%u:%u", &major_number, &minor_number) == 2) {
        device = makedev(major_number, minor_number);
    } else {
        if (stat(name, &st) < 0)
            return -1;
        if (!S_ISBLK(st.st_mode)) {
            errno = ENOTBLK;
            return -1;
        }
        device = st.st_rdev;
    }
    snprintf(out, CG_NAME, "%u:%u", major(device), minor(device));
    snprintf(path, sizeof(path), "/sys/dev/block/%s", out);
    if (access(path, F_OK) < 0)
        return -1;
    snprintf(path, sizeof(path), "/sys/dev/block/%s/partition", out);
    if (access(path, F_OK) == 0) { /* the kernel throttles whole disks */
        errno = ENOTSUP;
        return -1;
    }
    return 0;
}

const char *cg_io_weight_file(const struct cgroup_host *h)
{
    static const char *const files[] = {"io.weight", "io.bfq.weight", "blkio.weight", "blkio.bfq.weight"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (cg_child_has(h, CG_IO, files[i]))
            return files[i];
    }
    return NULL;
}

void cg_hugetlb_file(const struct cgroup_host *h, const char *page_size, char out[CG_NAME])
{
    snprintf(out, CG_NAME, "hugetlb.%.15s.%s", page_size, h->ctl[CG_HUGETLB].version == 2 ? "max" : "limit_in_bytes");
}

static int check_io(const struct cgroup_host *h, const struct io_limits *io, struct err *e)
{
    char device[CG_NAME], pointer[RECORD_POINTER];
    if (io->weight && !cg_io_weight_file(h))
        return err_field(e, "/resources/io/weight", "this host's I/O scheduler has no weights");
    for (size_t i = 0; i < io->limits.n; i++) {
        const struct io_limit *limit = &((const struct io_limit *)io->limits.v)[i];
        snprintf(pointer, sizeof(pointer), "/resources/io/limits/%zu/device", i);
        if (cg_device(limit->device, device) == 0)
            continue;
        return err_field(e, pointer,
                         errno == ENOTSUP ? "\"%.64s\" is a partition: name the disk"
                                          : "there is no block device \"%.64s\"",
                         limit->device);
    }
    if (io->limits.n && !cg_child_has(h, CG_IO, "io.max") && !cg_child_has(h, CG_IO, "blkio.throttle.read_bps_device"))
        return err_field(e, "/resources/io/limits", "this kernel does not throttle block I/O");
    return 0;
}

/* Of a name such as "2MB" (spec_check_page_size), in KiB. */
static int64_t page_kib(const char *name)
{
    char *unit;
    int64_t n = strtoll(name, &unit, 10);

    return n << (*unit == 'G' ? 20 : *unit == 'M' ? 10 : 0);
}

static int check_hugetlb(const struct cgroup_host *h, const struct records *limits, struct err *e)
{
    const struct hugetlb_limit *v = limits->v;
    char file[CG_NAME], pointer[RECORD_POINTER];
    for (size_t i = 0; i < limits->n; i++) {
        snprintf(pointer, sizeof(pointer), "/resources/hugetlb/%zu/page_size", i);
        cg_hugetlb_file(h, v[i].page_size, file);
        if (!cg_child_has(h, CG_HUGETLB, file))
            return err_field(e, pointer, "this host has no huge pages of %s", v[i].page_size);
        for (size_t k = 0; k < i; k++)
            if (strcmp(v[k].page_size, v[i].page_size) == 0)
                return err_field(e, pointer, "is in the list already");
        snprintf(pointer, sizeof(pointer), "/resources/hugetlb/%zu/limit", i);
        if ((v[i].limit << 10) % page_kib(v[i].page_size) != 0)
            return err_field(e, pointer, "must be whole pages of %s", v[i].page_size);
    }
    return 0;
}

int cgroup_check(const struct cgroup_host *h, const struct resources *r, struct err *e)
{
    if (check_controllers(h, r, e) < 0)
        return -1;
    if (r->cores >= sysconf(_SC_NPROCESSORS_ONLN))
        return err_field(e, "/resources/cores", "must leave at least one of the %ld cores of this host to share",
                         sysconf(_SC_NPROCESSORS_ONLN));
    if (r->swap && !cg_child_has(h, CG_MEMORY, "memory.swap.max") &&
        !cg_child_has(h, CG_MEMORY, "memory.memsw.limit_in_bytes"))
        return err_field(e, "/resources/swap", "this kernel does not account swap");
    return check_io(h, &r->io, e) < 0 || check_hugetlb(h, &r->hugetlb, e) < 0 ? -1 : 0;
}
