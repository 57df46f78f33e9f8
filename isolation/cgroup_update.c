/* New limits for a group that lives. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "isolation/cgroup_internal.h"

/* What a file holds in a group without the limit. */
static const struct {
    const char *file, *text;
} defaults[] = {
    {"cpu.shares", "1024"},
    {"cpu.weight", "100"},
    {"cpu.cfs_quota_us", "-1"},
    {"cpu.cfs_period_us", "100000"},
    {"cpu.max", "max 100000"},
    {"memory.limit_in_bytes", "-1"},
    {"memory.memsw.limit_in_bytes", "-1"},
    {"memory.soft_limit_in_bytes", "-1"},
    {"memory.max", "max"},
    {"memory.low", "0"},
    {"memory.swap.max", "max"},
    {"pids.max", "max"},
    {"io.weight", "default 100"},
    {"io.bfq.weight", "default 100"},
    {"blkio.weight", "500"},
    {"blkio.bfq.weight", "100"},
};

/* Of lines by device ("8:0 rbps=1 ..."): the same device. */
static bool same_place(const struct cg_value *a, const struct cg_value *b)
{
    size_t n = strcspn(a->text, " ");

    return a->ctl == b->ctl && strcmp(a->file, b->file) == 0 &&
           (!a->line || (strcspn(b->text, " ") == n && strncmp(a->text, b->text, n) == 0));
}

/* v as it is without a limit; false when that is not known. */
static bool reset(struct cg_value *v)
{
    char device[CG_NAME];

    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++)
        if (strcmp(v->file, defaults[i].file) == 0) {
            snprintf(v->text, sizeof(v->text), "%s", defaults[i].text);
            return true;
        }
    snprintf(device, sizeof(device), "%.*s", (int)strcspn(v->text, " "), v->text);
    if (strcmp(v->file, "io.max") == 0)
        snprintf(v->text, sizeof(v->text), "%s rbps=max wbps=max riops=max wiops=max", device);
    else if (strncmp(v->file, "blkio.throttle.", 15) == 0)
        snprintf(v->text, sizeof(v->text), "%s 0", device);
    else if (strncmp(v->file, "hugetlb.", 8) == 0)
        snprintf(v->text, sizeof(v->text), "%s", strstr(v->file, ".max") ? "max" : "-1");
    else
        return false;
    return true;
}

static const char *dir_of(const struct cgroup_host *h, const char *id, const struct cg_value *v, char dir[CG_PATH])
{
    cg_dir(h, h->ctl[v->ctl].mount, id, dir);
    return dir;
}

/* Limits that bound each other (v1's memory and memory with swap) can be written in one order only, which depends on
 * the direction: so what fails in the first pass gets a second. The failure that stays, or NULL; its errno. */
static const struct cg_value *write_all(const struct cgroup_host *h, const char *id, const struct cg_value *v, size_t n)
{
    const struct cg_value *failed = NULL;
    char dir[CG_PATH];
    int saved = 0;

    for (int pass = 0; pass < 2; pass++) {
        failed = NULL;
        for (size_t i = 0; i < n; i++)
            if (cg_write(dir_of(h, id, &v[i], dir), v[i].file, v[i].text) < 0 && !failed) {
                failed = &v[i];
                saved = errno;
            }
        if (!failed)
            return NULL;
    }
    errno = saved;
    return failed;
}

/* Adds what is in `from` and not in v, without its limit. */
static size_t add_resets(struct cg_value *v, size_t n, const struct cg_value *from, size_t from_n)
{
    size_t known = n;

    for (size_t i = 0; i < from_n; i++) {
        bool found = false;

        for (size_t k = 0; k < known && !found; k++)
            found = same_place(&from[i], &v[k]);
        if (found)
            continue;
        v[n] = from[i];
        if (reset(&v[n]))
            n++;
    }
    return n;
}

int cgroup_update(const struct cgroup_host *h, const char *id, const struct resources *before,
                  const struct resources *r, struct err *e)
{
    struct cg_value now[2 * CG_VALUES], old[2 * CG_VALUES];
    size_t asked = cg_values(h, r, now), had = cg_values(h, before, old);
    size_t n = add_resets(now, asked, old, had), old_n = add_resets(old, had, now, asked);

    const struct cg_value *failed = write_all(h, id, now, n);
    if (!failed && cg_verify(h, id, now, asked, e) == 0)
        return 0;
    if (failed && errno == EBUSY)
        err_set(e, 409, "limit_in_use", "the task uses more than the new limit: %s", failed->file);
    else if (failed)
        err_step(e, "cgroup_update", errno, "cannot set %s to %s", failed->file, failed->text);
    else
        snprintf(e->step, sizeof(e->step), "cgroup_update");
    write_all(h, id, old, old_n);
    return -1;
}
