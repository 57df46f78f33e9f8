/* Limits as values of a group's files. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "isolation/cgroup_internal.h"

enum { SHARES_MIN = 2, SHARES_MAX = 262144, WEIGHT_MAX = 10000, PERIOD_US = 100000, QUOTA_MIN_US = 1000 };

static const int64_t mib = 1024 * 1024;

/* cpu.shares to cpu.weight so that the default of the one (1024) is the default of the other (100), by the curve of
 * OCI's runc and crun. */
static int64_t weight_of(int64_t shares)
{
    if (shares <= SHARES_MIN)
        return 1;
    if (shares >= SHARES_MAX)
        return WEIGHT_MAX;
    double l = log2((double)shares);
    return (int64_t)ceil(pow(10, (l * l + 125 * l) / 612 - 7.0 / 34.0));
}

struct list {
    const struct cgroup_host *h;
    struct cg_value *v;
    size_t n;
};

/* file is NULL where there is nothing to write. */
static struct cg_value *put_text(struct list *l, enum cgroup_controller c, const char *file, const char *text)
{
    if (!file || l->n == CG_VALUES)
        return NULL;
    struct cg_value *v = &l->v[l->n++];
    v->ctl = c;
    v->line = false;
    snprintf(v->file, sizeof(v->file), "%s", file);
    snprintf(v->text, sizeof(v->text), "%s", text);
    return v;
}

/* The file's name on v1 or v2, whichever has the controller. */
static const char *pick(const struct list *l, enum cgroup_controller c, const char *v1, const char *v2)
{
    return l->h->ctl[c].version == 1 ? v1 : l->h->ctl[c].version == 2 ? v2 : NULL;
}

static void put(struct list *l, enum cgroup_controller c, const char *v1, const char *v2, int64_t number)
{
    char text[CG_TEXT];
    snprintf(text, sizeof(text), "%" PRId64, number);
    put_text(l, c, pick(l, c, v1, v2), text);
}

bool cg_child_has(const struct cgroup_host *h, enum cgroup_controller c, const char *file)
{
    char dir[CG_PATH];
    snprintf(dir, sizeof(dir), "%s/%s", h->ctl[c].mount, h->parent);
    return h->ctl[c].version && cg_has(dir, file);
}

int64_t cgroup_mhz(const struct cgroup_host *h, const struct resources *r)
{
    return r->cpu ? r->cpu : r->cores * h->core_mhz;
}

/* MHz to shares. A host with more than SHARES_MAX MHz scales down, so that all its tasks keep their proportions. */
static int64_t shares_of(int64_t mhz, int64_t total_mhz)
{
    if (total_mhz > SHARES_MAX)
        mhz = (int64_t)((double)mhz * SHARES_MAX / (double)total_mhz);
    return mhz < SHARES_MIN ? SHARES_MIN : mhz > SHARES_MAX ? SHARES_MAX : mhz;
}

static void put_cpu(struct list *l, const struct resources *r)
{
    char text[CG_TEXT];
    int64_t mhz = cgroup_mhz(l->h, r);
    if (!mhz)
        return;
    int64_t shares = shares_of(mhz, l->h->total_mhz);
    put(l, CG_CPU, "cpu.shares", "cpu.weight", l->h->ctl[CG_CPU].version == 2 ? weight_of(shares) : shares);
    if (!r->cpu_hard_limit)
        return;
    int64_t quota = mhz * PERIOD_US / l->h->core_mhz;
    if (quota < QUOTA_MIN_US) /* the kernel takes no less */
        quota = QUOTA_MIN_US;
    put(l, CG_CPU, "cpu.cfs_period_us", NULL, PERIOD_US);
    put(l, CG_CPU, "cpu.cfs_quota_us", NULL, quota);
    snprintf(text, sizeof(text), "%" PRId64 " %d", quota, PERIOD_US);
    put_text(l, CG_CPU, pick(l, CG_CPU, NULL, "cpu.max"), text);
}

static void put_memory(struct list *l, const struct resources *r)
{
    int64_t hard = r->memory_max > 0 ? r->memory_max : r->memory_max == -1 ? 0 : r->memory;
    if (hard)
        put(l, CG_MEMORY, "memory.limit_in_bytes", "memory.max", hard * mib);
    /* v1 counts memory and swap together */
    if (hard && r->swap >= 0 && cg_child_has(l->h, CG_MEMORY, "memory.memsw.limit_in_bytes"))
        put(l, CG_MEMORY, "memory.memsw.limit_in_bytes", NULL, (hard + r->swap) * mib);
    if (r->memory && r->memory_max)
        put(l, CG_MEMORY, "memory.soft_limit_in_bytes", "memory.low", r->memory * mib);
    if (r->swap >= 0 && cg_child_has(l->h, CG_MEMORY, "memory.swap.max"))
        put(l, CG_MEMORY, NULL, "memory.swap.max", r->swap * mib);
}

static const char *number_or_max(int64_t n, char text[CG_NAME])
{
    snprintf(text, CG_NAME, "%" PRId64, n);
    return n ? text : "max";
}

static void put_io_v1(struct list *l, const struct io_limit *limit, const char *device)
{
    const struct {
        const char *file;
        int64_t value;
    } files[] = {
        {"blkio.throttle.read_bps_device", limit->read_bps},
        {"blkio.throttle.write_bps_device", limit->write_bps},
        {"blkio.throttle.read_iops_device", limit->read_iops},
        {"blkio.throttle.write_iops_device", limit->write_iops},
    };
    char text[CG_TEXT];
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(text, sizeof(text), "%s %" PRId64, device, files[i].value);
        struct cg_value *v = files[i].value ? put_text(l, CG_IO, files[i].file, text) : NULL;
        if (v)
            v->line = true;
    }
}

static void put_io_v2(struct list *l, const struct io_limit *limit, const char *device)
{
    char text[CG_TEXT], rbps[CG_NAME], wbps[CG_NAME], riops[CG_NAME], wiops[CG_NAME];
    int n = snprintf(text, sizeof(text), "%s rbps=%s wbps=%s riops=%s wiops=%s", device,
                     number_or_max(limit->read_bps, rbps), number_or_max(limit->write_bps, wbps),
                     number_or_max(limit->read_iops, riops), number_or_max(limit->write_iops, wiops));
    struct cg_value *v = n < CG_TEXT ? put_text(l, CG_IO, "io.max", text) : NULL;
    if (v)
        v->line = true;
}

static void put_io(struct list *l, const struct io_limits *io)
{
    char text[CG_TEXT], device[CG_NAME];
    const char *file = io->weight ? cg_io_weight_file(l->h) : NULL;
    if (file) {
        snprintf(text, sizeof(text), "%s%" PRId64, l->h->ctl[CG_IO].version == 2 ? "default " : "", io->weight);
        struct cg_value *v = put_text(l, CG_IO, file, text);
        if (v)
            v->line = true;
    }
    for (size_t i = 0; i < io->limits.n; i++) {
        const struct io_limit *limit = &((const struct io_limit *)io->limits.v)[i];
        if (cg_device(limit->device, device) < 0)
            continue; /* cgroup_check has refused it */
        if (l->h->ctl[CG_IO].version == 1)
            put_io_v1(l, limit, device);
        else
            put_io_v2(l, limit, device);
    }
}

static void put_hugetlb(struct list *l, const struct records *limits)
{
    char file[CG_NAME], text[CG_TEXT];
    for (size_t i = 0; i < limits->n; i++) {
        const struct hugetlb_limit *limit = &((const struct hugetlb_limit *)limits->v)[i];
        cg_hugetlb_file(l->h, limit->page_size, file);
        snprintf(text, sizeof(text), "%" PRId64, limit->limit * mib);
        put_text(l, CG_HUGETLB, file, text);
    }
}

size_t cg_values(const struct cgroup_host *h, const struct resources *r, struct cg_value out[CG_VALUES])
{
    struct list l = {h, out, 0};
    put_cpu(&l, r);
    put_memory(&l, r);
    if (r->pids)
        put(&l, CG_PIDS, "pids.max", "pids.max", r->pids);
    put_io(&l, &r->io);
    put_hugetlb(&l, &r->hugetlb);
    return l.n;
}
