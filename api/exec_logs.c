/* GET /v1/tasks/{id}/execs/{eid}/logs: what a session has written, whole or followed, also after its end. */
#include <stdlib.h>
#include <string.h>

#include "api/common.h"
#include "api/execs.h"
#include "base/buf.h"
#include "tasks/logfile.h"

struct reader {
    struct request *q;
    struct logfile file[2];
    size_t nfiles;
    struct exec *exec; /* follow: tells of more output and of the end */
    bool follow, ended;
};

static void on_end(void *arg)
{
    struct reader *r = arg;

    exec_close(r->exec);
    for (size_t i = 0; i < r->nfiles; i++)
        logfile_close(&r->file[i]);
    free(r);
}

static void on_changed(void *arg, const struct session_status *s)
{
    struct reader *r = arg;

    r->ended = s->state != SESSION_STARTING && s->state != SESSION_RUNNING;
    request_wake(r->q);
}

static ssize_t on_read(void *arg, char *out, size_t cap)
{
    struct reader *r = arg;
    bool ended = r->ended; /* asked before the files are read: what came before the end is then read too */

    for (size_t i = 0; i < r->nfiles; i++) {
        ssize_t n = logfile_read(&r->file[i], out, cap);

        if (n > 0)
            return n;
    }
    return ended || !r->follow ? -1 : 0;
}

static int pick_streams(struct reader *r, const char *dir, struct err *e)
{
    static const char *const names[] = {"stdout", "stderr"};
    const char *wanted = request_query(r->q, "stream", 0);
    bool both = !wanted || strcmp(wanted, "stdout,stderr") == 0;

    for (size_t i = 0; i < 2; i++)
        if (both || strcmp(wanted, names[i]) == 0)
            logfile_init(&r->file[r->nfiles++], dir, names[i]);
    return r->nfiles > 0 ? 0 : bad_parameter(e, "stream", wanted);
}

static int prepare(struct reader *r, struct task *t, const struct session_status *s, struct err *e)
{
    char dir[512];

    exec_dir_path(t, s->id, dir, sizeof(dir));
    if (query_bool(r->q, "follow", &r->follow, e) < 0 || pick_streams(r, dir, e) < 0)
        return -1;
    r->ended = s->state != SESSION_RUNNING && s->state != SESSION_STARTING;
    if (!r->follow || r->ended)
        return 0;
    r->exec = exec_attach(t, s->id, &(struct exec_options){.watch_only = true}, on_changed, r, e);
    return r->exec ? 0 : -1;
}

void execs_logs(struct request *q)
{
    struct session_status s;
    struct err e = {0};
    struct task *t = request_exec(q, &s);

    if (!t)
        return;
    struct reader *r = xcalloc(1, sizeof(*r));
    r->q = q;
    if (prepare(r, t, &s, &e) < 0) {
        on_end(r);
        reply_problem(q, &e);
        return;
    }
    request_on_end(q, on_end, r);
    reply_stream(q, 200, "text/plain; charset=utf-8", (struct stream){.read = on_read, .arg = r});
}
