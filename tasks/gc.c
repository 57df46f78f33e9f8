/* Garbage collection: ended tasks go by their ttl, by age, by count, and when the disk fills, oldest first, a few at a
 * time. */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "tasks/registry_internal.h"

enum { RETRY_MS = 60000 };

struct collection { /* somebody waits for registry_gc */
    registry_collected done;
    void *arg;
    size_t removed;
    struct collection *next;
};

struct gc {
    struct registry *registry;
    struct loop_source *timer;
    int64_t in_flight, asked; /* removals; of them those for collections */
    struct collection *collections;
};

struct removing {
    struct registry *registry;
    char id[ID_LEN + 1];
    bool asked; /* for a collection */
};

static int64_t age_ms(const struct registry *r, const struct task *t)
{
    const struct run_status *s = &t->status;

    /* Within one boot the clock that cannot be set; else what is left is the wall's. */
    if (s->ended_boot_ms > 0 && strcmp(s->boot_id, r->boot_id) == 0)
        return clock_mono_ms() - s->ended_boot_ms;
    int64_t ended = s->exit.finished_at > 0 ? s->exit.finished_at : t->created_at;
    return (clock_real_ns() - ended) / 1000000;
}

static bool too_full(const struct registry *r)
{
    const struct registry_limits *l = &r->config.limits;
    struct statvfs v;

    if (statvfs(r->config.policy->state_dir, &v) < 0)
        return false;
    /* As df(1) counts: of what an ordinary user could have. */
    double used = (double)(v.f_blocks - v.f_bfree), blocks = used + (double)v.f_bavail;
    bool disk = blocks > 0 && used * 100 / blocks > (double)l->gc_disk_percent;
    bool inodes =
        v.f_files > 0 && (double)(v.f_files - v.f_ffree) * 100 / (double)v.f_files > (double)l->gc_inode_percent;
    return disk || inodes;
}

static bool removable(const struct task *t)
{
    return task_ended(t) && !t->removal && t->gc_retry_at_ms <= clock_mono_ms();
}

/* The next to go, oldest first; *due is lowered to when the next one will be, in ms from now. */
static struct task *pick(struct registry *r, int64_t *due)
{
    const struct registry_limits *l = &r->config.limits;
    struct task *oldest = NULL;
    int64_t ended = 0;

    for (struct task *t = r->first; t; t = t->next) {
        if (!removable(t))
            continue;
        int64_t age = age_ms(r, t), ttl = t->spec.ttl_ms;
        if (l->gc_max_age_ms > 0 && (ttl == 0 || l->gc_max_age_ms < ttl))
            ttl = l->gc_max_age_ms;
        if (t->collect || (ttl > 0 && age >= ttl))
            return t;
        if (ttl > 0 && ttl - age < *due)
            *due = ttl - age;
        if (age < l->gc_min_age_ms)
            continue;
        ended++;
        if (!oldest)
            oldest = t;
    }
    return oldest && ((l->gc_max_tasks && ended > l->gc_max_tasks) || too_full(r)) ? oldest : NULL;
}

static bool collecting(const struct registry *r)
{
    for (const struct task *t = r->first; t; t = t->next)
        if (t->collect && !t->removal) /* else somebody else removes it */
            return true;
    return false;
}

/* Other removals are not waited for: where tasks end all the time, some are always in flight. */
static void answer_collections(struct gc *g)
{
    if (!g->collections || g->asked > 0 || collecting(g->registry))
        return;
    while (g->collections) {
        struct collection *c = g->collections;

        g->collections = c->next;
        c->done(c->arg, c->removed);
        free(c);
    }
}

static void step(struct gc *g);

static void on_removed(void *arg, const struct err *e)
{
    struct removing *m = arg;
    struct gc *g = m->registry->gc;
    struct task *t = registry_find(m->registry, m->id);
    bool asked = m->asked;

    free(m);
    if (!g) /* the registry ends */
        return;
    g->in_flight--;
    g->asked -= asked;
    if (e->status && t) {
        t->collect = t->collected = false;
        t->gc_retry_at_ms = clock_mono_ms() + RETRY_MS;
    }
    for (struct collection *c = g->collections; c && asked && !e->status; c = c->next)
        c->removed++;
    if (e->status != 503 || !g->registry->launcher_gone) /* else the registry is about to end */
        step(g);
}

static void on_tick(void *arg, uint32_t events)
{
    struct gc *g = arg;

    (void)events;
    g->timer = NULL;
    step(g);
}

static void step(struct gc *g)
{
    struct registry *r = g->registry;
    int64_t due = r->config.limits.gc_interval_ms;
    struct task *t;

    while (g->in_flight < r->config.limits.gc_parallel && (t = pick(r, &due))) {
        struct removing *m = xcalloc(1, sizeof(*m));

        m->registry = r;
        memcpy(m->id, t->id, sizeof(m->id));
        m->asked = t->collect;
        t->collect = false;
        t->collected = true;
        g->in_flight++;
        g->asked += m->asked;
        registry_remove(r, t, on_removed, m);
    }
    answer_collections(g);
    loop_remove(g->timer);
    g->timer = loop_add_timer(r->config.loop, due > 0 ? due : 0, on_tick, g);
}

/* A task with a ttl may be due before the next tick. */
void gc_ended(struct registry *r, const struct task *t)
{
    struct gc *g = r->gc;

    if (!g || (t->spec.ttl_ms == 0 && r->config.limits.gc_max_tasks == 0))
        return;
    loop_remove(g->timer);
    g->timer = loop_add_timer(r->config.loop, 0, on_tick, g);
}

void registry_gc(struct registry *r, registry_collected done, void *arg)
{
    struct collection *c = xcalloc(1, sizeof(*c));

    *c = (struct collection){.done = done, .arg = arg, .next = r->gc->collections};
    r->gc->collections = c;
    for (struct task *t = r->first; t; t = t->next)
        if (task_ended(t) && !t->removal) {
            t->collect = true;
            t->gc_retry_at_ms = 0;
        }
    step(r->gc);
}

void gc_start(struct registry *r)
{
    r->gc = xcalloc(1, sizeof(*r->gc));
    r->gc->registry = r;
    r->gc->timer = loop_add_timer(r->config.loop, 0, on_tick, r->gc);
}

void gc_stop(struct registry *r)
{
    struct gc *g = r->gc;

    if (!g)
        return;
    r->gc = NULL;
    loop_remove(g->timer);
    while (g->collections) {
        struct collection *c = g->collections;

        g->collections = c->next;
        c->done(c->arg, c->removed);
        free(c);
    }
    free(g);
}
