/* A start waits for what is not ours: the file systems of volumes, and the command's process until execve(2). Requests
 * are served meanwhile, and what takes long is told. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "isolation/policy.h"
#include "isolation/volumes.h"
#include "supervisor/supervision.h"

enum { TELL_MS = 3000, START_MS = 60000 };

struct wait {
    struct supervision *s;
    const char *what;
    struct loop_source *timer;
    bool ready, late;
};

static void on_ready(void *arg, uint32_t events)
{
    (void)events;
    ((struct wait *)arg)->ready = true;
}

static void on_late(void *arg, uint32_t events)
{
    struct wait *w = arg;

    (void)events;
    w->timer = NULL;
    w->late = true;
}

static void on_slow(void *arg, uint32_t events)
{
    struct wait *w = arg;
    int64_t ms = supervision_option(&w->s->spec, "CLOISTER_START_MS", START_MS);

    (void)events;
    w->timer = loop_add_timer(w->s->loop, ms > TELL_MS ? ms - TELL_MS : 0, on_late, w);
    snprintf(w->s->status.waits_for, sizeof(w->s->status.waits_for), "%s", w->what);
    control_broadcast(w->s);
}

static int stopped(struct err *e)
{
    return err_set(e, 409, "task_stopped", "the task was stopped before it started");
}

int start_wait(struct supervision *s, int fd, pid_t pid, const char *what, struct err *e)
{
    struct wait w = {.s = s, .what = what};
    struct loop_source *source = loop_add_fd(s->loop, fd, EPOLLIN, on_ready, &w);
    bool killed = false;

    if (!source)
        return err_step(e, "launch", errno, "cannot wait for the start");
    w.timer = loop_add_timer(s->loop, TELL_MS, on_slow, &w);
    s->launching = true;
    while (!w.ready) {
        if (s->status.stopping || w.late)
            killed = kill(pid, SIGKILL) == 0;
        loop_step(s->loop);
    }
    s->launching = false;
    s->status.waits_for[0] = '\0';
    loop_remove(source);
    loop_remove(w.timer);
    if (killed && w.late && !s->status.stopping)
        return err_step(e, "launch", ETIMEDOUT, "%s", what);
    return killed ? stopped(e) : 0;
}

_Noreturn static void look_at_volumes(const struct sandbox *b, int fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dup2(fd, 3) == 3) /* who hears of the supervisor's end by its fds must not wait for us */
        close_range(4, ~0U, 0);
    for (size_t i = 0; i < b->spec->volume_mounts.n; i++) {
        volumes_look(b, i);
        if (write(3, "", 1) != 1)
            break;
    }
    _exit(0);
}

int start_reach_volumes(struct supervision *s, struct err *e)
{
    const struct volume_mount *mounts = s->spec.volume_mounts.v;
    size_t n = s->spec.volume_mounts.n;
    char what[sizeof(s->status.waits_for)], byte;
    int rc = 0, fds[2];

    if (n == 0)
        return 0;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_step(e, "volume_mounts", errno, "cannot make a pipe");
    _cleanup_close_ int in = fds[0];
    _cleanup_close_ int out = fds[1];
    pid_t pid = fork();
    if (pid < 0)
        return err_step(e, "volume_mounts", errno, "cannot fork");
    if (pid == 0)
        look_at_volumes(&s->sandbox, out);
    close(take_fd(&out));
    for (size_t i = 0; i < n && rc == 0; i++) {
        snprintf(what, sizeof(what), "volume %.50s: its file system does not answer", mounts[i].volume);
        rc = start_wait(s, in, pid, what, e);
        if (rc < 0 && e->errnum == ETIMEDOUT)
            volumes_field(e, ETIMEDOUT, i, "volume", "its file system does not answer");
        else if (rc == 0 && read(in, &byte, 1) != 1)
            break; /* what is wrong with it is told when it is opened */
    }
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return rc == 0 && s->status.stopping ? stopped(e) : rc;
}
