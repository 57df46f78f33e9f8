/* Stopping every task before the server ends, when the operator wants it so. */
#include <stdlib.h>

#include "base/buf.h"
#include "tasks/registry_internal.h"

struct shutdown {
    struct registry *registry;
    void (*done)(void *arg);
    void *arg;
    int64_t priority; /* these are being stopped, and lower ones */
    struct subscription *subscription;
    struct loop_source *again;
};

enum { AGAIN_MS = 1000 };

static void on_stopped(void *arg, const struct err *e)
{
    (void)arg, (void)e; /* its end comes as a change; one that has ended by itself is as good */
}

/* Those that are not being stopped yet: a supervisor that cannot be asked now is being looked for. */
static void stop_all(const struct shutdown *s)
{
    for (struct task *t = s->registry->first; t; t = t->next)
        if (task_live(t) && t->state != TASK_STOPPING && t->spec.priority <= s->priority)
            registry_stop(s->registry, t, 0, -1, on_stopped, NULL);
}

static void on_again(void *arg, uint32_t events)
{
    struct shutdown *s = arg;

    (void)events;
    s->again = loop_add_timer(s->registry->config.loop, AGAIN_MS, on_again, s);
    stop_all(s);
}

/* The lowest priority among live tasks; false when there is none. */
static bool lowest(const struct registry *r, int64_t *priority)
{
    bool found = false;

    for (const struct task *t = r->first; t; t = t->next)
        if (task_live(t) && (!found || t->spec.priority < *priority)) {
            *priority = t->spec.priority;
            found = true;
        }
    return found;
}

static void go_on(struct shutdown *s)
{
    struct registry *r = s->registry;
    int64_t priority = 0;

    if (!lowest(r, &priority)) {
        registry_unsubscribe(s->subscription);
        loop_remove(s->again);
        s->done(s->arg);
        free(s);
        return;
    }
    if (priority <= s->priority)
        return; /* some of these still live */
    s->priority = priority;
    stop_all(s);
}

static void on_change(void *arg, struct task *t)
{
    if (task_ended(t))
        go_on(arg);
}

void registry_shutdown(struct registry *r, void (*done)(void *arg), void *arg)
{
    struct shutdown *s = xcalloc(1, sizeof(*s));

    r->shutting_down = true;
    registry_settle(r); /* what is about to be launched lives */
    *s = (struct shutdown){.registry = r, .done = done, .arg = arg};
    s->subscription = registry_subscribe(r, on_change, s);
    s->again = loop_add_timer(r->config.loop, AGAIN_MS, on_again, s);
    go_on(s);
}
