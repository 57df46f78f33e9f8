#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/footprint.h"
#include "base/log.h"
#include "supervisor/launcher.h"
#include "supervisor/record.h"
#include "supervisor/session.h"

enum { RECORD_RETRY_MS = 1000, TRIM_AFTER_MS = 500, LOST_TELL_MS = 1000, BYTES_TELL_MS = 10000 };

/* Only the standard streams and our few fds stay, from 3 on: nothing of the launcher's can reach the task. The program
 * of the device policy and the template are -1 where there is none. */
static void keep_fds(struct supervisor_args *a, int *device_fd)
{
    int *fds[] = {&a->spec_fd, &a->server_fd, &a->listen_fd, &a->template_fd, device_fd};
    int next = 3;

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (*fds[i] >= 0)
            *fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, 64);
    close_range(3, 63, 0);
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (*fds[i] >= 0) {
            dup3(*fds[i], next, O_CLOEXEC);
            *fds[i] = next++;
        }
    close_range((unsigned)next, ~0U, 0);
}

static int read_spec(struct supervision *s, struct err *e)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0;

    /* Read from the fd itself: to open it again would lend the server our power over a file that it may not read. */
    if (file_read_fd(s->args->spec_fd, SPEC_MAX, &text, &len) < 0)
        return err_step(e, "launch", errno, "cannot read the spec");
    _cleanup_json_ struct json *j = json_parse(text, len, e);
    return j ? spec_decode(j, &s->spec, e) : -1;
}

static void count_output(struct supervision *s)
{
    s->status.log_lost = s->capture[0].lost + s->capture[1].lost;
    for (int i = 0; i < 2; i++)
        s->status.log_bytes[i] = s->capture[i].cursor;
}

static void describe_end(struct supervision *s)
{
    struct exit_info *x = &s->status.exit;
    int st = s->wait_status;

    x->code = WIFEXITED(st) ? WEXITSTATUS(st) : -1;
    x->signum = WIFSIGNALED(st) ? WTERMSIG(st) : 0;
    x->started_at = s->status.started_at;
    x->finished_at = clock_real_ns();
    count_output(s);
    cgroup_usage(s->args->cgroups, s->args->id, &x->usage);
    x->oom_killed = x->usage.oom_kills > 0;
    oom_ended(s, x->usage.oom_kills);
    const char *reason = s->kill_reason    ? s->kill_reason
                         : x->oom_killed   ? "out of memory"
                         : WIFSIGNALED(st) ? "signaled"
                                           : "exited";
    snprintf(x->reason, sizeof(x->reason), "%s", reason);
    s->status.state = RUN_EXITED;
}

/* The record is written before anybody is told. When the disk does not take it, the end is told all the same: it is
 * then this process's memory that a next server reads it from, until the disk does. */
static void finish(void *arg, uint32_t events)
{
    struct supervision *s = arg;
    char path[256];
    bool recorded = record_write(s->task_dir_fd, &s->status) == 0;

    (void)events;
    if (!s->end_told) {
        if (!recorded)
            log_error("task %s: cannot write its record: %s", s->args->id, strerror(errno));
        control_broadcast(s);
    }
    s->end_told = true;
    if (!recorded || !sessions_recorded(s)) {
        loop_add_timer(s->loop, RECORD_RETRY_MS, finish, s);
        return;
    }
    task_socket_path(s->args->policy, s->args->id, path, sizeof(path));
    unlink(path);
    loop_stop(s->loop, 0);
}

void supervision_finish(struct supervision *s)
{
    s->status.ended_boot_ms = clock_mono_ms(); /* also when its last run ended long ago */
    network_teardown(&s->network, &s->spec.network, s->args->policy, s->args->id);
    userns_teardown(&s->userns, s->args->policy);
    finish(s, 0);
}

static void on_end(struct supervision *s)
{
    stop_ended(s);
    if (cgroup_kill(s->args->cgroups, s->args->id, END_KILL_MS) < 0)
        log_error("task %s: processes are left that cannot be killed", s->args->id);
    input_close(s);
    sessions_end(s);
    for (int i = 0; i < 2; i++) { /* all writers are gone: what the pipe still holds is the last of the output */
        loop_remove(s->capture[i].source);
        s->capture[i].source = NULL;
        if (s->capture[i].pipe_fd >= 0)
            capture_drain(&s->capture[i]);
        capture_close(&s->capture[i]);
        if (s->capture[i].pipe_fd >= 0)
            close(s->capture[i].pipe_fd);
        s->capture[i].pipe_fd = -1;
    }
    describe_end(s);
    if (cgroup_remove(s->args->cgroups, s->args->id) < 0)
        log_error("task %s: its cgroup could not be removed: %s", s->args->id, strerror(errno));
    if (!lifecycle_continues(s))
        supervision_finish(s);
}

static void on_child(void *arg, uint32_t events)
{
    struct supervision *s = arg;
    struct signalfd_siginfo drained;
    int status;
    pid_t pid;

    (void)events;
    while (read(s->signal_fd, &drained, sizeof(drained)) > 0)
        ;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (session_reaped(s, pid, status) || pid != s->status.pid || s->main_reaped)
            continue; /* an orphan of a task in the host's pid namespace */
        s->main_reaped = true;
        s->wait_status = status;
    }
    if (s->main_reaped && s->status.state == RUN_RUNNING)
        on_end(s);
}

/* How much output there is, and how much the disk did not take, is told while the task runs, but not all the time. */
static void tell_output(struct supervision *s)
{
    bool lost = s->capture[0].lost + s->capture[1].lost != s->status.log_lost;
    int64_t now = clock_mono_ms();

    if (!s->bytes_told_ms)
        s->bytes_told_ms = now;
    if ((!lost || now - s->lost_told_ms < LOST_TELL_MS) && now - s->bytes_told_ms < BYTES_TELL_MS)
        return;
    count_output(s);
    s->lost_told_ms = lost ? now : s->lost_told_ms;
    s->bytes_told_ms = now;
    control_broadcast(s);
}

static void on_output(struct supervision *s, int i)
{
    struct capture *c = &s->capture[i];

    if (capture_pump(c) == 0) {
        loop_remove(c->source);
        c->source = NULL;
        close(c->pipe_fd);
        c->pipe_fd = -1;
    }
    tell_output(s);
}

static void on_stdout(void *arg, uint32_t events)
{
    (void)events;
    on_output(arg, 0);
}

static void on_stderr(void *arg, uint32_t events)
{
    (void)events;
    on_output(arg, 1);
}

static void on_trim(void *arg, uint32_t events)
{
    (void)arg, (void)events;
    footprint_trim(); /* what the start needed goes back: a waiting supervisor stays small */
}

static int init(struct supervision *s, struct err *e)
{
    sigset_t set;
    char path[256];

    record_init(&s->status, s->args->id);
    s->loop = loop_new(e);
    if (!s->loop || control_init(s, e) < 0)
        return -1;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    task_dir_path(s->args->policy, s->args->id, path, sizeof(path));
    s->task_dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->signal_fd < 0 || s->task_dir_fd < 0)
        return err_step(e, "launch", errno, "cannot open the task's directory");
    if (record_reserve(s->task_dir_fd) < 0)
        return err_step(e, "record", errno, "cannot keep room for the record");
    return s->args->again ? lifecycle_resume(s, e) : 0;
}

int supervision_watch(struct supervision *s)
{
    for (int i = 0; i < 2; i++) {
        struct capture *c = &s->capture[i];

        c->source = loop_add_fd(s->loop, c->pipe_fd, EPOLLIN, i == 0 ? on_stdout : on_stderr, s);
        if (!c->source)
            return -1;
    }
    s->child_source = loop_add_fd(s->loop, s->signal_fd, EPOLLIN, on_child, s);
    return s->child_source ? 0 : -1;
}

/* A start that failed leaves a record and nothing else; the server removes the directory. */
static void tell_failure(struct supervision *s, const struct err *e)
{
    char path[256];

    s->status.state = RUN_FAILED;
    s->status.err = *e;
    s->status.ended_boot_ms = clock_mono_ms();
    if (record_write(s->task_dir_fd, &s->status) < 0)
        log_error("task %s: cannot write its record: %s", s->args->id, strerror(errno));
    control_broadcast(s);
    task_socket_path(s->args->policy, s->args->id, path, sizeof(path));
    unlink(path);
}

_Noreturn void supervisor_main(const struct supervisor_args *given)
{
    struct cgroup_host cgroups = *given->cgroups;
    struct supervisor_args a = *given;
    struct supervision s = {.args = &a,
                            .task_dir_fd = -1,
                            .logs_dir_fd = -1,
                            .signal_fd = -1,
                            .input_fd = -1,
                            .oom = {.fd = -1},
                            .disk = DISK_INIT,
                            .userns = USERNS_INIT};
    struct err e = {0};

    setsid();
    prctl(PR_SET_NAME, "cloister-task");
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, 0);
    signal(SIGPIPE, SIG_IGN);
    umask(022);
    a.cgroups = &cgroups;
    keep_fds(&a, &cgroups.devices_fd);
    network_init(&s.network);
    s.capture[0].pipe_fd = s.capture[1].pipe_fd = -1;
    s.capture[0].file_fd = s.capture[1].file_fd = -1;
    if (init(&s, &e) < 0 || read_spec(&s, &e) < 0 || supervision_start(&s, &e) < 0) {
        tell_failure(&s, &e);
        _exit(1);
    }
    if (supervision_watch(&s) < 0 || record_write(s.task_dir_fd, &s.status) < 0) {
        err_step(&e, "record", errno, "cannot watch or record the task");
        supervision_undo(&s);
        tell_failure(&s, &e);
        _exit(1);
    }
    lifecycle_started(&s);
    control_broadcast(&s);
    loop_add_timer(s.loop, TRIM_AFTER_MS, on_trim, NULL);
    _exit(loop_run(s.loop));
}
