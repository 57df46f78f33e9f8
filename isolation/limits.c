#include "isolation/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum absent { ABSENT_NONE /* it gets none */, ABSENT_ALL /* it could take all */ };

static const struct limit {
    const char *pointer;
    size_t asked, max; /* in struct resources and struct limits */
    enum absent absent;
    const char *unit;
    size_t instead; /* of ABSENT_ALL: what bounds it too, if given; 0: nothing does */
} limits[] = {
#define LIMIT(field, bound) offsetof(struct resources, field), offsetof(struct limits, bound)
    {"/resources/cpu", LIMIT(cpu, cpu), ABSENT_NONE, " MHz", 0},
    {"/resources/cores", LIMIT(cores, cores), ABSENT_NONE, "", 0},
    {"/resources/memory", LIMIT(memory, memory), ABSENT_ALL, " MiB", offsetof(struct resources, memory_max)},
    {"/resources/memory_max", LIMIT(memory_max, memory), ABSENT_NONE, " MiB", 0},
    {"/resources/swap", LIMIT(swap, swap), ABSENT_NONE, " MiB", 0},
    {"/resources/pids", LIMIT(pids, pids), ABSENT_ALL, "", 0},
    {"/resources/disk", LIMIT(disk, disk), ABSENT_ALL, " MiB", 0},
#undef LIMIT
};

static int64_t get(const void *p, size_t offset)
{
    return *(const int64_t *)((const char *)p + offset);
}

/* It has this in common with before. No bound is none of that, when another field was one and is no longer. */
static bool same(const struct limit *l, const struct resources *r, const struct resources *before)
{
    if (!before || get(r, l->asked) != get(before, l->asked))
        return false;
    return get(r, l->asked) != 0 || !l->instead || get(r, l->instead) != 0 || get(before, l->instead) == 0;
}

int limits_apply(struct resources *r, const struct resources *before, const struct limits *max, struct err *e)
{
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        const struct limit *l = &limits[i];
        int64_t asked = get(r, l->asked), bound = get(max, l->max);

        if (bound == LIMITS_NONE || same(l, r, before))
            continue;
        if (asked == 0 && l->absent == ABSENT_ALL && (!l->instead || get(r, l->instead) == 0))
            *(int64_t *)((char *)r + l->asked) = asked = bound;
        if (asked >= 0 && asked <= bound)
            continue;
        err_set(e, 403, "limit_denied", "the operator allows at most %lld%s", (long long)bound, l->unit);
        snprintf(e->pointer, sizeof(e->pointer), "%s", l->pointer);
        return -1;
    }
    return 0;
}
