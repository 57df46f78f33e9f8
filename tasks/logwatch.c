#include "tasks/logwatch.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/buf.h"

/* After news nobody looks for more within QUIET_MS: a fast writer must not keep the server busy with its news alone. */
enum { BUCKETS = 64, QUIET_MS = 4, READS_MAX = 16 };

struct watched { /* a directory */
    struct logwatch *owner;
    int wd;
    bool news, names; /* since they were last told */
    struct logwatcher *watchers;
    struct watched *next; /* in its bucket */
};

struct logwatcher {
    struct watched *dir;
    logwatch_fn fn;
    void *arg;
    struct logwatcher *next;
};

struct logwatch {
    struct loop *loop;
    int fd; /* -1: not needed yet */
    struct loop_source *source, *timer;
    struct watched *buckets[BUCKETS]; /* by wd */
};

struct logwatch *logwatch_new(struct loop *l)
{
    struct logwatch *w = xcalloc(1, sizeof(*w));

    w->loop = l;
    w->fd = -1;
    return w;
}

void logwatch_free(struct logwatch *w)
{
    if (!w)
        return;
    loop_remove(w->source);
    loop_remove(w->timer);
    if (w->fd >= 0)
        close(w->fd);
    free(w);
}

static struct watched **find(struct logwatch *w, int wd)
{
    struct watched **at = &w->buckets[(unsigned int)wd % BUCKETS];

    while (*at && (*at)->wd != wd)
        at = &(*at)->next;
    return at;
}

static void note(struct watched *d, uint32_t mask)
{
    d->news = true;
    d->names = d->names || mask & ~(uint32_t)IN_MODIFY;
}

static void take(struct logwatch *w, const struct inotify_event *e)
{
    if (e->mask & IN_Q_OVERFLOW) {
        for (size_t i = 0; i < BUCKETS; i++)
            for (struct watched *d = w->buckets[i]; d; d = d->next)
                note(d, e->mask);
        return;
    }
    struct watched *d = *find(w, e->wd);
    if (d)
        note(d, e->mask);
}

static void tell(struct logwatch *w)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct watched *d = w->buckets[i]; d; d = d->next) {
            bool news = d->news, names = d->names;

            d->news = d->names = false;
            for (struct logwatcher *x = d->watchers; news && x; x = x->next)
                x->fn(x->arg, names);
        }
}

static void on_news(void *arg, uint32_t events);

static void on_quiet_end(void *arg, uint32_t events)
{
    struct logwatch *w = arg;

    (void)events;
    w->timer = NULL;
    w->source = loop_add_fd(w->loop, w->fd, EPOLLIN, on_news, w);
    if (!w->source)
        w->timer = loop_add_timer(w->loop, QUIET_MS, on_quiet_end, w);
}

static void on_news(void *arg, uint32_t events)
{
    struct logwatch *w = arg;
    char text[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n;

    (void)events;
    for (int i = 0; i < READS_MAX && (n = read(w->fd, text, sizeof(text))) > 0; i++)
        for (const char *p = text; p < text + n; p += sizeof(struct inotify_event)) {
            const struct inotify_event *e = (const void *)p;

            take(w, e);
            p += e->len;
        }
    loop_remove(w->source);
    w->source = NULL;
    w->timer = loop_add_timer(w->loop, QUIET_MS, on_quiet_end, w);
    tell(w);
}

static int open_instance(struct logwatch *w)
{
    if (w->fd >= 0)
        return 0;
    w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->fd < 0)
        return -1;
    w->source = loop_add_fd(w->loop, w->fd, EPOLLIN, on_news, w);
    if (w->source)
        return 0;
    close(w->fd);
    w->fd = -1;
    return -1;
}

struct logwatcher *logwatch_add(struct logwatch *w, const char *dir, logwatch_fn fn, void *arg)
{
    if (open_instance(w) < 0)
        return NULL;
    /* The same directory gives the same number. */
    int wd = inotify_add_watch(w->fd, dir, IN_MODIFY | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_ONLYDIR);
    if (wd < 0)
        return NULL;
    struct watched **at = find(w, wd);
    if (!*at) {
        *at = xcalloc(1, sizeof(**at));
        (*at)->owner = w;
        (*at)->wd = wd;
    }
    struct logwatcher *x = xcalloc(1, sizeof(*x));
    *x = (struct logwatcher){.dir = *at, .fn = fn, .arg = arg, .next = (*at)->watchers};
    (*at)->watchers = x;
    return x;
}

void logwatch_remove(struct logwatcher *x)
{
    if (!x)
        return;
    struct watched *d = x->dir;
    struct logwatcher **at = &d->watchers;
    while (*at != x)
        at = &(*at)->next;
    *at = x->next;
    free(x);
    if (d->watchers)
        return;
    inotify_rm_watch(d->owner->fd, d->wd); /* EINVAL when the directory is gone */
    *find(d->owner, d->wd) = d->next;
    free(d);
}
