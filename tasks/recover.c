/* What became of tasks: from their supervisors' messages and records, and what to do when neither tells. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "supervisor/launcher.h"
#include "supervisor/record.h"
#include "tasks/registry_internal.h"

enum { RELINK_MS = 200 };

static enum task_state state_of(const struct run_status *s, enum task_state otherwise)
{
    switch (s->state) {
    case RUN_STARTING:
        return TASK_STARTING;
    case RUN_RUNNING:
        return s->stopping ? TASK_STOPPING : s->paused ? TASK_PAUSED : TASK_RUNNING;
    case RUN_RESTARTING:
        return TASK_RESTARTING;
    case RUN_EXITED:
        return TASK_EXITED;
    case RUN_FAILED:
        return TASK_FAILED;
    default:
        return otherwise;
    }
}

/* Output alone is no change that is stored or told: it comes all the time. */
static void count_output(struct task *t, const struct run_status *s)
{
    for (int i = 0; i < 2; i++) {
        if (!t->from_row && s->log_bytes[i] > t->status.log_bytes[i])
            t->registry->events.counters.log_bytes[i] += s->log_bytes[i] - t->status.log_bytes[i];
        t->status.log_bytes[i] = s->log_bytes[i];
    }
    t->from_row = false;
}

bool recover_apply(struct task *t, const struct run_status *s)
{
    /* An end is final; and the message comes from another process, so its texts are checked to have an end. */
    if (task_ended(t) || strncmp(s->id, t->id, sizeof(s->id)) != 0)
        return false;
    count_output(t, s);
    if (memcmp(s, &t->status, sizeof(*s)) == 0)
        return false;
    t->status = *s;
    t->status.boot_id[sizeof(s->boot_id) - 1] = '\0';
    t->status.exit.reason[sizeof(s->exit.reason) - 1] = '\0';
    t->status.waits_for[sizeof(s->waits_for) - 1] = '\0';
    err_terminate(&t->status.err);
    t->state = state_of(s, t->state);
    return true;
}

static int read_record(struct registry *r, const struct task *t, struct run_status *s)
{
    char path[512];

    task_dir_path(r->config.policy, t->id, path, sizeof(path));
    _cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? -1 : record_read(dir, t->id, s);
}

static void recover_dead(struct registry *r, struct task *t)
{
    struct run_status s;
    struct err e = {0};

    if (read_record(r, t, &s) == 0 && (s.state == RUN_EXITED || s.state == RUN_FAILED)) {
        exec_told_free(exec_events_recover(r, t, true));
        if (recover_apply(t, &s)) {
            registry_commit(r, t);
            recover_socket(r, t);
            return;
        }
    }
    /* Its processes may still run: they are ended before the task is called lost. */
    if (launcher_ask(r, CLEAN_TASK, t->id, NULL, 0, &e) < 0)
        log_error("task %s: its supervisor is gone; %s", t->id, e.detail);
}

void recover_socket(struct registry *r, const struct task *t)
{
    char path[256];
    struct err e = {0};

    task_socket_path(r->config.policy, t->id, path, sizeof(path));
    if (access(path, F_OK) == 0 && launcher_ask(r, CLEAN_TASK, t->id, NULL, 0, &e) < 0)
        log_error("task %s: its supervisor's socket is left; %s", t->id, e.detail);
}

static void on_relink(void *arg, uint32_t events)
{
    struct task *t = arg;

    (void)events;
    t->relink = NULL;
    if (task_live(t) && !t->link)
        recover_link(t->registry, t);
}

void recover_link(struct registry *r, struct task *t)
{
    if (link_adopt(r, t) == 0) {
        update_again(t);
    } else if (errno == ECONNREFUSED || errno == ENOENT) {
        recover_dead(r, t);
    } else if (!t->relink) {
        log_warn("task %s: its supervisor does not answer now: %s", t->id, strerror(errno));
        t->relink = loop_add_timer(r->config.loop, RELINK_MS, on_relink, t);
    }
}

bool recover_rebooted(const struct registry *r, const struct task *t)
{
    return t->status.boot_id[0] && strcmp(t->status.boot_id, r->boot_id) != 0;
}

static void end_now(const struct registry *r, struct task *t, enum task_state state)
{
    t->state = state;
    t->status.ended_boot_ms = clock_mono_ms();
    memcpy(t->status.boot_id, r->boot_id, sizeof(t->status.boot_id));
}

void recover_fail(struct registry *r, struct task *t, const struct err *e)
{
    end_now(r, t, TASK_FAILED);
    t->status.state = RUN_FAILED;
    t->status.err = *e;
}

void recover_lose(struct registry *r, struct task *t, const char *reason)
{
    struct exit_info *x = &t->status.exit;

    end_now(r, t, TASK_LOST);
    t->status.waits_for[0] = '\0';
    *x = (struct exit_info){.code = -1, .started_at = t->status.started_at, .finished_at = clock_real_ns()};
    snprintf(x->reason, sizeof(x->reason), "%s", reason);
}

/* Who is to be restarted waits for room as new tasks do. The boot id of before stays: it tells that it has run. */
static void after_reboot(struct registry *r, struct task *t, bool stopping)
{
    if (t->spec.restart.attempts == 0 || stopping) {
        recover_lose(r, t, REBOOT_REASON);
        return;
    }
    t->state = TASK_PENDING;
    admission_pump(r);
}

void recover_cleaned(struct registry *r, struct task *t, const struct err *e)
{
    struct run_status s;

    if (task_ended(t) || t->link)
        return;
    if (strcmp(e->step, SUPERVISOR_STEP) == 0 || strcmp(e->step, HELPER_STEP) == 0) {
        recover_link(r, t); /* it lives after all; or this ends in the same request */
        return;
    }
    if (e->status != 0)
        log_error("task %s: not all it left could be cleared: %s", t->id, e->detail);
    exec_told_free(exec_events_recover(r, t, true));
    bool stopping = t->state == TASK_STOPPING;
    int rc = read_record(r, t, &s);
    bool damaged = rc < 0 && errno == EBADMSG;
    bool changed = rc == 0 && recover_apply(t, &s);
    if (rc == 0 && (s.state == RUN_EXITED || s.state == RUN_FAILED)) {
        if (!changed)
            return;
    } else if (recover_rebooted(r, t)) {
        after_reboot(r, t, stopping);
    } else if (rc == 0 || t->state != TASK_STARTING || t->status.started_at > 0 || damaged) {
        recover_lose(r, t, "its supervisor died; the outcome is unknown");
    } else {
        struct err cut = {0};

        err_set(&cut, 500, "launch_cut_short", "the launch was cut short: no supervisor recorded the task");
        snprintf(cut.step, sizeof(cut.step), "launch");
        recover_fail(r, t, &cut);
    }
    registry_commit(r, t);
}

static void load(void *arg, const struct task_row *row)
{
    struct registry *r = arg;
    struct err e = {0};
    struct task *t = xcalloc(1, sizeof(*t));
    _cleanup_json_ struct json *j = json_parse(row->spec ? row->spec : "", row->spec ? strlen(row->spec) : 0, &e);

    if (!id_valid(row->id) || !j || spec_decode(j, &t->spec, &e) < 0) {
        log_error("task \"%s\" of the store is not understood and left alone: %s", row->id, e.detail);
        if (!map_get(&r->unknown, row->id))
            map_put(&r->unknown, xstrdup(row->id), r);
        task_free(t);
        return;
    }
    memcpy(t->id, row->id, sizeof(t->id));
    t->removal = row->removing ? REMOVAL_WANTED : REMOVAL_NONE;
    t->from_row = true;
    t->state = row->state >= TASK_PENDING && row->state < TASK_STATES ? (enum task_state)row->state : TASK_LOST;
    t->version = row->version;
    t->created_at = row->created_at;
    t->status = row->status;
    t->told = t->state;
    t->told_start = t->status.started_at;
    t->told_end = t->status.exit.finished_at;
    t->told_oom = t->status.oom_kills;
    t->told_files = t->status.root_files;
    t->told_bytes = t->status.root_bytes;
    t->told_progress = t->state == TASK_STARTING && t->status.root_files > 0;
    t->idempotency_key = row->idempotency_key ? xstrdup(row->idempotency_key) : NULL;
    t->body_hash = row->body_hash ? xstrdup(row->body_hash) : NULL;
    registry_append(r, t);
}

static struct json *started_data(void)
{
    struct json *j = json_object();

    json_set_string(j, "version", CLOISTER_VERSION);
    json_set_int(j, "pid", getpid());
    return j;
}

/* Tasks whose supervisors were found, whose records told their end, and after whom the launcher clears up. */
static struct json *recovered_data(int64_t adopted, int64_t recorded, int64_t cleared)
{
    struct json *j = json_object();

    json_set_int(j, "adopted", adopted);
    json_set_int(j, "recorded", recorded);
    json_set_int(j, "cleared", cleared);
    return j;
}

int recover_all(struct registry *r, struct err *e)
{
    int64_t adopted = 0, recorded = 0, cleared = 0;

    if (store_each(r->store, load, r, e) < 0)
        return -1;
    events_emit(r, EVENT_SERVER_STARTED, NULL, started_data());
    for (struct task *t = r->first; t; t = t->next) {
        if (t->removal)
            removal_begin(r, t); /* once more */
        if (!task_live(t))
            continue;
        recover_link(r, t);
        *(t->link || t->relink ? &adopted : task_ended(t) ? &recorded : &cleared) += 1;
    }
    if (sweep_directories(r, e) < 0)
        return -1;
    if (adopted || recorded || cleared)
        events_emit(r, EVENT_SERVER_RECOVERED, NULL, recovered_data(adopted, recorded, cleared));
    if (registry_settle_now(r, e) == 0)
        return 0;
    /* On a full disk it serves all the same: tasks can be stopped, and removed, which is what frees the disk. */
    log_error("what was found at the start waits for the store: %s", e->detail);
    return strcmp(e->code, STORE_DAMAGED) == 0 ? -1 : 0;
}
