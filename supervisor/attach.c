/* Servers that read along with a session: told of its state and output, and the source of its input. The output itself
 * they read from the session's files, so a slow one costs no memory here and loses nothing: its session waits before
 * retention would drop what it has not read. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/msg.h"
#include "supervisor/session.h"

enum { CHUNK = 64 * 1024, TERMINAL_END = 4 /* VEOF, ^D: termios(3) */ };

/* One segment is being written, and one read of a pipe brings up to a segment's fourth. */
static const uint64_t window = (uint64_t)(SESSION_FILES - 2) * SESSION_FILE_SIZE;

static void drop(struct attachment *a)
{
    struct attachment **at = &a->session->attachments;

    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    loop_remove(a->channel_source);
    loop_remove(a->input_source);
    close(a->channel);
    if (a->input >= 0)
        close(a->input);
    free(a);
}

void attach_drop_all(struct session *x)
{
    while (x->attachments)
        drop(x->attachments);
}

/* --- output ------------------------------------------------------------------------------------------------------- */

/* Reads output, or not, by how far the attachments are. */
static void update_flow(struct session *x);

static void on_output(void *arg, uint32_t events)
{
    struct output *o = arg;
    struct session *x = o->session;

    (void)events;
    if (capture_pump(&o->capture) == 0) {
        loop_remove(o->capture.source);
        o->capture.source = NULL;
        close(o->capture.pipe_fd);
        o->capture.pipe_fd = -1;
    }
    x->status.cursor[o - x->out] = o->capture.cursor;
    update_flow(x);
    if (x->status.state != SESSION_STARTING)
        attach_tell(x);
}

int attach_watch_output(struct output *o)
{
    o->capture.source = loop_add_fd(o->session->owner->loop, o->capture.pipe_fd, EPOLLIN, on_output, o);
    return o->capture.source ? 0 : -1;
}

static void update_flow(struct session *x)
{
    for (int i = 0; i < 2; i++) {
        struct output *o = &x->out[i];
        bool hold = false;

        for (const struct attachment *a = x->attachments; a; a = a->next)
            hold = hold || (!a->watch_only && o->capture.cursor > a->read[i] + window);
        if (o->capture.pipe_fd < 0 || hold == o->held)
            continue;
        o->held = hold;
        if (hold) {
            loop_remove(o->capture.source);
            o->capture.source = NULL;
        } else {
            attach_watch_output(o);
        }
    }
}

static void send_status(struct attachment *a)
{
    bool full = message_send(a->channel, &a->session->status.head, NULL, 0) < 0 && errno == EAGAIN;

    if (full != a->stale)
        loop_set_events(a->channel_source, full ? EPOLLIN | EPOLLOUT : EPOLLIN);
    a->stale = full; /* another failure: the end of the channel is about to be read */
}

void attach_tell(struct session *x)
{
    for (struct attachment *a = x->attachments; a; a = a->next)
        send_status(a);
}

/* --- input -------------------------------------------------------------------------------------------------------- */

static void on_input(void *arg, uint32_t events);

/* Not watched at all while the session is full: a pipe's hang-up is told whether asked for or not. */
static int watch_input(struct attachment *a)
{
    bool on = a->input >= 0 && !a->session->input_source;

    if (!on) {
        loop_remove(a->input_source);
        a->input_source = NULL;
    } else if (!a->input_source) {
        a->input_source = loop_add_fd(a->session->owner->loop, a->input, EPOLLIN, on_input, a);
        return a->input_source ? 0 : -1;
    }
    return 0;
}

static void watch_inputs(struct session *x)
{
    for (struct attachment *a = x->attachments; a; a = a->next)
        watch_input(a);
}

static void close_input(struct session *x)
{
    loop_remove(x->input_source);
    x->input_source = NULL;
    if (x->input_fd >= 0)
        close(x->input_fd);
    x->input_fd = -1;
    x->input.len = x->input_at = 0;
}

/* Writes what is held; true when nothing is left. A command that reads no more loses the rest. */
static bool flush_input(struct session *x)
{
    while (x->input_at < x->input.len) {
        ssize_t n = write(x->input_fd, x->input.data + x->input_at, x->input.len - x->input_at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0) {
            if (!x->spec.tty)
                close_input(x);
            break;
        }
        x->input_at += (size_t)n;
    }
    x->input.len = x->input_at = 0;
    return true;
}

static void pump_inputs(struct session *x);

static void on_room(void *arg, uint32_t events)
{
    struct session *x = arg;

    (void)events;
    if (!flush_input(x))
        return;
    loop_remove(x->input_source);
    x->input_source = NULL;
    watch_inputs(x);
    pump_inputs(x);
}

static void end_input(struct session *x)
{
    char end = TERMINAL_END;

    if (!x->spec.tty) {
        close_input(x);
        return;
    }
    buf_append(&x->input, &end, 1);
    flush_input(x);
}

/* Moves what is in the pipe on; stops when the session takes no more for now. */
static void pump(struct attachment *a)
{
    struct session *x = a->session;
    static char chunk[CHUNK]; /* one process, one thread */

    while (!x->input_source && a->input >= 0) {
        ssize_t n = read(a->input, chunk, sizeof(chunk));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 && a->ending) {
            a->ending = false;
            end_input(x);
        }
        if (n < 0)
            return;
        if (n == 0) { /* the server has left; that is no end of the input */
            loop_remove(a->input_source);
            a->input_source = NULL;
            close(a->input);
            a->input = -1;
            return;
        }
        if (x->input_fd < 0)
            continue; /* nobody reads any more */
        buf_append(&x->input, chunk, (size_t)n);
        if (flush_input(x))
            continue;
        x->input_source = loop_add_fd(x->owner->loop, x->input_fd, EPOLLOUT, on_room, x);
        if (!x->input_source)
            close_input(x);
        watch_inputs(x);
    }
}

static void pump_inputs(struct session *x)
{
    for (struct attachment *a = x->attachments; a; a = a->next)
        pump(a);
}

static void on_input(void *arg, uint32_t events)
{
    (void)events;
    pump(arg);
}

/* --- the channel -------------------------------------------------------------------------------------------------- */

static void handle(struct attachment *a, const struct session_control *c)
{
    struct session *x = a->session;
    struct winsize size = {.ws_row = c->rows, .ws_col = c->cols};
    struct err ignored = {0};

    switch (c->op) {
    case CONTROL_ACK:
        for (int i = 0; i < 2; i++)
            a->read[i] = c->cursor[i];
        update_flow(x);
        break;
    case CONTROL_RESIZE:
        if (x->spec.tty && x->input_fd >= 0)
            ioctl(x->input_fd, TIOCSWINSZ, &size); /* tells the foreground process by SIGWINCH */
        break;
    case CONTROL_INPUT_END:
        a->ending = true;
        pump(a);
        break;
    case CONTROL_SIGNAL:
        if (c->signum > 0)
            session_signal(x, c->signum, &ignored);
        break;
    }
}

static void on_channel(void *arg, uint32_t events)
{
    struct attachment *a = arg;
    struct session *x = a->session;
    struct session_control c;
    struct message m;
    int fds[MSG_FDS_MAX];
    size_t nfds = 0;

    if (events & EPOLLOUT)
        send_status(a);
    if (!(events & ~(uint32_t)EPOLLOUT))
        return;
    ssize_t n = message_recv(a->channel, &m, fds, &nfds);
    for (size_t i = 0; i < nfds; i++)
        close(fds[i]);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (message_open(m.raw, m.len, MSG_SESSION_CONTROL, &c)) {
        handle(a, &c);
        return;
    }
    if (a->input >= 0) /* what was sent before the server left still counts */
        pump(a);
    drop(a);
    update_flow(x);
}

int attach_add(struct session *x, int channel_fd, int input_fd, const struct session_request *r)
{
    struct attachment *a = xcalloc(1, sizeof(*a));
    struct loop *loop = x->owner->loop;

    *a = (struct attachment){.session = x, .channel = channel_fd, .input = input_fd, .watch_only = r->watch_only};
    memcpy(a->read, r->cursor, sizeof(a->read));
    a->next = x->attachments;
    x->attachments = a;
    a->channel_source = loop_add_fd(loop, channel_fd, EPOLLIN, on_channel, a);
    if (a->channel_source && fcntl(channel_fd, F_SETFL, O_NONBLOCK) == 0 &&
        (input_fd < 0 || fcntl(input_fd, F_SETFL, O_NONBLOCK) == 0) && watch_input(a) == 0) {
        update_flow(x);
        return 0;
    }
    drop(a);
    return -1;
}
