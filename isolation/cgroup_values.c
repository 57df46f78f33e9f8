/* Limits as values of a group's files, and usage as values read from them. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "isolation/cgroup_internal.h"

enum { SHARES_MIN = 2, SHARES_MAX = 262144, WEIGHT_MAX = 10000, STAT_TEXT = 4096 };

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

/* The file's name on v1 or v2, whichever has the controller; NULL: nothing to write there. */
static void put(struct list *l, enum cgroup_controller c, const char *v1, const char *v2, int64_t number)
{
    const char *file = l->h->ctl[c].version == 1 ? v1 : l->h->ctl[c].version == 2 ? v2 : NULL;
    if (!file)
        return;
    struct cg_value *v = &l->v[l->n++];
    v->ctl = c;
    v->file = file;
    snprintf(v->text, sizeof(v->text), "%" PRId64, number);
}

/* Whether children of the parent group will have this file: swap accounting is a choice of the kernel's build. */
static bool child_has(const struct cgroup_host *h, const char *file)
{
    char dir[CG_PATH];
    snprintf(dir, sizeof(dir), "%s/%s", h->ctl[CG_MEMORY].mount, h->parent);
    return cg_has(dir, file);
}

static void put_memory(struct list *l, const struct resources *r)
{
    int64_t hard = r->memory_max > 0 ? r->memory_max : r->memory_max == -1 ? 0 : r->memory;
    if (hard)
        put(l, CG_MEMORY, "memory.limit_in_bytes", "memory.max", hard * mib);
    if (hard && child_has(l->h, "memory.memsw.limit_in_bytes")) /* memory and swap together: no room for swap */
        put(l, CG_MEMORY, "memory.memsw.limit_in_bytes", NULL, hard * mib);
    if (r->memory && r->memory_max)
        put(l, CG_MEMORY, "memory.soft_limit_in_bytes", "memory.low", r->memory * mib);
    if (child_has(l->h, "memory.swap.max"))
        put(l, CG_MEMORY, NULL, "memory.swap.max", 0);
}

size_t cg_values(const struct cgroup_host *h, const struct resources *r, struct cg_value out[CG_VALUES])
{
    struct list l = {h, out, 0};
    if (r->cpu) {
        int64_t shares = r->cpu < SHARES_MIN ? SHARES_MIN : r->cpu > SHARES_MAX ? SHARES_MAX : r->cpu;
        put(&l, CG_CPU, "cpu.shares", "cpu.weight", h->ctl[CG_CPU].version == 2 ? weight_of(shares) : shares);
    }
    put_memory(&l, r);
    if (r->pids)
        put(&l, CG_PIDS, "pids.max", "pids.max", r->pids);
    return l.n;
}

/* The number in dir/file, of the line that starts with key when there is one; -1 when it is not told. */
static int64_t number(const char *dir, const char *file, const char *key)
{
    char text[STAT_TEXT];
    if (cg_read(dir, file, text, sizeof(text)) < 0)
        return -1;
    const char *at = text;
    size_t len = key ? strlen(key) : 0;
    while (key && (strncmp(at, key, len) != 0 || at[len] != ' ')) {
        at = strchr(at, '\n');
        if (!at)
            return -1;
        at++;
    }
    char *end;
    long long value = strtoll(at + len, &end, 10);
    return end == at + len ? -1 : (int64_t)value;
}

/* usec of v2's cpu.stat, which is there without any controller, to ns. */
static int64_t cpu_stat_ns(const char *dir, const char *key)
{
    int64_t us = number(dir, "cpu.stat", key);
    return us < 0 ? -1 : us * 1000;
}

static void read_v1(const struct cgroup_host *h, const char *id, struct cgroup_usage *u)
{
    char dir[CG_PATH];
    if (h->ctl[CG_CPUACCT].version == 1) {
        cg_dir(h, h->ctl[CG_CPUACCT].mount, id, dir);
        u->cpu_ns = number(dir, "cpuacct.usage", NULL);
        u->cpu_user_ns = number(dir, "cpuacct.usage_user", NULL);
        u->cpu_system_ns = number(dir, "cpuacct.usage_sys", NULL);
    }
    if (h->ctl[CG_MEMORY].version == 1) {
        cg_dir(h, h->ctl[CG_MEMORY].mount, id, dir);
        u->memory_bytes = number(dir, "memory.usage_in_bytes", NULL);
        u->memory_peak_bytes = number(dir, "memory.max_usage_in_bytes", NULL);
        u->oom_kills = number(dir, "memory.oom_control", "oom_kill");
    }
}

static void read_v2(const struct cgroup_host *h, const char *id, struct cgroup_usage *u)
{
    char dir[CG_PATH];
    cg_dir(h, h->v2_mount, id, dir);
    if (u->cpu_ns < 0) {
        u->cpu_ns = cpu_stat_ns(dir, "usage_usec");
        u->cpu_user_ns = cpu_stat_ns(dir, "user_usec");
        u->cpu_system_ns = cpu_stat_ns(dir, "system_usec");
    }
    if (h->ctl[CG_MEMORY].version == 2) {
        u->memory_bytes = number(dir, "memory.current", NULL);
        u->memory_peak_bytes = number(dir, "memory.peak", NULL);
        u->oom_kills = number(dir, "memory.events", "oom_kill");
    }
}

void cgroup_usage(const struct cgroup_host *h, const char *id, struct cgroup_usage *u)
{
    *u = (struct cgroup_usage){-1, -1, -1, -1, -1, -1, -1, -1};
    if (!cg_name_ok(id))
        return;
    read_v1(h, id, u);
    if (h->v2_mount[0])
        read_v2(h, id, u);
    if (h->ctl[CG_PIDS].version) {
        char dir[CG_PATH];
        cg_dir(h, h->ctl[CG_PIDS].mount, id, dir);
        u->pids = number(dir, "pids.current", NULL);
        u->pids_peak = number(dir, "pids.peak", NULL);
    }
}
