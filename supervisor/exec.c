/* From a request to a running session. The supervisor never waits: the entering process reports over a socket. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/msg.h"
#include "base/signals.h"
#include "supervisor/session.h"

struct streams {
    int in;         /* the command's standard input */
    int in_pipe[2]; /* interactive: read end, write end */
    int out[2][2];  /* pipes: stdout, stderr */
    int report[2];  /* ours, the child's */
};

static void streams_close(struct streams *io)
{
    int *fds = (int *)io;

    for (size_t i = 0; i < sizeof(*io) / sizeof(int); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}
#define _cleanup_streams_ __attribute__((cleanup(streams_close)))

static int read_spec(struct session *x, int fd, struct err *e)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0;

    if (file_read_fd(fd, SPEC_MAX, &text, &len) < 0)
        return err_step(e, "launch", errno, "cannot read the session's spec");
    _cleanup_json_ struct json *j = json_parse(text, len, e);
    return j ? session_spec_decode(j, &x->spec, e) : -1;
}

/* What the listing shows; neither the environment nor the input is kept. */
static int write_spec(const struct session *x)
{
    struct session_spec shown = x->spec;

    shown.env = (struct pairs){0};
    shown.input = NULL;
    _cleanup_json_ struct json *j = session_spec_encode(&shown);
    _cleanup_free_ char *text = json_print(j);
    return file_write_atomic(x->dir_fd, "spec", text, strlen(text), 0644, false);
}

static int make_dir(int parent, const char *name, gid_t gid)
{
    if (mkdirat(parent, name, 0750) < 0 && errno != EEXIST)
        return -1;
    _cleanup_close_ int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fchown(fd, 0, gid) < 0 || fchmod(fd, 0750) < 0)
        return -1;
    return take_fd(&fd);
}

static int prepare_dir(struct session *x, struct err *e)
{
    gid_t gid = x->owner->args->policy->server_gid;
    _cleanup_close_ int execs = make_dir(x->owner->task_dir_fd, "execs", gid);

    x->dir_fd = execs < 0 ? -1 : make_dir(execs, x->status.id, gid);
    if (x->dir_fd < 0 || write_spec(x) < 0)
        return err_step(e, "task_directory", errno, "cannot make the session's directory");
    for (int i = 0; i < 2; i++) {
        struct capture *c = &x->out[i].capture;

        c->dir_fd = x->dir_fd;
        c->stream = i == 0 ? "stdout" : "stderr";
        c->max_size = SESSION_FILE_SIZE;
        c->max_files = SESSION_FILES;
        c->gid = gid;
        c->order = &x->log_order;
        if (capture_open(c, e) < 0)
            return -1;
    }
    return 0;
}

static int open_input(struct session *x, struct streams *io, bool interactive)
{
    const char *text = x->spec.input;

    if (interactive && !x->spec.tty) {
        if (pipe2(io->in_pipe, O_CLOEXEC) < 0 || fcntl(io->in_pipe[1], F_SETFL, O_NONBLOCK) < 0)
            return -1;
        io->in = io->in_pipe[0];
        io->in_pipe[0] = -1;
        return fchown(io->in, x->join.box.host_who.uid, x->join.box.host_who.gid);
    }
    io->in = text ? memfd_create("stdin", MFD_CLOEXEC) : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (io->in < 0 || !text)
        return io->in < 0 ? -1 : 0;
    return file_write_all(io->in, text, strlen(text)) < 0 || lseek(io->in, 0, SEEK_SET) < 0 ? -1 : 0;
}

static int open_streams(struct session *x, struct streams *io, bool interactive, struct err *e)
{
    const struct identity *who = &x->join.box.host_who;

    memset(io, 0xff, sizeof(*io)); /* all -1 */
    if (open_input(x, io, interactive) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, io->report) < 0)
        return err_step(e, "stdio", errno, "cannot make the session's standard streams");
    for (int i = 0; i < 2 && !x->spec.tty; i++)
        if (pipe2(io->out[i], O_CLOEXEC) < 0 || fchown(io->out[i][1], who->uid, who->gid) < 0 ||
            fcntl(io->out[i][0], F_SETFL, O_NONBLOCK) < 0)
            return err_step(e, "stdio", errno, "cannot make the session's standard streams");
    return 0;
}

_Noreturn static void child_main(const struct session *x, struct streams *io)
{
    bool tty = x->spec.tty;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dup2(io->in, 0) < 0 || dup2(tty ? io->in : io->out[0][1], 1) < 0 || dup2(tty ? io->in : io->out[1][1], 2) < 0)
        _exit(127);
    join_enter(&x->join, io->report[1]);
}

static void fail(struct session *x, const struct err *e)
{
    if (x->pid > 0)
        kill(x->pid, SIGKILL);
    if (x->helper > 0)
        kill(x->helper, SIGKILL);
    session_finish(x, e);
}

/* The process is in the task's namespaces, with the task's power, and waits. */
static int admit(struct session *x, pid_t pid, struct err *e)
{
    const struct supervision *s = x->owner;

    siginfo_t info;

    /* A child of ours that is not reaped: its number has not been given away. */
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
        return err_step(e, "launch", errno, "the session's process is gone");
    x->pid = pid;
    x->status.pid = pid;
    if (cgroup_attach(s->args->cgroups, s->args->id, pid, e) < 0 ||
        cgroup_session_attach(s->args->cgroups, s->args->id, x->status.id, pid, e) < 0)
        return -1;
    if (cgroup_pids_exceeded(s->args->cgroups, s->args->id)) {
        err_set(e, 409, "pids_limit", "the task is at its limit of processes (resources.pids)");
        snprintf(e->step, sizeof(e->step), "cgroup_attach");
        e->errnum = EAGAIN;
        return -1;
    }
    x->status.state = SESSION_RUNNING;
    x->status.started_at = clock_real_ns();
    if (session_record(x) < 0)
        return err_step(e, "record", errno, "cannot write the session's record");
    return send(x->report_fd, "", 1, MSG_NOSIGNAL) == 1 ? 0 : err_step(e, "launch", errno, "the session is gone");
}

static int take_terminal(struct session *x, int *fd, struct err *e)
{
    struct winsize size = {.ws_row = x->spec.rows ? (unsigned short)x->spec.rows : 24,
                           .ws_col = x->spec.cols ? (unsigned short)x->spec.cols : 80};

    if (x->input_fd >= 0 || *fd < 0 || ioctl(*fd, TIOCSWINSZ, &size) < 0 ||
        fcntl(*fd, F_SETFL, O_NONBLOCK | O_RDWR) < 0)
        return err_step(e, "terminal", errno, "cannot take the terminal over");
    x->input_fd = fcntl(*fd, F_DUPFD_CLOEXEC, 3); /* a second one, as each is watched for something else */
    x->out[0].capture.pipe_fd = take_fd(fd);
    if (x->input_fd < 0 || attach_watch_output(&x->out[0]) < 0)
        return err_step(e, "terminal", errno, "cannot watch the terminal");
    return 0;
}

static void on_timeout(void *arg, uint32_t events)
{
    struct session *x = arg;
    struct err e = {0};

    (void)events;
    x->timer = NULL;
    if (x->report_fd >= 0) {
        err_step(&e, "launch", ETIMEDOUT, "the session did not start within %d s", SESSION_START_MS / 1000);
        fail(x, &e);
        return;
    }
    x->status.timed_out = 1;
    session_signal(x, SIGKILL, &e);
}

/* All ends of the report are closed: execve has taken place. A process that was killed before it closes them too; its
 * end tells. */
static void started(struct session *x)
{
    struct err e = {0};

    loop_remove(x->timer);
    x->timer = NULL;
    if (x->status.state != SESSION_RUNNING) {
        err_step(&e, "launch", EPROTO, "the entering process is gone");
        fail(x, &e);
        return;
    }
    if (x->spec.timeout_ms > 0)
        x->timer = loop_add_timer(x->owner->loop, x->spec.timeout_ms, on_timeout, x);
    session_executed(x);
    attach_tell(x);
}

/* An err from a process that the task could have taken over. */
static void make_safe(struct err *e)
{
    err_terminate(e);
    if (e->status < 400 || e->status > 599)
        err_step(e, "launch", EPROTO, "a failure without a status");
}

static void handle_report(struct session *x, struct join_report *r, int *fd)
{
    struct err e = {0};
    int rc = -1;

    /* Once it waits in the task it has the task's power: it may tell of a failure, nothing else. */
    if (r->kind == JOIN_FAILED)
        e = r->err;
    else if (r->kind == JOIN_TERMINAL && x->spec.tty && x->pid == 0)
        rc = take_terminal(x, fd, &e);
    else if (r->kind == JOIN_PID && x->pid == 0 && r->pid > 0)
        rc = admit(x, r->pid, &e);
    else
        err_step(&e, "launch", EPROTO, "an unknown report");
    if (rc == 0)
        return;
    make_safe(&e);
    fail(x, &e);
}

bool session_failed(struct session *x, struct err *e)
{
    struct join_report r;
    int fds[MSG_FDS_MAX];
    size_t nfds = 0;

    while (x->report_fd >= 0 && msg_recv(x->report_fd, &r, sizeof(r), fds, &nfds) == sizeof(r)) {
        for (size_t i = 0; i < nfds; i++)
            close(fds[i]);
        if (r.kind != JOIN_FAILED)
            continue;
        *e = r.err;
        make_safe(e);
        return true;
    }
    return false;
}

static void on_report(void *arg, uint32_t events)
{
    struct session *x = arg;
    struct join_report r;
    int fds[MSG_FDS_MAX];
    size_t nfds = 0;

    (void)events;
    ssize_t n = msg_recv(x->report_fd, &r, sizeof(r), fds, &nfds);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == sizeof(r)) {
        int fd = nfds > 0 ? fds[0] : -1;

        for (size_t i = 1; i < nfds; i++)
            close(fds[i]);
        handle_report(x, &r, &fd);
        if (fd >= 0)
            close(fd);
        return;
    }
    loop_remove(x->report_source);
    x->report_source = NULL;
    close(x->report_fd);
    x->report_fd = -1;
    started(x);
}

static int spawn(struct session *x, struct streams *io, struct err *e)
{
    pid_t pid = fork();

    if (pid < 0)
        return err_step(e, "launch", errno, "cannot fork");
    if (pid == 0)
        child_main(x, io);
    x->helper = pid;
    x->report_fd = take_fd(&io->report[0]);
    x->input_fd = take_fd(&io->in_pipe[1]);
    x->report_source = loop_add_fd(x->owner->loop, x->report_fd, EPOLLIN, on_report, x);
    x->timer = loop_add_timer(x->owner->loop, SESSION_START_MS, on_timeout, x);
    /* Neither a report that is still to come nor one that never comes may block us. */
    bool watched = x->report_source && fcntl(x->report_fd, F_SETFL, O_NONBLOCK) == 0;
    for (int i = 0; i < 2 && !x->spec.tty; i++) {
        x->out[i].capture.pipe_fd = take_fd(&io->out[i][0]);
        watched = watched && attach_watch_output(&x->out[i]) == 0;
    }
    return watched ? 0 : err_step(e, "launch", errno, "cannot watch the session");
}

int session_start(struct session *x, int spec_fd, bool interactive, struct err *e)
{
    _cleanup_streams_ struct streams io;
    struct supervision *s = x->owner;

    memset(&io, 0xff, sizeof(io));
    if (read_spec(x, spec_fd, e) < 0)
        return -1;
    x->status.tty = x->spec.tty;
    if (join_plan(&x->join, &s->sandbox, &x->spec, s->status.pid, e) < 0 || prepare_dir(x, e) < 0 ||
        session_record(x) < 0 || open_streams(x, &io, interactive, e) < 0 || spawn(x, &io, e) < 0)
        return e->status ? -1 : err_step(e, "record", errno, "cannot write the session's record");
    return 0;
}

int session_signal(struct session *x, int signum, struct err *e)
{
    const struct supervision *s = x->owner;

    if (x->pid <= 0)
        return err_set(e, 409, "session_not_running", "the session's command does not run");
    /* Not reaped yet: the pid cannot have been given away. */
    if (kill(x->pid, signum) < 0)
        return err_set(e, 500, "signal_failed", "cannot send %s: %s", signal_name(signum), strerror(errno));
    if (signum == SIGKILL) /* all of it, once: who survives that is waited for at the end */
        cgroup_session_kill(s->args->cgroups, s->args->id, x->status.id, 0);
    return 0;
}
