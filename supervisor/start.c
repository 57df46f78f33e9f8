/* From a spec to a running task. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "isolation/disk.h"
#include "isolation/limits.h"
#include "isolation/rlimits.h"
#include "supervisor/launcher.h"
#include "supervisor/record.h"
#include "supervisor/supervision.h"

enum { PROGRESS_MS = 1000 };

struct stdio {
    int in;        /* the task's standard input */
    int out[2][2]; /* pipes: stdout, stderr */
    int go[2];     /* the child waits for a byte: it is in its cgroup then */
    int report[2]; /* struct err from the child, or end of file at execve */
};

static void stdio_close(struct stdio *io)
{
    int *fds = (int *)io;

    for (size_t i = 0; i < sizeof(*io) / sizeof(int); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}
#define _cleanup_stdio_ __attribute__((cleanup(stdio_close)))

int64_t supervision_option(const struct spec *s, const char *name, int64_t value)
{
#ifdef CLOISTER_FAULTS
    for (size_t i = 0; i < s->env.n; i++)
        if (strcmp(s->env.v[i].key, name) == 0)
            return strtoll(s->env.v[i].value, NULL, 10);
#endif
    (void)s, (void)name;
    return value;
}

static int stdio_open(struct supervision *s, struct stdio *io, struct err *e)
{
    memset(io, 0xff, sizeof(*io)); /* all -1 */
    io->in = input_open(s);
    if (io->in < 0 || pipe2(io->out[0], O_CLOEXEC) < 0 || pipe2(io->out[1], O_CLOEXEC) < 0 ||
        pipe2(io->go, O_CLOEXEC) < 0 || pipe2(io->report, O_CLOEXEC) < 0)
        return err_step(e, "stdio", errno, "cannot make the task's standard streams");
    for (int i = 0; i < 2; i++) {
        struct capture *c = &s->capture[i];
        uint64_t cursor = c->cursor, file_start = c->file_start, lost = c->lost; /* go on from run to run */

        /* The task may open /dev/stdout by name, so the pipe belongs to its user. */
        if (fchown(io->out[i][1], s->sandbox.host_who.uid, s->sandbox.host_who.gid) < 0 ||
            fcntl(io->out[i][0], F_SETFL, O_NONBLOCK) < 0)
            return err_step(e, "stdio", errno, "cannot prepare the pipes");
        *c = (struct capture){
            .pipe_fd = -1,
            .dir_fd = s->logs_dir_fd,
            .stream = i == 0 ? "stdout" : "stderr",
            .cursor = cursor,
            .file_start = file_start,
            .lost = lost,
            .max_size = supervision_option(&s->spec, "CLOISTER_SEGMENT_BYTES", s->spec.logs.max_file_size << 20),
            .max_files = s->spec.logs.max_files,
            .gid = s->args->policy->server_gid,
            .disabled = s->spec.logs.disabled,
            .order = &s->log_order,
        };
        if (capture_open(c, e) < 0)
            return -1;
    }
    return 0;
}

_Noreturn static void child_main(struct supervision *s, struct stdio *io)
{
    struct err e = {0};

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* until the last credential change clears it, and set again there */
    close(io->go[1]);
    if (dup2(io->in, 0) < 0 || dup2(io->out[0][1], 1) < 0 || dup2(io->out[1][1], 2) < 0)
        err_step(&e, "stdio", errno, "cannot set the standard streams");
    else
        sandbox_enter(&s->sandbox, io->go[0], io->report[1], &e);
    if (write(io->report[1], &e, sizeof(e)) < 0)
        _exit(126);
    _exit(127);
}

int supervision_check_host(const struct supervision *s, const struct spec *spec, struct err *e)
{
    const struct cgroup_host *h = s->args->cgroups;

    /* Only pid 1 of a namespace takes all its processes with it; elsewhere they are found by their group. */
    if (s->sandbox.pid_mode == NS_HOST && !cgroup_tracks(h))
        return err_field(e, "/pid_mode", "without control groups a task needs a private pid namespace");
    if (spec->cpu_timeout_ms > 0 && !cgroup_tells_cpu(h))
        return err_field(e, "/cpu_timeout", "this host does not tell a task's CPU time: it has no cpuacct controller");
    return cgroup_check(h, &spec->resources, e);
}

static int plan(struct supervision *s, struct err *e)
{
    const struct policy *p = s->args->policy;

    if (limits_apply(&s->spec.resources, NULL, &p->max, e) < 0 ||
        sandbox_plan(&s->sandbox, &s->spec, p, s->args->id, e) < 0)
        return -1;
    if (network_plan(&s->network, &s->spec.network, p, e) < 0)
        return -1;
    s->sandbox.network = &s->network;
    if (s->network.mode == NET_NONE)
        s->sandbox.clone_flags |= CLONE_NEWNET;
    s->sandbox.cpu_mhz = cgroup_mhz(s->args->cgroups, &s->spec.resources);
    if (rlimits_check(&s->spec.resources.rlimits, e) < 0)
        return -1;
    return supervision_check_host(s, &s->spec, e);
}

/* While a root is copied, requests are served, and those who follow the task see how far it is. */
static int on_copied(void *arg)
{
    struct supervision *s = arg;
    int64_t now = clock_mono_ms();

    loop_poll(s->loop);
    if (now - s->told_ms >= supervision_option(&s->spec, "CLOISTER_PROGRESS_MS", PROGRESS_MS)) {
        s->told_ms = now;
        s->status.root_files = s->progress.files;
        s->status.root_bytes = s->progress.bytes;
        control_broadcast(s);
    }
    return s->status.stopping;
}

static int copy_root(struct supervision *s, struct err *e)
{
    s->progress = (struct root_progress){
        .files = s->status.root_files, .bytes = s->status.root_bytes, .tell = on_copied, .arg = s};
    s->told_ms = clock_mono_ms();
    int rc = sandbox_copy_root(&s->sandbox, &s->progress, e);
    s->status.root_files = s->progress.files;
    s->status.root_bytes = s->progress.bytes;
    return rc;
}

static int prepare(struct supervision *s, struct err *e)
{
    if (mkdirat(s->task_dir_fd, "logs", 0750) < 0 && errno != EEXIST)
        return err_step(e, "task_directory", errno, "cannot make logs");
    if (s->logs_dir_fd >= 0)
        close(s->logs_dir_fd);
    s->logs_dir_fd = openat(s->task_dir_fd, "logs", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (s->logs_dir_fd < 0 || fchown(s->logs_dir_fd, 0, s->args->policy->server_gid) < 0 ||
        fchmod(s->logs_dir_fd, 02750) < 0) /* its files have the server's group from the first moment */
        return err_step(e, "task_directory", errno, "cannot prepare logs");
    if (userns_wanted(&s->spec, s->args->policy)) {
        if (userns_setup(&s->userns, s->args->policy, s->args->id, e) < 0)
            return -1;
        sandbox_take_userns(&s->sandbox, &s->userns);
    }
    /* Before the disk: the network's mounts are the host's. */
    if (network_setup(&s->network, &s->spec.network, s->args->policy, s->args->id, e) < 0)
        return -1;
    s->status.network = s->network.status;
    if (disk_enter(&s->disk, &s->sandbox, e) < 0)
        return -1;
    s->status.disk_mode = s->disk.mode;
    if (sandbox_prepare_dirs(&s->sandbox, e) < 0 || sandbox_write_network_files(&s->sandbox, e) < 0)
        return -1;
    if (copy_root(s, e) < 0 || start_reach_volumes(s, e) < 0 ||
        sandbox_open_mounts(&s->sandbox, s->args->template_fd, e) < 0)
        return -1;
    s->has_cgroup = true; /* from here there may be something to undo */
    return cgroup_create(s->args->cgroups, s->args->id, &s->spec.resources, s->sandbox.cores, e);
}

/* A child that has failed is gone, so that it can neither be moved nor told: what it has said is the reason. */
static void told_failure(int fd, struct err *e)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct err failure;

    if (poll(&p, 1, 0) == 1 && read(fd, &failure, sizeof(failure)) == sizeof(failure))
        *e = failure;
}

/* The child's answer: nothing (it has become the command), or why not. */
static int await_exec(struct supervision *s, int fd, struct err *e)
{
    struct err failure;
    ssize_t n;

    if (start_wait(s, fd, s->status.pid, "the start of the command: a file system or the kernel does not answer", e) <
        0)
        return -1;
    do
        n = read(fd, &failure, sizeof(failure));
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return 0;
    if (n != sizeof(failure))
        return err_step(e, "launch", n < 0 ? errno : EPROTO, "the child's report was cut short");
    *e = failure;
    return -1;
}

/* The child, which is on its way, may execute the command. */
static int let_go(struct supervision *s, const struct stdio *io, struct err *e)
{
    if (cgroup_attach(s->args->cgroups, s->args->id, s->status.pid, e) < 0)
        return -1;
    /* The record says that something may have run before anything can run. */
    if (record_write(s->task_dir_fd, &s->status) < 0)
        return err_step(e, "record", errno, "cannot write the task's record");
    if (write(io->go[1], "", 1) != 1)
        return err_step(e, "launch", errno, "the child is gone");
    return 0;
}

/* On v2 in its group from the start. */
static pid_t clone_child(const struct supervision *s)
{
    _cleanup_close_ int group = cgroup_open(s->args->cgroups, s->args->id);
    struct clone_args args = {.flags = (uint64_t)s->sandbox.clone_flags, .exit_signal = SIGCHLD};
    struct clone_args there = args;

    there.flags |= CLONE_INTO_CGROUP;
    there.cgroup = (uint64_t)group;
    pid_t pid = group < 0 ? -1 : (pid_t)syscall(SYS_clone3, &there, sizeof(there));
    return pid < 0 ? (pid_t)syscall(SYS_clone3, &args, sizeof(args)) : pid;
}

static int spawn(struct supervision *s, struct stdio *io, struct err *e)
{
    pid_t pid = clone_child(s);

    if (pid < 0)
        return err_step(e, "namespaces", errno, "cannot clone into new namespaces");
    if (pid == 0)
        child_main(s, io);
    s->status.pid = pid;
    s->status.pid_start = record_pid_start(pid);
    close(take_fd(&io->report[1]));
    close(take_fd(&io->go[0]));
    if (let_go(s, io, e) < 0) {
        told_failure(io->report[0], e);
        return -1;
    }
    if (await_exec(s, io->report[0], e) < 0)
        return -1;
    /* A child that was killed before execve closes the pipe too; it is told from a start by waitid later, as its end.
     */
    s->status.started_at = clock_real_ns();
    return 0;
}

void supervision_undo(struct supervision *s)
{
    struct err ignored;

    disk_leave(&s->disk, &ignored);
    sandbox_close_mounts(&s->sandbox);
    if (s->status.pid > 0) {
        kill(s->status.pid, SIGKILL);
        while (waitpid(s->status.pid, NULL, 0) < 0 && errno == EINTR)
            ;
        s->status.pid = 0;
    }
    if (s->has_cgroup) {
        cgroup_kill(s->args->cgroups, s->args->id, END_KILL_MS);
        cgroup_remove(s->args->cgroups, s->args->id);
    }
    input_close(s);
    network_teardown(&s->network, &s->spec.network, s->args->policy, s->args->id);
    userns_teardown(&s->userns, s->args->policy);
    for (int i = 0; i < 2; i++) {
        capture_close(&s->capture[i]);
        if (s->capture[i].pipe_fd >= 0)
            close(s->capture[i].pipe_fd);
        s->capture[i].pipe_fd = -1;
    }
}

int supervision_start(struct supervision *s, struct err *e)
{
    _cleanup_stdio_ struct stdio io;

    memset(&io, 0xff, sizeof(io));
    if (plan(s, e) < 0)
        return -1;
    if (prepare(s, e) < 0 || stdio_open(s, &io, e) < 0 || spawn(s, &io, e) < 0 || disk_leave(&s->disk, e) < 0) {
        supervision_undo(s);
        return -1;
    }
    for (int i = 0; i < 2; i++)
        s->capture[i].pipe_fd = take_fd(&io.out[i][0]);
    sandbox_close_mounts(&s->sandbox); /* the task has its own */
    s->status.state = RUN_RUNNING;
    return 0;
}
