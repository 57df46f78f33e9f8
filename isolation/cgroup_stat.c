/* What a group has used: a table of files of v1 and v2 and what stands in them (the kernel's
 * Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "isolation/cgroup_internal.h"

enum { STAT_TEXT = 16384 };

enum form {
    ALONE,   /* the file is the number */
    KEYED,   /* lines "key number" */
    DEVICES, /* v1: lines "8:0 key number", of all devices together */
    PAIRS,   /* v2: lines "8:0 key=number ...", of all devices together */
};

#define V2_CORE CG_COUNT /* in every v2 group, without any controller */
#define AT(member) offsetof(struct cgroup_stat, member)
#define USAGE(member) offsetof(struct cgroup_stat, usage.member)

struct source {
    int ctl, version;
    const char *file;
    enum form form;
    const char *key;
    size_t offset;
    int64_t scale;
};

/* Rows of one file follow each other: it is read once. What an earlier row has told stays. */
static const struct source usage_sources[] = {
    {CG_CPUACCT, 1, "cpuacct.usage", ALONE, NULL, USAGE(cpu_ns), 1},
    {CG_CPUACCT, 1, "cpuacct.usage_user", ALONE, NULL, USAGE(cpu_user_ns), 1},
    {CG_CPUACCT, 1, "cpuacct.usage_sys", ALONE, NULL, USAGE(cpu_system_ns), 1},
    {CG_CPU, 1, "cpu.stat", KEYED, "nr_periods", USAGE(periods), 1},
    {CG_CPU, 1, "cpu.stat", KEYED, "nr_throttled", USAGE(throttled_periods), 1},
    {CG_CPU, 1, "cpu.stat", KEYED, "throttled_time", USAGE(throttled_ns), 1},
    {V2_CORE, 2, "cpu.stat", KEYED, "usage_usec", USAGE(cpu_ns), 1000},
    {V2_CORE, 2, "cpu.stat", KEYED, "user_usec", USAGE(cpu_user_ns), 1000},
    {V2_CORE, 2, "cpu.stat", KEYED, "system_usec", USAGE(cpu_system_ns), 1000},
    {V2_CORE, 2, "cpu.stat", KEYED, "nr_periods", USAGE(periods), 1},
    {V2_CORE, 2, "cpu.stat", KEYED, "nr_throttled", USAGE(throttled_periods), 1},
    {V2_CORE, 2, "cpu.stat", KEYED, "throttled_usec", USAGE(throttled_ns), 1000},
    {CG_MEMORY, 1, "memory.usage_in_bytes", ALONE, NULL, USAGE(memory_bytes), 1},
    {CG_MEMORY, 1, "memory.max_usage_in_bytes", ALONE, NULL, USAGE(memory_peak_bytes), 1},
    {CG_MEMORY, 1, "memory.oom_control", KEYED, "oom_kill", USAGE(oom_kills), 1},
    {CG_MEMORY, 1, "memory.kmem.usage_in_bytes", ALONE, NULL, USAGE(memory_kernel_bytes), 1},
    {CG_MEMORY, 1, "memory.stat", KEYED, "total_rss", USAGE(memory_anon_bytes), 1},
    {CG_MEMORY, 1, "memory.stat", KEYED, "total_cache", USAGE(memory_file_bytes), 1},
    {CG_MEMORY, 1, "memory.stat", KEYED, "total_swap", USAGE(swap_bytes), 1},
    {CG_MEMORY, 2, "memory.current", ALONE, NULL, USAGE(memory_bytes), 1},
    {CG_MEMORY, 2, "memory.peak", ALONE, NULL, USAGE(memory_peak_bytes), 1},
    {CG_MEMORY, 2, "memory.events", KEYED, "oom_kill", USAGE(oom_kills), 1},
    {CG_MEMORY, 2, "memory.swap.current", ALONE, NULL, USAGE(swap_bytes), 1},
    {CG_MEMORY, 2, "memory.stat", KEYED, "anon", USAGE(memory_anon_bytes), 1},
    {CG_MEMORY, 2, "memory.stat", KEYED, "file", USAGE(memory_file_bytes), 1},
    {CG_MEMORY, 2, "memory.stat", KEYED, "kernel", USAGE(memory_kernel_bytes), 1},
    {CG_PIDS, 1, "pids.current", ALONE, NULL, USAGE(pids), 1},
    {CG_PIDS, 1, "pids.peak", ALONE, NULL, USAGE(pids_peak), 1},
    {CG_PIDS, 2, "pids.current", ALONE, NULL, USAGE(pids), 1},
    {CG_PIDS, 2, "pids.peak", ALONE, NULL, USAGE(pids_peak), 1},
    {CG_IO, 1, "blkio.throttle.io_service_bytes_recursive", DEVICES, "Read", USAGE(io_read_bytes), 1},
    {CG_IO, 1, "blkio.throttle.io_service_bytes_recursive", DEVICES, "Write", USAGE(io_write_bytes), 1},
    {CG_IO, 1, "blkio.throttle.io_serviced_recursive", DEVICES, "Read", USAGE(io_reads), 1},
    {CG_IO, 1, "blkio.throttle.io_serviced_recursive", DEVICES, "Write", USAGE(io_writes), 1},
    {CG_IO, 2, "io.stat", PAIRS, "rbytes", USAGE(io_read_bytes), 1},
    {CG_IO, 2, "io.stat", PAIRS, "wbytes", USAGE(io_write_bytes), 1},
    {CG_IO, 2, "io.stat", PAIRS, "rios", USAGE(io_reads), 1},
    {CG_IO, 2, "io.stat", PAIRS, "wios", USAGE(io_writes), 1},
};

static const struct source brief_sources[] = {
    {CG_CPUACCT, 1, "cpuacct.usage", ALONE, NULL, USAGE(cpu_ns), 1},
    {V2_CORE, 2, "cpu.stat", KEYED, "usage_usec", USAGE(cpu_ns), 1000},
    {CG_MEMORY, 1, "memory.usage_in_bytes", ALONE, NULL, USAGE(memory_bytes), 1},
    {CG_MEMORY, 2, "memory.current", ALONE, NULL, USAGE(memory_bytes), 1},
    {CG_PIDS, 1, "pids.current", ALONE, NULL, USAGE(pids), 1},
    {CG_PIDS, 2, "pids.current", ALONE, NULL, USAGE(pids), 1},
};

static const struct source oom_sources[] = {
    {CG_MEMORY, 1, "memory.oom_control", KEYED, "oom_kill", USAGE(oom_kills), 1},
    {CG_MEMORY, 2, "memory.events", KEYED, "oom_kill", USAGE(oom_kills), 1},
};

static const struct source limit_sources[] = {
    {CG_MEMORY, 1, "memory.limit_in_bytes", ALONE, NULL, AT(memory_limit_bytes), 1},
    {CG_MEMORY, 2, "memory.max", ALONE, NULL, AT(memory_limit_bytes), 1},
    {CG_PIDS, 1, "pids.max", ALONE, NULL, AT(pids_limit), 1},
    {CG_PIDS, 2, "pids.max", ALONE, NULL, AT(pids_limit), 1},
};

/* The number at the start of text; -1 when there is none ("max"). */
static int64_t number_at(const char *text)
{
    char *end;
    long long n = strtoll(text, &end, 10);
    return end == text ? -1 : (int64_t)n;
}

static int64_t keyed(const char *text, const char *key)
{
    size_t len = strlen(key);
    for (const char *at = text; at; at = strchr(at, '\n'), at = at ? at + 1 : NULL)
        if (strncmp(at, key, len) == 0 && at[len] == ' ')
            return number_at(at + len + 1);
    return -1;
}

/* The sum over the lines of devices ("8:0 ..."); a group without I/O has none. */
static int64_t by_device(const char *text, const char *key, char separator)
{
    size_t len = strlen(key);
    int64_t sum = 0;
    for (const char *at = strchr(text, ' '); at; at = strchr(at, ' ')) {
        at++;
        if (strncmp(at, key, len) == 0 && at[len] == separator) {
            int64_t n = number_at(at + len + 1);
            sum += n > 0 ? n : 0;
        }
    }
    return sum;
}

static int64_t value_of(const char *text, const struct source *s)
{
    int64_t n = s->form == ALONE     ? number_at(text)
                : s->form == KEYED   ? keyed(text, s->key)
                : s->form == DEVICES ? by_device(text, s->key, ' ')
                                     : by_device(text, s->key, '=');
    return n < 0 ? -1 : n * s->scale;
}

static bool group_of(const struct cgroup_host *h, const struct source *s, const char *id, char dir[CG_PATH])
{
    if (s->ctl == V2_CORE ? !h->v2_mount[0] : h->ctl[s->ctl].version != s->version)
        return false;
    cg_dir(h, s->ctl == V2_CORE ? h->v2_mount : h->ctl[s->ctl].mount, id, dir);
    return true;
}

static void read_sources(const struct cgroup_host *h, const char *id, const struct source *sources, size_t n,
                         void *stat)
{
    char text[STAT_TEXT], dir[CG_PATH];
    const struct source *have = NULL; /* whose file is in text */
    bool readable = false;
    for (const struct source *s = sources; s < sources + n; s++) {
        int64_t *value = (int64_t *)((char *)stat + s->offset);
        if (*value >= 0)
            continue;
        if (!have || have->ctl != s->ctl || have->version != s->version || strcmp(have->file, s->file) != 0) {
            have = s;
            readable = group_of(h, s, id, dir) && cg_read(dir, s->file, text, sizeof(text)) == 0;
        }
        if (readable)
            *value = value_of(text, s);
    }
}

#define READ(h, id, sources, s) read_sources(h, id, sources, sizeof(sources) / sizeof((sources)[0]), s)

void cgroup_usage(const struct cgroup_host *h, const char *id, struct cgroup_usage *u)
{
    struct cgroup_stat s;
    memset(&s, 0xff, sizeof(s)); /* -1 in every number */
    if (cg_name_ok(id))
        READ(h, id, usage_sources, &s);
    *u = s.usage;
}

void cgroup_usage_brief(const struct cgroup_host *h, const char *id, struct cgroup_usage *u)
{
    struct cgroup_stat s;
    memset(&s, 0xff, sizeof(s));
    if (!id || cg_name_ok(id))
        READ(h, id, brief_sources, &s);
    *u = s.usage;
}

int64_t cgroup_oom_kills(const struct cgroup_host *h, const char *id)
{
    struct cgroup_stat s;
    memset(&s, 0xff, sizeof(s));
    if (cg_name_ok(id))
        READ(h, id, oom_sources, &s);
    return s.usage.oom_kills;
}

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" */
static void read_pressure(const char *text, const char *kind, struct cgroup_pressure *p)
{
    const char *line = strstr(text, kind);
    p->total_us = -1;
    if (!line || sscanf(line + strlen(kind), " avg10=%lf avg60=%lf avg300=%lf total=%" SCNd64, &p->avg10, &p->avg60,
                        &p->avg300, &p->total_us) != 4)
        *p = (struct cgroup_pressure){.total_us = -1};
}

void cgroup_stat(const struct cgroup_host *h, const char *id, struct cgroup_stat *s)
{
    static const char *const files[] = {"cpu.pressure", "memory.pressure", "io.pressure"};
    char text[CG_TEXT * 2], dir[CG_PATH];
    memset(s, 0xff, sizeof(*s)); /* -1 in every number */
    bool known = cg_name_ok(id);
    if (known) {
        READ(h, id, usage_sources, s);
        READ(h, id, limit_sources, s);
    }
    /* v1 has no word for "none": it is the greatest multiple of a page. */
    if (s->memory_limit_bytes > INT64_MAX / 2)
        s->memory_limit_bytes = -1;
    if (known && h->v2_mount[0])
        cg_dir(h, h->v2_mount, id, dir);
    for (int i = 0; i < CGROUP_PSI_COUNT; i++) {
        if (!known || !h->v2_mount[0] || cg_read(dir, files[i], text, sizeof(text)) < 0)
            text[0] = '\0';
        read_pressure(text, "some", &s->some[i]);
        read_pressure(text, "full", &s->full[i]);
    }
}
