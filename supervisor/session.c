/* The life of exec sessions. */
#include "supervisor/session.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

static struct session *find(struct supervision *s, const char *id)
{
    struct session *x = s->sessions;

    while (x && strcmp(x->status.id, id) != 0)
        x = x->next;
    return x;
}

static size_t count(const struct supervision *s)
{
    size_t n = 0;

    for (const struct session *x = s->sessions; x; x = x->next)
        n++;
    return n;
}

static struct session *session_new(struct supervision *s, const char *id)
{
    struct session *x = xcalloc(1, sizeof(*x));

    x->owner = s;
    x->status =
        (struct session_status){.head = message_head(MSG_SESSION_STATUS), .state = SESSION_STARTING, .code = -1};
    snprintf(x->status.id, sizeof(x->status.id), "%s", id);
    x->dir_fd = x->report_fd = x->input_fd = -1;
    for (int i = 0; i < 2; i++) {
        x->out[i].session = x;
        x->out[i].capture.pipe_fd = x->out[i].capture.file_fd = -1;
    }
    x->next = s->sessions;
    s->sessions = x;
    return x;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void session_free(struct session *x)
{
    struct session **at = &x->owner->sessions;

    while (*at != x)
        at = &(*at)->next;
    *at = x->next;
    attach_drop_all(x);
    loop_remove(x->timer);
    join_release(&x->join);
    session_spec_free(&x->spec);
    buf_free(&x->input);
    close_fd(&x->dir_fd);
    free(x);
}

int session_record(struct session *x)
{
    return file_write_atomic(x->dir_fd, "record", &x->status, x->status.head.size, 0644, false);
}

void session_executed(struct session *x)
{
    if (x->status.executed)
        return;
    x->status.executed = 1;
    if (session_record(x) < 0)
        log_error("task %s: cannot record the session %s: %s", x->owner->args->id, x->status.id, strerror(errno));
    control_tell_session(x->owner, &x->status);
}

static int execs_open(const struct supervision *s)
{
    return openat(s->task_dir_fd, "execs", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

static int by_id(const void *a, const void *b)
{
    return strcmp(a, b); /* ids sort by time */
}

/* Ids of the sessions that have ended, oldest first; the caller frees *ids. */
static size_t ended_ids(struct supervision *s, int execs_fd, char (**ids)[ID_LEN + 1])
{
    DIR *d = execs_fd < 0 ? NULL : fdopendir(fcntl(execs_fd, F_DUPFD_CLOEXEC, 3));
    size_t n = 0;

    *ids = NULL;
    for (const struct dirent *entry; d && (entry = readdir(d));) {
        const struct session *x = id_valid(entry->d_name) ? find(s, entry->d_name) : NULL;

        if (!id_valid(entry->d_name) || (x && x->status.state <= SESSION_RUNNING))
            continue;
        *ids = xrealloc(*ids, (n + 1) * sizeof(**ids));
        memcpy((*ids)[n++], entry->d_name, ID_LEN + 1);
    }
    if (d)
        closedir(d);
    if (n > 1)
        qsort(*ids, n, sizeof(**ids), by_id);
    return n;
}

/* Its record is the last that is written of it. */
static bool ended_just_now(int execs_fd, const char *id)
{
    char path[ID_LEN + sizeof("/record")];
    struct stat st;

    snprintf(path, sizeof(path), "%s/record", id);
    return fstatat(execs_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           clock_real_ns() / 1000000000 - st.st_mtim.tv_sec < SESSIONS_KEPT_S;
}

static void prune(struct supervision *s)
{
    _cleanup_close_ int fd = execs_open(s);
    char(*ids)[ID_LEN + 1];
    size_t n = ended_ids(s, fd, &ids);

    for (size_t i = 0; i < n && n - i > SESSIONS_KEPT; i++) {
        if (n - i <= SESSIONS_KEPT_MAX && ended_just_now(fd, ids[i]))
            break;
        if (file_remove_tree(fd, ids[i]) < 0)
            log_warn("task %s: the session %s cannot be removed: %s", s->args->id, ids[i], strerror(errno));
    }
    free(ids);
}

static void close_streams(struct session *x)
{
    loop_remove(x->report_source);
    loop_remove(x->input_source);
    loop_remove(x->timer);
    x->report_source = x->input_source = x->timer = NULL;
    for (int i = 0; i < 2; i++) {
        struct capture *c = &x->out[i].capture;

        loop_remove(c->source);
        c->source = NULL;
        /* All writers are gone, or are no longer heard: what is there now is the last of the output. */
        for (int turns = 0; c->pipe_fd >= 0 && turns < 4 && capture_pump(c) > 0; turns++)
            ;
        capture_close(c);
        close_fd(&c->pipe_fd);
        x->status.cursor[i] = c->cursor;
    }
    close_fd(&x->report_fd);
    close_fd(&x->input_fd);
}

/* Killed already. One that is uninterruptible in the kernel, as on a file system that hangs, is not waited for longer
 * than SESSION_KILL_MS: it is reaped as an orphan when the kernel lets it. Tells the status when there is one. */
static void reap(pid_t *pid, int *status)
{
    int64_t deadline = clock_mono_ms() + SESSION_KILL_MS;
    pid_t rc = 0;

    while (*pid > 0 && (rc = waitpid(*pid, status, WNOHANG)) == 0 && clock_mono_ms() < deadline)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    if (*pid > 0 && rc == 0)
        log_error("process %d of a session cannot be killed: uninterruptible in the kernel", (int)*pid);
    *pid = 0;
}

/* False while the disk does not take it; one that was pruned meanwhile is done with. */
static bool record_end(struct session *x)
{
    if (session_record(x) < 0 && errno != ENOENT)
        return false;
    session_free(x);
    return true;
}

static void on_record_retry(void *arg, uint32_t events)
{
    struct session *x = arg;

    (void)events;
    x->timer = NULL;
    if (!record_end(x))
        x->timer = loop_add_timer(x->owner->loop, SESSION_RECORD_MS, on_record_retry, x);
}

/* Told last: who is told finds all done. An end that the disk does not take now is told all the same, and kept in
 * memory until it is recorded. */
static void tell_end(struct session *x)
{
    bool recorded = x->status.state == SESSION_FAILED || session_record(x) == 0;

    if (!recorded)
        log_error("task %s: cannot record the session %s: %s", x->owner->args->id, x->status.id, strerror(errno));
    prune(x->owner);
    control_tell_session(x->owner, &x->status);
    attach_tell(x);
    if (recorded) {
        session_free(x);
        return;
    }
    attach_drop_all(x);
    x->timer = loop_add_timer(x->owner->loop, SESSION_RECORD_MS, on_record_retry, x);
}

void session_finish(struct session *x, const struct err *e)
{
    struct supervision *s = x->owner;
    const struct cgroup_host *h = s->args->cgroups;

    if (!e) /* it may have ended before its start was noticed */
        session_executed(x);
    if (cgroup_session_kill(h, s->args->id, x->status.id, SESSION_KILL_MS) < 0)
        log_error("task %s: processes of the session %s are left", s->args->id, x->status.id);
    reap(&x->pid, NULL);
    reap(&x->helper, NULL);
    close_streams(x);
    x->status.pid = 0;
    x->status.finished_at = clock_real_ns();
    if (cgroup_session_remove(h, s->args->id, x->status.id) < 0)
        log_error("task %s: the group of the session %s is left: %s", s->args->id, x->status.id, strerror(errno));
    if (e) { /* a session that never ran leaves nothing */
        _cleanup_close_ int execs = execs_open(s);

        x->status.state = SESSION_FAILED;
        x->status.err = *e;
        if (execs >= 0)
            file_remove_tree(execs, x->status.id);
    } else {
        x->status.state = SESSION_EXITED;
        x->status.code = WIFEXITED(x->wait_status) ? WEXITSTATUS(x->wait_status) : -1;
        x->status.signum = WIFSIGNALED(x->wait_status) ? WTERMSIG(x->wait_status) : 0;
    }
    tell_end(x);
}

bool session_reaped(struct supervision *s, pid_t pid, int status)
{
    struct err e = {0};

    for (struct session *x = s->sessions; x; x = x->next) {
        if (pid == x->helper) {
            x->helper = 0;
            return true;
        }
        if (pid != x->pid)
            continue;
        x->pid = 0;
        x->wait_status = status;
        /* Its end may be heard of before what it said before: that is still there to be read. */
        if (session_failed(x, &e)) {
            session_finish(x, &e);
        } else if (x->status.state == SESSION_RUNNING) {
            session_finish(x, NULL);
        } else {
            err_step(&e, "launch", EPROTO, "the session's process is gone");
            session_finish(x, &e);
        }
        return true;
    }
    return false;
}

void sessions_end(struct supervision *s)
{
    for (struct session *x = s->sessions, *next; x; x = next) {
        struct err e = {0};

        next = x->next;
        if (x->status.state == SESSION_EXITED)
            continue; /* its record alone is missing */
        if (x->helper > 0)
            kill(x->helper, SIGKILL);
        if (x->pid > 0) {
            x->wait_status = SIGKILL; /* unless it tells otherwise (wait(2)) */
            kill(x->pid, SIGKILL);
            reap(&x->pid, &x->wait_status);
        }
        err_set(&e, 409, "task_ended", "the task has ended");
        session_finish(x, x->status.state == SESSION_RUNNING ? NULL : &e);
    }
}

bool sessions_recorded(struct supervision *s)
{
    for (struct session *x = s->sessions, *next; x; x = next) {
        next = x->next;
        record_end(x);
    }
    return !s->sessions;
}

static int start(struct supervision *s, const struct session_request *r, int *fds, size_t nfds, struct err *e)
{
    if (nfds < 2)
        return err_set(e, 500, "protocol", "a session needs a spec and a channel");
    struct session *x = session_new(s, r->id);
    int channel = take_fd(&fds[1]), input = nfds > 2 ? take_fd(&fds[2]) : -1;
    bool interactive = input >= 0;
    if (attach_add(x, channel, input, r) < 0) {
        session_free(x);
        return -1;
    }
    if (count(s) > SESSIONS_LIVE_MAX)
        err_set(e, 429, "too_many_sessions", "the task has %d sessions already", SESSIONS_LIVE_MAX);
    if (e->status || session_start(x, fds[0], interactive, e) < 0) {
        if (x->helper > 0)
            kill(x->helper, SIGKILL);
        session_finish(x, e);
    }
    return 0;
}

void session_handle(struct supervision *s, const struct session_request *r, int *fds, size_t nfds, struct err *reply)
{
    struct session *x = id_valid(r->id) ? find(s, r->id) : NULL;

    if (!id_valid(r->id) || (r->op == SESSION_START && x))
        err_set(reply, 500, "protocol", "the request is not understood");
    else if (s->main_reaped || s->status.state != RUN_RUNNING)
        err_set(reply, 409, "task_ended", "the task does not run");
    else if (s->status.paused && r->op == SESSION_START)
        err_set(reply, 409, "task_paused", "the task is paused: nothing in its groups can run");
    else if (r->op == SESSION_START)
        start(s, r, fds, nfds, reply);
    else if (!x)
        err_set(reply, 409, "session_ended", "the session has ended");
    else if (r->op == SESSION_SIGNAL)
        session_signal(x, r->signum, reply);
    else if (r->op != SESSION_ATTACH || nfds < 1)
        err_set(reply, 500, "protocol", "unknown operation %u", r->op);
    else if (attach_add(x, take_fd(&fds[0]), nfds > 1 ? take_fd(&fds[1]) : -1, r) == 0)
        attach_tell(x);
    if (x && x->status.state == SESSION_EXITED)
        attach_drop_all(x);
}
