/* GET /v1/tasks/{id}/logs: plain text, whole, by its last lines, or followed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/common.h"
#include "base/buf.h"
#include "tasks/logfile.h"

enum { POLL_MS = 100 };

struct follower {
    struct request *q;
    struct registry *registry;
    char id[ID_LEN + 1];
    struct logfile file[2];
    size_t nfiles;
    bool follow, ended;
    struct subscription *subscription;
    struct loop_source *timer;
};

static void on_end(void *arg)
{
    struct follower *f = arg;

    registry_unsubscribe(f->subscription);
    loop_remove(f->timer);
    for (size_t i = 0; i < f->nfiles; i++)
        logfile_close(&f->file[i]);
    free(f);
}

static void on_change(void *arg, struct task *t)
{
    struct follower *f = arg;

    if (strcmp(t->id, f->id) != 0 || (!task_ended(t) && !t->deleting))
        return;
    f->ended = true;
    request_wake(f->q);
}

static void on_poll(void *arg, uint32_t events)
{
    struct follower *f = arg;

    (void)events;
    f->timer = NULL;
    request_wake(f->q);
}

static ssize_t on_read(void *arg, char *out, size_t cap)
{
    struct follower *f = arg;
    bool ended = f->ended; /* asked before the files are read: what came before the end is then read too */

    for (size_t i = 0; i < f->nfiles; i++) {
        ssize_t n = logfile_read(&f->file[i], out, cap);

        if (n > 0)
            return n;
    }
    if (ended || !f->follow)
        return -1;
    if (!f->timer)
        f->timer = loop_add_timer(request_loop(f->q), POLL_MS, on_poll, f);
    return 0;
}

static int pick_streams(struct follower *f, const char *dir, struct err *e)
{
    const char *list = request_query(f->q, "stream", 0);
    static const char *const names[] = {"stdout", "stderr"};

    if (!list)
        list = "stdout,stderr";
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ","), known = 2;

        for (size_t i = 0; i < 2; i++)
            if (strlen(names[i]) == n && memcmp(names[i], at, n) == 0)
                known = i;
        if (known == 2 || f->nfiles == 2)
            return bad_parameter(e, "stream", list);
        logfile_init(&f->file[f->nfiles++], dir, names[known]);
        at += n;
        if (!*at)
            return 0;
    }
}

static int prepare(struct follower *f, struct err *e)
{
    char dir[256];
    int64_t tail = -1;

    logs_path(f->registry, f->id, dir, sizeof(dir));
    if (query_bool(f->q, "follow", &f->follow, e) < 0 || query_int(f->q, "tail", 0, 1000000, &tail, e) < 0 ||
        pick_streams(f, dir, e) < 0)
        return -1;
    for (size_t i = 0; tail >= 0 && i < f->nfiles; i++)
        logfile_tail(&f->file[i], (uint64_t)tail);
    return 0;
}

void task_logs(struct request *q)
{
    struct task *t = request_task(q);
    struct err e = {0};

    if (!t)
        return;
    struct follower *f = xcalloc(1, sizeof(*f));
    *f = (struct follower){.q = q, .registry = request_registry(q), .ended = task_ended(t)};
    memcpy(f->id, t->id, sizeof(f->id));
    if (prepare(f, &e) < 0) {
        on_end(f);
        reply_problem(q, &e);
        return;
    }
    if (f->follow)
        f->subscription = registry_subscribe(f->registry, on_change, f);
    request_on_end(q, on_end, f);
    reply_stream(q, 200, "text/plain; charset=utf-8", (struct stream){on_read, f});
}
