#include "base/loop.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

enum { EVENTS = 64 };

struct loop_source {
    struct loop *loop;
    int fd; /* -1: a timer */
    int64_t due;
    loop_fn fn;
    void *arg;
    bool dead; /* removed; freed after the turn, since events of this turn may still point here */
    struct loop_source *next, **link;
};

struct loop {
    int epfd;
    struct loop_source *fds, *timers, *graveyard;
    int64_t (*prepare)(void *arg);
    void *prepare_arg;
    bool stopped;
    int code;
    int depth; /* of turns: callbacks may take turns themselves */
    struct histogram turns;
    int64_t began; /* of the present turn, clock_mono_ns */
};

struct loop *loop_new(struct err *e)
{
    struct loop *l = xcalloc(1, sizeof(*l));

    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epfd < 0) {
        err_set(e, 500, "loop", "epoll_create1: %s", strerror(errno));
        free(l);
        return NULL;
    }
    return l;
}

static void attach(struct loop_source **head, struct loop_source *s)
{
    s->next = *head;
    s->link = head;
    if (s->next)
        s->next->link = &s->next;
    *head = s;
}

static void detach(struct loop_source *s)
{
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
}

static void bury(struct loop *l)
{
    while (l->graveyard) {
        struct loop_source *s = l->graveyard;

        l->graveyard = s->next;
        free(s);
    }
}

static void free_all(struct loop_source *s)
{
    while (s) {
        struct loop_source *next = s->next;

        free(s);
        s = next;
    }
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    bury(l);
    free_all(l->fds);
    free_all(l->timers);
    close(l->epfd);
    free(l);
}

struct loop_source *loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fn fn, void *arg)
{
    struct loop_source *s = xcalloc(1, sizeof(*s));
    struct epoll_event ev = {.events = events, .data.ptr = s};

    *s = (struct loop_source){.loop = l, .fd = fd, .fn = fn, .arg = arg};
    if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
        free(s);
        return NULL;
    }
    attach(&l->fds, s);
    return s;
}

int loop_set_events(struct loop_source *s, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = s};

    return epoll_ctl(s->loop->epfd, EPOLL_CTL_MOD, s->fd, &ev);
}

/* The list of timers is sorted by due time: there are few, and the next one is always at its head. */
struct loop_source *loop_add_timer(struct loop *l, int64_t ms, loop_fn fn, void *arg)
{
    struct loop_source *s = xcalloc(1, sizeof(*s));
    struct loop_source **at = &l->timers;

    *s = (struct loop_source){.loop = l, .fd = -1, .due = clock_mono_ms() + ms, .fn = fn, .arg = arg};
    while (*at && (*at)->due <= s->due)
        at = &(*at)->next;
    attach(at, s);
    return s;
}

void loop_remove(struct loop_source *s)
{
    if (!s || s->dead)
        return;
    if (s->fd >= 0)
        epoll_ctl(s->loop->epfd, EPOLL_CTL_DEL, s->fd, NULL);
    detach(s);
    s->dead = true;
    s->next = s->loop->graveyard;
    s->loop->graveyard = s;
}

void loop_set_prepare(struct loop *l, int64_t (*fn)(void *arg), void *arg)
{
    l->prepare = fn;
    l->prepare_arg = arg;
}

static int wait_ms(struct loop *l)
{
    int64_t bound = l->prepare ? l->prepare(l->prepare_arg) : -1;

    if (l->timers) {
        int64_t left = l->timers->due - clock_mono_ms();

        if (left < 0)
            left = 0;
        if (bound < 0 || left < bound)
            bound = left;
    }
    return bound > 60000 ? 60000 : (int)bound;
}

/* Only timers that were due when the turn began: one that arms itself with 0 ms cannot starve the fds. */
static void run_timers(struct loop *l)
{
    int64_t now = clock_mono_ms();

    while (l->timers && l->timers->due <= now && !l->stopped) {
        struct loop_source *s = l->timers;

        detach(s);
        s->dead = true;
        s->next = l->graveyard;
        l->graveyard = s;
        s->due = now;
        s->fn(s->arg, 0);
        if (l->timers && l->timers->due == now && clock_mono_ms() > now)
            break;
    }
}

static void turn(struct loop *l, int ms)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(l->epfd, events, EVENTS, ms);

    l->depth++;
    l->began = clock_mono_ns();
    for (int i = 0; i < n && !l->stopped; i++) {
        struct loop_source *s = events[i].data.ptr;

        if (!s->dead)
            s->fn(s->arg, events[i].events);
    }
    run_timers(l);
    if (--l->depth == 0) /* an outer turn may still have events of those that an inner one has removed */
        bury(l);
}

int loop_run(struct loop *l)
{
    l->stopped = false;
    l->began = clock_mono_ns();
    while (!l->stopped) {
        int ms = wait_ms(l);

        histogram_add(&l->turns, clock_mono_ns() - l->began);
        turn(l, ms);
    }
    return l->code;
}

void loop_poll(struct loop *l)
{
    turn(l, 0);
}

void loop_step(struct loop *l)
{
    turn(l, wait_ms(l));
}

const struct histogram *loop_turns(const struct loop *l)
{
    return &l->turns;
}

void loop_stop(struct loop *l, int code)
{
    l->stopped = true;
    l->code = code;
}
