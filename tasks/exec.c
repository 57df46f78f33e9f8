#include "tasks/exec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/msg.h"
#include "supervisor/launcher.h"
#include "tasks/registry_internal.h"

enum { SPEC_MAX = 1 << 20 };

struct exec {
    struct registry *registry;
    char task_id[ID_LEN + 1]; /* the task may be removed before the end of the channel is seen */
    char id[ID_LEN + 1];
    int channel, input;
    struct loop_source *source;
    struct session_status status;
    exec_changed changed;
    void *arg;
};

/* --- what is on disk --------------------------------------------------------------------------------------------- */

void exec_dir_path(const struct task *t, const char *id, char *out, size_t n)
{
    char dir[256];

    task_dir_path(t->registry->config.policy, t->id, dir, sizeof(dir));
    snprintf(out, n, "%s/execs/%s", dir, id);
}

bool exec_status_accept(struct session_status *s, const char *id)
{
    if (strncmp(s->id, id, sizeof(s->id)) != 0)
        return false;
    err_terminate(&s->err);
    return true;
}

/* 0 with the last that the supervisor has recorded, or -1 with errno. */
static int read_record(const struct task *t, const char *id, struct session_status *s)
{
    _cleanup_free_ char *data = NULL;
    char path[512];
    size_t len = 0;

    if (!id_valid(id)) {
        errno = ENOENT;
        return -1;
    }
    exec_dir_path(t, id, path, sizeof(path));
    _cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || file_read(dir, "record", MESSAGE_MAX, &data, &len) < 0)
        return -1;
    if (!message_open(data, len, MSG_SESSION_STATUS, s) || !exec_status_accept(s, id)) {
        errno = EBADMSG;
        return -1;
    }
    return 0;
}

int exec_read(const struct task *t, const char *id, struct session_status *s)
{
    if (read_record(t, id, s) < 0)
        return -1;
    if (task_ended(t) && s->state != SESSION_EXITED)
        s->state = SESSION_LOST;
    return 0;
}

struct json *exec_read_spec(const struct task *t, const char *id)
{
    _cleanup_free_ char *text = NULL;
    struct err e = {0};
    char path[512];
    size_t len = 0;

    exec_dir_path(t, id, path, sizeof(path));
    _cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 || file_read(dir, "spec", SPEC_MAX * 4, &text, &len) < 0 ? NULL : json_parse(text, len, &e);
}

static int newest_first(const void *a, const void *b)
{
    return strcmp(b, a); /* ids sort by time */
}

size_t exec_list(const struct task *t, char (**ids)[ID_LEN + 1])
{
    char path[512];
    size_t n = 0;

    *ids = NULL;
    exec_dir_path(t, ".", path, sizeof(path));
    DIR *d = opendir(path);
    for (const struct dirent *entry; d && (entry = readdir(d));) {
        if (!id_valid(entry->d_name))
            continue;
        *ids = xrealloc(*ids, (n + 1) * sizeof(**ids));
        memcpy((*ids)[n++], entry->d_name, ID_LEN + 1);
    }
    if (d)
        closedir(d);
    if (n > 1)
        qsort(*ids, n, sizeof(**ids), newest_first);
    return n;
}

/* --- the channel -------------------------------------------------------------------------------------------------- */

static void disconnect(struct exec *x)
{
    loop_remove(x->source);
    x->source = NULL;
    if (x->channel >= 0)
        close(x->channel);
    x->channel = -1;
    if (x->input >= 0)
        close(x->input);
    x->input = -1;
}

/* The supervisor has left without telling the end, or could not: the record knows, or nobody does. It is written before
 * the command can run. */
static void without_word(struct exec *x)
{
    struct session_status s = {.state = x->status.state};
    const struct task *t = registry_find(x->registry, x->task_id);

    if (t && read_record(t, x->id, &s) == 0 && s.state == SESSION_EXITED) {
        x->status = s;
    } else if (x->status.state == SESSION_STARTING && s.state == SESSION_STARTING) {
        x->status.state = SESSION_FAILED;
        err_set(&x->status.err, 409, "task_not_running", "the task does not run");
    } else {
        x->status.state = SESSION_LOST;
        x->status.code = -1;
    }
}

static void on_channel(void *arg, uint32_t events)
{
    struct exec *x = arg;
    struct session_status s;
    struct message m;
    int fds[MSG_FDS_MAX];
    size_t nfds;
    ssize_t n;

    (void)events;
    do { /* only the latest counts */
        n = message_recv(x->channel, &m, fds, &nfds);
        for (size_t i = 0; i < nfds; i++)
            close(fds[i]);
        if (message_open(m.raw, m.len, MSG_SESSION_STATUS, &s) && exec_status_accept(&s, x->id))
            x->status = s;
    } while (n > 0 || (n < 0 && errno == ECONNRESET)); /* ECONNRESET comes once, before what is left to read */
    bool over = x->status.state == SESSION_EXITED || x->status.state == SESSION_FAILED;
    if (!over && (n == 0 || errno != EAGAIN)) {
        without_word(x);
        over = true;
    }
    if (over)
        disconnect(x);
    x->changed(x->arg, &x->status);
}

static void control(struct exec *x, const struct session_control *c)
{
    struct session_control m = *c;

    m.head = message_head(MSG_SESSION_CONTROL);
    if (x->channel >= 0)
        message_send(x->channel, &m.head, NULL, 0); /* without a reader it has ended, and the channel tells so */
}

void exec_input_end(struct exec *x)
{
    control(x, &(struct session_control){.op = CONTROL_INPUT_END});
}

void exec_ack(struct exec *x, const uint64_t cursor[2])
{
    control(x, &(struct session_control){.op = CONTROL_ACK, .cursor = {cursor[0], cursor[1]}});
}

void exec_resize(struct exec *x, uint16_t rows, uint16_t cols)
{
    control(x, &(struct session_control){.op = CONTROL_RESIZE, .rows = rows, .cols = cols});
}

void exec_send_signal(struct exec *x, int signum)
{
    control(x, &(struct session_control){.op = CONTROL_SIGNAL, .signum = signum});
}

const char *exec_id(const struct exec *x)
{
    return x->id;
}

int exec_input_fd(const struct exec *x)
{
    return x->input;
}

void exec_close(struct exec *x)
{
    if (!x)
        return;
    disconnect(x);
    free(x);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static int spec_memfd(const struct session_spec *s)
{
    _cleanup_json_ struct json *j = session_spec_encode(s);
    _cleanup_free_ char *text = json_print(j);
    _cleanup_close_ int fd = memfd_sealed("session", text, strlen(text));

    return take_fd(&fd);
}

/* Sends q with spec_fd (when there is one), a channel, and a pipe for input (when asked for). */
static int ask(struct exec *x, struct task *t, struct session_request *q, int spec_fd, bool input, struct err *e)
{
    int pair[2], ends[2] = {-1, -1}, fds[3];
    size_t n = 0;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return err_set(e, 503, "no_resources", "cannot ask for a session: %s", strerror(errno));
    x->channel = pair[0];
    _cleanup_close_ int theirs = pair[1];
    if (input && pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_set(e, 503, "no_resources", "cannot ask for a session: %s", strerror(errno));
    x->input = ends[1];
    _cleanup_close_ int source = ends[0];
    if (spec_fd >= 0)
        fds[n++] = spec_fd;
    fds[n++] = theirs;
    if (source >= 0)
        fds[n++] = source;
    x->source = loop_add_fd(x->registry->config.loop, x->channel, EPOLLIN, on_channel, x);
    if (!x->source)
        return err_set(e, 503, "no_resources", "cannot watch a session: %s", strerror(errno));
    memcpy(q->id, x->id, sizeof(q->id));
    return link_send_session(t, q, fds, n, e);
}

static struct exec *exec_new(struct task *t, const char *id, exec_changed changed, void *arg)
{
    struct exec *x = xcalloc(1, sizeof(*x));

    *x = (struct exec){.registry = t->registry, .channel = -1, .input = -1, .changed = changed, .arg = arg};
    memcpy(x->task_id, t->id, sizeof(x->task_id));
    memcpy(x->id, id, sizeof(x->id));
    x->status = (struct session_status){.state = SESSION_STARTING, .code = -1};
    memcpy(x->status.id, id, sizeof(x->status.id));
    return x;
}

struct exec *exec_start(struct task *t, const struct session_spec *s, const struct exec_options *o,
                        exec_changed changed, void *arg, struct err *e)
{
    struct session_request q = {.op = SESSION_START};
    char id[ID_LEN + 1];

    if (t->state != TASK_RUNNING) {
        err_set(e, 409, "task_not_running", "the task does not run: it is %s", task_state_name(t->state));
        return NULL;
    }
    _cleanup_close_ int spec = spec_memfd(s);
    if (spec < 0) {
        err_set(e, 503, "no_resources", "cannot ask for a session: %s", strerror(errno));
        return NULL;
    }
    id_new(id);
    struct exec *x = exec_new(t, id, changed, arg);
    if (ask(x, t, &q, spec, o->input, e) == 0)
        return x;
    exec_close(x);
    return NULL;
}

struct exec *exec_attach(struct task *t, const char *id, const struct exec_options *o, exec_changed changed, void *arg,
                         struct err *e)
{
    struct session_request q = {.op = SESSION_ATTACH, .watch_only = o->watch_only};
    struct exec *x = exec_new(t, id, changed, arg);

    memcpy(q.cursor, o->cursor, sizeof(q.cursor));
    x->status.state = SESSION_RUNNING;
    if (ask(x, t, &q, -1, o->input, e) == 0)
        return x;
    exec_close(x);
    return NULL;
}

void exec_signal(struct task *t, const char *id, int signum, registry_done done, void *arg)
{
    struct session_request q = {.op = SESSION_SIGNAL, .signum = signum};

    snprintf(q.id, sizeof(q.id), "%s", id);
    link_request_session(t, &q, done, arg);
}
