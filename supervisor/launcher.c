#include "supervisor/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/footprint.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/msg.h"
#include "base/notify.h"
#include "isolation/sandbox.h"
#include "supervisor/launcher_internal.h"

enum { RESTART_DELAY_MS = 1000, QUICK_DEATH_MS = 1000, CLEARINGS_MAX = 32 };

struct clearing { /* a helper that clears a task away */
    pid_t pid;    /* 0: it waits for one of the first CLEARINGS_MAX to end */
    struct launcher_request request;
    struct clearing *next;
};

struct running { /* the launcher while it runs */
    struct launcher *l;
    struct loop *loop;
    int signal_fd;
    int server_sock; /* our end; -1 while the server is down */
    struct loop_source *server_source;
    pid_t server_pid; /* 0 while it is down */
    int64_t server_started;
    struct clearing *clearings; /* in the order in which they were asked for */
    bool ready;                 /* the service manager has been told */
    bool stopping;
};

static int make_dir(const char *base, const char *name, mode_t mode, uid_t uid, gid_t gid)
{
    char path[300];

    snprintf(path, sizeof(path), "%s%s%s", base, *name ? "/" : "", name);
    if (geteuid() != 0) { /* whoever else started us: they stay ours */
        uid = (uid_t)-1;
        gid = (gid_t)-1;
    }
    if (file_mkdirs(path, 0755) < 0 || chown(path, uid, gid) < 0 || chmod(path, mode) < 0) {
        log_error("cannot prepare %s: %s", path, strerror(errno));
        return -1;
    }
    return 0;
}

/* ext4 does not use an inode again for a minute or more after its removal, and looks at each that it must pass over:
 * where the directories of many short tasks lie together, making the next took three times as long
 * (docs/benchmarks.md). */
static void spread_tasks(const struct policy *p)
{
    char path[300];

    snprintf(path, sizeof(path), "%s/tasks", p->state_dir);
    file_set_topdir(path);
}

static int make_dirs(const struct policy *p)
{
    if (make_dir(p->state_dir, "", 0750, 0, p->server_gid) < 0 ||
        make_dir(p->state_dir, "tasks", 02750, 0, p->server_gid) < 0 ||
        make_dir(p->state_dir, "server", 0700, p->server_uid, p->server_gid) < 0 ||
        make_dir(p->run_dir, "", 0755, 0, 0) < 0 || make_dir(p->run_dir, "supervisors", 0750, 0, p->server_gid) < 0)
        return -1;
    spread_tasks(p);
    return 0;
}

static int drop_root(const struct policy *p)
{
    gid_t gid = p->server_gid;

    for (int cap = 0; cap < 64; cap++)
        if (prctl(PR_CAPBSET_READ, cap) == 1 && prctl(PR_CAPBSET_DROP, cap) < 0)
            return -1;
    return setgroups(1, &gid) < 0 || setresgid(gid, gid, gid) < 0 ||
                   setresuid(p->server_uid, p->server_uid, p->server_uid) < 0
               ? -1
               : 0;
}

/* The server gives up all power for good before it reads a byte from the outside. */
static int drop_power(const struct policy *p)
{
    if ((geteuid() == 0 && drop_root(p) < 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return -1;
    return getuid() == p->server_uid && geteuid() == p->server_uid && setuid(0) < 0 ? 0 : -1;
}

_Noreturn static void server_child(struct running *r, int sock, pid_t launcher)
{
    sigset_t none;

    log_init("server");
    prctl(PR_SET_NAME, "cloister-server");
    setsid(); /* no terminal of ours is its own: it hears of our end from us, and cannot type there (TIOCSTI) */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_IGN);
    /* Who could add to our epoll instance would choose the pointers that we follow (epoll_ctl(2), data). */
    loop_free(r->loop);
    close(r->signal_fd);
    if (r->l->cgroups.devices_fd >= 0)
        close(r->l->cgroups.devices_fd);
    if (r->l->template_fd >= 0)
        close(r->l->template_fd);
    if (drop_power(r->l->policy) < 0) {
        log_error("the server cannot drop its power: %s", strerror(errno));
        _exit(1);
    }
    if (getppid() != launcher)
        _exit(1);
    exit(r->l->server_main(r->l->server_arg, sock));
}

/* What the service manager hears: the first time that all is up, and each time that it still is. */
static void server_alive(struct running *r)
{
    notify_send(r->ready ? "WATCHDOG=1" : "READY=1\nSTATUS=Serving\nWATCHDOG=1");
    r->ready = true;
}

/* Those that wait: the next server asks again. */
static void forget_clearings(struct running *r)
{
    for (struct clearing **at = &r->clearings; *at;) {
        struct clearing *c = *at;

        if (c->pid > 0) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        free(c);
    }
}

static void disconnect(struct running *r)
{
    forget_clearings(r);
    loop_remove(r->server_source);
    r->server_source = NULL;
    if (r->server_sock >= 0)
        close(r->server_sock); /* with what launch_rest has left in it: the next server asks again */
    r->server_sock = -1;
}

/* What no helper has answered; when that fails too the server is to begin anew. */
static void answer_clearing(struct running *r, const struct launcher_request *q, const char *step, int errnum,
                            const char *why)
{
    struct launcher_reply reply = {.head = message_head(MSG_LAUNCHER_REPLY), .op = q->op};

    memcpy(reply.id, q->id, sizeof(reply.id));
    err_step(&reply.err, step, errnum, "%s", why);
    if (r->server_sock >= 0 && message_send(r->server_sock, &reply.head, NULL, 0) < 0)
        disconnect(r);
}

/* After a reboot all tasks are cleared away: a process for each at once might be more than the host has. */
static void start_clearings(struct running *r)
{
    struct clearing **at = &r->clearings;

    for (int n = 0; *at && n < CLEARINGS_MAX;) {
        struct clearing *c = *at;
        pid_t pid = c->pid > 0 ? c->pid : clear_task(r->l, &c->request, r->server_sock);

        if (pid > 0) {
            c->pid = pid;
            at = &c->next;
            n++;
        } else if (n > 0) {
            return; /* tried again when one of the others has ended */
        } else {
            *at = c->next;
            answer_clearing(r, &c->request, "launch", errno, "cannot fork");
            free(c);
        }
    }
}

static void clear(struct running *r, const struct launcher_request *q)
{
    struct clearing **at = &r->clearings, *c = xcalloc(1, sizeof(*c));

    c->request = *q;
    while (*at)
        at = &(*at)->next;
    *at = c;
    start_clearings(r);
}

static void cleared(struct running *r, pid_t pid, int status)
{
    for (struct clearing **at = &r->clearings; *at; at = &(*at)->next) {
        struct clearing *c = *at;

        if (c->pid != pid)
            continue;
        *at = c->next;
        if (status != 0)
            answer_clearing(r, &c->request, HELPER_STEP, ECHILD, "the helper that cleared the task away has died");
        free(c);
        start_clearings(r);
        return;
    }
}

static void serve_request(struct running *r, const struct launcher_request *q, const int *fds, size_t nfds)
{
    if (q->op == SERVER_ALIVE) {
        server_alive(r);
        return;
    }
    if (q->id[ID_LEN] || !id_valid(q->id)) {
        log_error("the server sent a request that is none");
        return;
    }
    if ((q->op == LAUNCH_TASK || q->op == LAUNCH_AGAIN) && nfds == 2)
        launch_task(r->l, q->id, q->op == LAUNCH_AGAIN, fds[0], fds[1]);
    else if (q->op == TASK_FILES && nfds == 1)
        task_files(r->l, q->id, fds[0]);
    else if ((q->op == REMOVE_TASK || q->op == CLEAN_TASK) && nfds == 0)
        clear(r, q);
    else
        log_error("the server sent an unknown request %u", q->op);
}

static void on_request(void *arg, uint32_t events)
{
    struct running *r = arg;
    struct launcher_request q;
    struct message m;
    int fds[MSG_FDS_MAX];
    size_t nfds = 0;

    (void)events;
    ssize_t n = message_recv(r->server_sock, &m, fds, &nfds);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (message_open(m.raw, m.len, MSG_LAUNCHER_REQUEST, &q))
        serve_request(r, &q, fds, nfds);
    else
        disconnect(r);
    for (size_t i = 0; i < nfds; i++)
        close(fds[i]);
}

/* What the server asked for before it ended: the rows of these tasks are written, and the next server is to find that
 * they run. All else it asks again. ECONNRESET tells once that the server left replies unread. */
static void launch_rest(struct running *r)
{
    struct launcher_request q;
    struct message m;
    int fds[MSG_FDS_MAX];
    size_t nfds = 0;
    ssize_t n;

    if (r->server_sock >= 0)
        fcntl(r->server_sock, F_SETFL, O_NONBLOCK);
    while (r->server_sock >= 0 && ((n = message_recv(r->server_sock, &m, fds, &nfds)) > 0 || errno == ECONNRESET)) {
        if (n > 0 && message_open(m.raw, m.len, MSG_LAUNCHER_REQUEST, &q) &&
            (q.op == LAUNCH_TASK || q.op == LAUNCH_AGAIN))
            serve_request(r, &q, fds, nfds);
        for (size_t i = 0; i < nfds; i++)
            close(fds[i]);
        errno = 0;
    }
}

static int start_server(struct running *r)
{
    int sock[2];
    pid_t self = getpid();

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
        return -1;
    r->server_started = clock_mono_ms();
    r->server_pid = fork();
    if (r->server_pid == 0) {
        close(sock[0]);
        server_child(r, sock[1], self);
    }
    close(sock[1]);
    if (r->server_pid < 0) {
        r->server_pid = 0;
        close(sock[0]);
        return -1;
    }
    r->server_sock = sock[0];
    r->server_source = loop_add_fd(r->loop, sock[0], EPOLLIN, on_request, r);
    return r->server_source ? 0 : -1;
}

static void on_restart(void *arg, uint32_t events)
{
    struct running *r = arg;

    (void)events;
    if (!r->stopping && start_server(r) < 0)
        loop_add_timer(r->loop, RESTART_DELAY_MS, on_restart, r);
}

static void server_died(struct running *r, int status)
{
    r->server_pid = 0;
    launch_rest(r);
    disconnect(r);
    if (r->stopping) {
        loop_stop(r->loop, WIFEXITED(status) ? WEXITSTATUS(status) : 1);
        return;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == SERVER_EXIT_FINAL) {
        log_error("the server cannot serve until the operator has acted; tasks go on");
        loop_stop(r->loop, 1);
        return;
    }
    r->ready = false;
    notify_send("STATUS=The server has ended; starting it again");
    log_warn("the server ended (%s %d); starting it again", WIFSIGNALED(status) ? "signal" : "status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    bool quick = clock_mono_ms() - r->server_started < QUICK_DEATH_MS;
    loop_add_timer(r->loop, quick ? RESTART_DELAY_MS : 0, on_restart, r);
}

static void on_signal(void *arg, uint32_t events)
{
    struct running *r = arg;
    struct signalfd_siginfo si;
    int status;
    pid_t pid;

    (void)events;
    while (read(r->signal_fd, &si, sizeof(si)) == sizeof(si)) {
        if (si.ssi_signo == SIGCHLD)
            continue;
        log_info("stopping");
        notify_send("STOPPING=1");
        r->stopping = true;
        if (r->server_pid > 0)
            kill(r->server_pid, SIGTERM);
        else
            loop_stop(r->loop, 0);
    }
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == r->server_pid)
            server_died(r, status);
        else
            cleared(r, pid, status);
}

static int init(struct running *r)
{
    struct err e = {0};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    umask(022);
    r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    r->loop = loop_new(&e);
    if (r->signal_fd < 0 || !r->loop || !loop_add_fd(r->loop, r->signal_fd, EPOLLIN, on_signal, r)) {
        log_error("cannot make the event loop: %s", e.detail);
        return -1;
    }
    if (make_dirs(r->l->policy) < 0)
        return -1;
    if (r->l->runs_tasks && sandbox_prepare_host(r->l->policy, &e) < 0) {
        log_error("%s: %s", e.step, e.detail);
        return -1;
    }
    identity_preload();
    r->l->template_fd = sandbox_template_open(r->l->policy, &e);
    if (r->l->template_fd < 0)
        log_warn("%s: %s; each task puts its read-only root together", e.step, e.detail);
    clear_leftovers(r->l);
    footprint_close_gaps();
    return 0;
}

int launcher_run(struct launcher *l)
{
    struct running r = {.l = l, .server_sock = -1, .signal_fd = -1};
    int rc = 1;

    if (init(&r) == 0) {
        on_restart(&r, 0);
        rc = loop_run(r.loop);
    }
    loop_free(r.loop);
    if (r.signal_fd >= 0)
        close(r.signal_fd);
    return rc;
}
