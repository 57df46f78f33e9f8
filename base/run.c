#include "base/run.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

struct pipes {
    int in[2], out[2], err[2]; /* [0] is read, [1] written */
};

static void pipes_close(struct pipes *p)
{
    int *fds = (int *)p;

    for (size_t i = 0; i < sizeof(*p) / sizeof(int); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}
#define _cleanup_pipes_ __attribute__((cleanup(pipes_close)))

static int pipes_open(struct pipes *p)
{
    memset(p, 0xff, sizeof(*p)); /* all -1 */
    if (pipe2(p->in, O_CLOEXEC) < 0 || pipe2(p->out, O_CLOEXEC) < 0 || pipe2(p->err, O_CLOEXEC) < 0)
        return -1;
    return fcntl(p->in[1], F_SETFL, O_NONBLOCK) < 0 || fcntl(p->out[0], F_SETFL, O_NONBLOCK) < 0 ||
                   fcntl(p->err[0], F_SETFL, O_NONBLOCK) < 0
               ? -1
               : 0;
}

_Noreturn static void child(const char *path, const char *const argv[], const char *const envp[], struct pipes *p)
{
    struct sigaction act = {.sa_handler = SIG_DFL};
    sigset_t none;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int sig = 1; sig <= SIGRTMAX; sig++)
        sigaction(sig, &act, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* None of the pipes is at 0 to 2 unless those were closed; dup2 would then spoil one that is still needed. */
    int in = fcntl(p->in[0], F_DUPFD, 3), out = fcntl(p->out[1], F_DUPFD, 3), err = fcntl(p->err[1], F_DUPFD, 3);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 || close_range(3, ~0U, 0) < 0 || chdir("/") < 0)
        _exit(127);
    execve(path, (char *const *)argv, (char *const *)envp);
    _exit(127);
}

/* Moves what the pipe holds to b; closes it at its end. */
static void pump(int *fd, struct buf *b)
{
    char chunk[4096];
    ssize_t n;

    while (*fd >= 0 && (n = read(*fd, chunk, sizeof(chunk))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return;
        if (b->len < RUN_OUTPUT_MAX)
            buf_append(b, chunk, (size_t)n);
    }
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void feed(int *fd, const char **input)
{
    ssize_t n = write(*fd, *input, strlen(*input));

    if (n > 0)
        *input += n;
    if (**input && (n > 0 || errno == EAGAIN || errno == EINTR))
        return;
    close(*fd); /* all written, or it does not read */
    *fd = -1;
}

/* Until the process has ended: 0, or -1 with errno when the time is over. Output that a process left behind would write
 * later is not waited for. */
static int converse(struct pipes *p, int pidfd, const char *input, int64_t end_ms, struct run_output *r)
{
    for (;;) {
        struct pollfd fds[] = {
            {.fd = pidfd, .events = POLLIN},
            {.fd = p->out[0], .events = POLLIN},
            {.fd = p->err[0], .events = POLLIN},
            {.fd = p->in[1], .events = POLLOUT},
        };
        int64_t left = end_ms - clock_mono_ms();

        if (left <= 0) {
            errno = ETIMEDOUT;
            return -1;
        }
        if (poll(fds, 4, (int)left) < 0 && errno != EINTR)
            return -1;
        if (fds[3].revents)
            feed(&p->in[1], &input);
        pump(&p->out[0], &r->out);
        pump(&p->err[0], &r->err);
        if (fds[0].revents)
            return 0;
    }
}

int run_program(const char *path, const char *const argv[], const char *const envp[], const char *input,
                int64_t timeout_ms, struct run_output *r)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    _cleanup_pipes_ struct pipes p;

    memset(r, 0, sizeof(*r));
    if (pipes_open(&p) < 0)
        return -1;
    sigaction(SIGPIPE, &ignore, &before);
    pid_t pid = fork();
    if (pid == 0)
        child(path, argv, envp, &p);
    int rc = -1, why = errno;
    if (pid > 0) {
        _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        int *theirs[] = {&p.in[0], &p.out[1], &p.err[1]};

        for (int i = 0; i < 3; i++) {
            close(*theirs[i]);
            *theirs[i] = -1;
        }
        rc = pidfd < 0 ? -1 : converse(&p, pidfd, input, clock_mono_ms() + timeout_ms, r);
        why = errno;
        if (rc < 0) {
            kill(-pid, SIGKILL);
            kill(pid, SIGKILL); /* if it has no group of its own yet */
        }
        while (waitpid(pid, &r->status, 0) < 0 && errno == EINTR)
            ;
    }
    sigaction(SIGPIPE, &before, NULL);
    errno = why;
    return rc;
}

void run_output_free(struct run_output *r)
{
    buf_free(&r->out);
    buf_free(&r->err);
}
