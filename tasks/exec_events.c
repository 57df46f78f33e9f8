/* Exec sessions as events. A supervisor tells a start and an end when they happen; what it told while there was no
 * server, or told to one that was killed before it wrote it down, is found again in the sessions' records. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "tasks/exec.h"
#include "tasks/registry_internal.h"

enum { COMMAND_MAX = 4096 };

struct session { /* what events have told of it */
    char id[ID_LEN + 1];
    bool started, ended;
};

struct exec_told {
    struct session *v;
    struct map by_id;
    int64_t oldest; /* time of the oldest event that is kept: what happened before it is not told again */
    int64_t since;  /* when it was made: another server may have told what is older */
};

/* --- one event ---------------------------------------------------------------------------------------------------- */

static struct json *data_of(const struct session_status *s)
{
    struct json *j = json_object();

    json_set_string(j, "session", s->id);
    return j;
}

/* Neither arguments nor environment are told: they may be secrets. */
static void emit_started(struct registry *r, const struct task *t, const struct session_status *s)
{
    struct json *j = data_of(s);
    _cleanup_json_ struct json *spec = exec_read_spec(t, s->id);
    const char *command = spec ? json_string(json_get(spec, "command")) : NULL;
    const char *user = spec ? json_string(json_get(spec, "user")) : NULL;

    json_set_string(j, "command", command && strlen(command) <= COMMAND_MAX ? command : NULL);
    json_set_string(j, "user", user ? user : t->spec.user);
    json_set_bool(j, "tty", s->tty);
    json_set(j, "pid", s->pid > 0 ? json_new_int(s->pid) : json_new_null());
    events_emit(r, EVENT_EXEC_STARTED, t, j);
}

static void emit_exited(struct registry *r, const struct task *t, const struct session_status *s)
{
    struct json *j = data_of(s);

    exit_put(j, s->code, s->signum);
    json_set_bool(j, "timed_out", s->timed_out);
    json_set_time(j, "started_at", s->started_at);
    json_set_time(j, "finished_at", s->finished_at);
    events_emit(r, EVENT_EXEC_EXITED, t, j);
}

static void emit_failed(struct registry *r, const struct task *t, const struct session_status *s)
{
    struct json *j = data_of(s);

    events_put_failure(j, &s->err);
    events_emit(r, EVENT_EXEC_FAILED, t, j);
}

static void emit_lost(struct registry *r, const struct task *t, const struct session_status *s)
{
    struct json *j = data_of(s);

    json_set_string(j, "reason", "the task's supervisor died; the outcome is unknown");
    events_emit(r, EVENT_EXEC_LOST, t, j);
}

/* --- what is on disk, and what the log holds of it ---------------------------------------------------------------- */

static bool mark(void *arg, const struct event_row *v)
{
    struct exec_told *told = arg;
    struct err e = {0};

    if (!event_type_matches("exec.", v->type))
        return true;
    _cleanup_json_ struct json *j = json_parse(v->data, strlen(v->data), &e);
    const char *id = j ? json_string(json_get(j, "session")) : NULL;
    struct session *x = id ? map_get(&told->by_id, id) : NULL;
    if (x)
        *(strcmp(v->type, event_type_name(EVENT_EXEC_STARTED)) == 0 ? &x->started : &x->ended) = true;
    return true;
}

static bool take_time(void *arg, const struct event_row *v)
{
    *(int64_t *)arg = v->time;
    return false;
}

/* -1 when it cannot be read: then the sessions are looked at again when the supervisor, or its end, is found again. */
static int read_log(struct registry *r, const struct task *t, struct exec_told *told)
{
    struct err e = {0};

    if (events_read(r, NULL, events_first(r) - 1, 1, take_time, &told->oldest, &e) < 0 ||
        events_read(r, t->id, 0, INT_MAX, mark, told, &e) < 0) {
        log_error("task %s: what its sessions have become is not told: %s", t->id, e.detail);
        return -1;
    }
    events_pending(r, t->id, mark, told);
    return 0;
}

struct search { /* for the failure of a session */
    const char *id;
    bool found;
};

static bool find_failure(void *arg, const struct event_row *v)
{
    struct search *x = arg;
    struct err e = {0};

    if (strcmp(v->type, event_type_name(EVENT_EXEC_FAILED)) != 0)
        return true;
    _cleanup_json_ struct json *j = json_parse(v->data, strlen(v->data), &e);
    const char *id = j ? json_string(json_get(j, "session")) : NULL;
    x->found = id && strcmp(id, x->id) == 0;
    return !x->found;
}

/* Nothing of it is on disk, so its supervisor tells it to each server anew. When the log cannot be read now the next
 * server will tell it. */
static bool failure_told(struct registry *r, const struct task *t, const struct exec_told *told,
                         const struct session_status *s)
{
    struct search x = {.id = s->id};
    int64_t oldest = 0;
    struct err e = {0};

    if (s->finished_at >= told->since)
        return false;
    if (events_read(r, NULL, events_first(r) - 1, 1, take_time, &oldest, &e) < 0 ||
        events_read(r, t->id, 0, INT_MAX, find_failure, &x, &e) < 0) {
        log_error("task %s: the failure of a session is not told: %s", t->id, e.detail);
        return true;
    }
    if (!x.found)
        events_pending(r, t->id, find_failure, &x);
    return x.found || s->finished_at < oldest;
}

static void recover_session(struct registry *r, const struct task *t, const struct exec_told *told, struct session *x,
                            bool over)
{
    struct session_status s;

    if (x->ended || exec_read(t, x->id, &s) < 0)
        return;
    bool exited = s.state == SESSION_EXITED && s.finished_at >= told->oldest;
    /* Of the run that has been lost: those of runs before it are lost already. */
    bool lost = over && s.state == SESSION_RUNNING && s.executed && s.started_at >= t->status.started_at;
    if (!x->started && (exited || s.executed) && s.started_at >= told->oldest) {
        emit_started(r, t, &s);
        x->started = true;
    }
    if (exited)
        emit_exited(r, t, &s);
    else if (lost)
        emit_lost(r, t, &s);
    x->ended = exited || lost;
}

struct exec_told *exec_events_recover(struct registry *r, const struct task *t, bool over)
{
    _cleanup_free_ char(*ids)[ID_LEN + 1] = NULL;
    size_t n = t->removal ? 0 : exec_list(t, &ids);
    struct exec_told *told = xcalloc(1, sizeof(*told));

    told->since = clock_real_ns();
    if (n == 0)
        return told;
    told->v = xcalloc(n, sizeof(*told->v));
    for (size_t i = 0; i < n; i++) { /* oldest first */
        memcpy(told->v[i].id, ids[n - 1 - i], sizeof(told->v[i].id));
        map_put(&told->by_id, told->v[i].id, &told->v[i]);
    }
    bool known = read_log(r, t, told) == 0;
    for (size_t i = 0; known && i < n; i++)
        recover_session(r, t, told, &told->v[i], over);
    return told;
}

void exec_told_free(struct exec_told *told)
{
    if (!told)
        return;
    map_free(&told->by_id);
    free(told->v);
    free(told);
}

/* --- what its supervisor tells ------------------------------------------------------------------------------------ */

void exec_events_apply(struct registry *r, const struct task *t, struct exec_told *told, const struct session_status *s)
{
    struct session_status known = *s;
    char id[ID_LEN + 1];

    memcpy(id, s->id, ID_LEN);
    id[ID_LEN] = '\0';
    if (t->removal || !id_valid(id) || !exec_status_accept(&known, id))
        return;
    const struct session *x = told ? map_get(&told->by_id, id) : NULL;
    if (s->state == SESSION_RUNNING && !(x && x->started))
        emit_started(r, t, &known);
    else if (s->state == SESSION_EXITED && !(x && x->ended))
        emit_exited(r, t, &known);
    else if (s->state == SESSION_FAILED && !(told && failure_told(r, t, told, &known)))
        emit_failed(r, t, &known);
}
