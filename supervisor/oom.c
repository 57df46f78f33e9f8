/* Processes that the kernel kills for memory while the task runs on are told at once. What the kernel says in between,
 * and says often (v2 speaks of every limit that is met), costs no more than a look each ROUND_MS. */
#include <unistd.h>

#include "supervisor/supervision.h"

/* A short run is not watched: its end tells all. v1 speaks before it kills, so another look follows. */
enum { WATCH_AFTER_MS = 500, ROUND_MS = 200 };

static void on_timer(void *arg, uint32_t events);

static void look(struct supervision *s)
{
    int64_t kills = cgroup_oom_kills(s->args->cgroups, s->args->id);

    if (kills <= 0 || s->oom.before + kills <= s->status.oom_kills)
        return;
    s->status.oom_kills = s->oom.before + kills;
    control_broadcast(s);
}

static void on_word(void *arg, uint32_t events)
{
    struct supervision *s = arg;

    (void)events;
    loop_remove(s->oom.source);
    s->oom.source = NULL;
    cgroup_oom_clear(s->args->cgroups, s->oom.fd);
    look(s);
    s->oom.timer = loop_add_timer(s->loop, ROUND_MS, on_timer, s);
}

/* Listens again, unless there was more to hear meanwhile. */
static void on_timer(void *arg, uint32_t events)
{
    struct supervision *s = arg;

    (void)events;
    s->oom.timer = NULL;
    if (cgroup_oom_clear(s->args->cgroups, s->oom.fd))
        s->oom.timer = loop_add_timer(s->loop, ROUND_MS, on_timer, s);
    else
        s->oom.source = loop_add_fd(s->loop, s->oom.fd, cgroup_oom_events(s->args->cgroups), on_word, s);
    look(s);
}

static void on_watch(void *arg, uint32_t events)
{
    struct supervision *s = arg;

    (void)events;
    s->oom.timer = NULL;
    s->oom.fd = cgroup_oom_watch(s->args->cgroups, s->args->id);
    if (s->oom.fd >= 0) /* else the end tells */
        on_timer(s, 0);
}

void oom_started(struct supervision *s)
{
    s->oom.before = s->status.oom_kills;
    s->oom.timer = loop_add_timer(s->loop, WATCH_AFTER_MS, on_watch, s);
}

void oom_ended(struct supervision *s, int64_t kills)
{
    loop_remove(s->oom.source);
    loop_remove(s->oom.timer);
    if (s->oom.fd >= 0)
        close(s->oom.fd);
    s->oom.fd = -1;
    s->oom.source = s->oom.timer = NULL;
    if (kills > 0)
        s->status.oom_kills = s->oom.before + kills;
}
