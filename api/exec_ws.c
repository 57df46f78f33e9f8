/* GET /v1/tasks/{id}/exec and GET .../execs/{eid}/attach: a session over a WebSocket. Output is read from the session's
 * files, so a client's speed concerns nobody but the session; input goes into a pipe, and while that is full nothing is
 * read from the client. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "api/common.h"
#include "api/exec_frames.h"
#include "api/execs.h"
#include "base/cleanup.h"
#include "server/subprotocol.h"
#include "server/websocket.h"
#include "tasks/logfile.h"

enum { CHUNK = 16 * 1024, ACK_EVERY = 1 << 20 };

struct console {
    struct request *q; /* until the WebSocket is open */
    struct loop *loop;
    struct exec *exec; /* NULL: attached to a session that has ended */
    struct ws *ws;
    bool accepted, done; /* done: the close frame is on its way */
    const struct dialect *dialect;
    const char *protocol; /* to name in the answer, or NULL */
    char *location;
    struct session_status status;
    struct logfile file[2];
    uint64_t acked[2];
    struct buf input; /* what the pipe has not taken yet */
    size_t input_at;
    bool input_end;
    struct loop_source *input_source;
};

static void console_free(struct console *c)
{
    loop_remove(c->input_source);
    exec_close(c->exec); /* the session goes on */
    for (int i = 0; i < 2; i++)
        logfile_close(&c->file[i]);
    buf_free(&c->input);
    free(c->location);
    free(c);
}

static bool is_over(const struct console *c)
{
    return c->status.state != SESSION_STARTING && c->status.state != SESSION_RUNNING;
}

/* --- output ------------------------------------------------------------------------------------------------------- */

static void send_frame(struct console *c, struct buf *b)
{
    if (b->len > 0)
        ws_send(c->ws, c->dialect->binary, b->data, b->len);
    b->len = 0;
}

/* One chunk of a stream; false when there is nothing. */
static bool send_chunk(struct console *c, int i, struct buf *b)
{
    char chunk[CHUNK];
    uint64_t before = c->file[i].cursor;
    ssize_t n = before < c->status.cursor[i] ? logfile_read(&c->file[i], chunk, sizeof(chunk)) : 0;

    if (n <= 0)
        return false;
    uint64_t begin = c->file[i].cursor - (uint64_t)n;
    if (begin != before) {
        c->dialect->gap(b, i, before, begin);
        send_frame(c, b);
    }
    c->dialect->output(b, i, chunk, (size_t)n);
    send_frame(c, b);
    return true;
}

static void acknowledge(struct console *c)
{
    uint64_t at[2] = {c->file[0].cursor, c->file[1].cursor};

    if (!c->exec || (at[0] - c->acked[0] < ACK_EVERY && at[1] - c->acked[1] < ACK_EVERY))
        return;
    exec_ack(c->exec, at);
    memcpy(c->acked, at, sizeof(at));
}

static void send_end(struct console *c, struct buf *b)
{
    c->done = true;
    if (c->status.state == SESSION_EXITED) {
        c->dialect->end(b, &c->status);
        send_frame(c, b);
        ws_close(c->ws, WS_NORMAL, "");
    } else if (c->status.state == SESSION_FAILED) {
        ws_close(c->ws, WS_INTERNAL, c->status.err.detail);
    } else {
        ws_close(c->ws, WS_INTERNAL, "the task's supervisor died; the outcome of the session is unknown");
    }
}

static void pump(struct console *c)
{
    _cleanup_buf_ struct buf b = {0};
    bool more = !c->done;

    while (more && !ws_full(c->ws)) {
        bool out = send_chunk(c, 0, &b), err = send_chunk(c, 1, &b);

        more = out || err;
    }
    acknowledge(c);
    if (!more && !c->done && is_over(c))
        send_end(c, &b);
}

/* --- input -------------------------------------------------------------------------------------------------------- */

static void on_room(void *arg, uint32_t events);

static void forget_input(struct console *c)
{
    c->input.len = c->input_at = 0;
    loop_remove(c->input_source);
    c->input_source = NULL;
}

static void flush_input(struct console *c)
{
    int fd = c->exec ? exec_input_fd(c->exec) : -1;

    while (fd >= 0 && c->input_at < c->input.len) {
        ssize_t n = write(fd, c->input.data + c->input_at, c->input.len - c->input_at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            if (!c->input_source)
                c->input_source = loop_add_fd(c->loop, fd, EPOLLOUT, on_room, c);
            ws_pause(c->ws, true);
            return;
        }
        if (n < 0) /* the supervisor has left: the channel tells the rest */
            break;
        c->input_at += (size_t)n;
    }
    bool was_full = c->input_source != NULL;
    forget_input(c);
    if (c->input_end && c->exec)
        exec_input_end(c->exec);
    c->input_end = false;
    if (was_full)
        ws_pause(c->ws, false);
}

static void on_room(void *arg, uint32_t events)
{
    (void)events;
    flush_input(arg);
}

static void on_message(void *arg, bool binary, const void *data, size_t len)
{
    struct console *c = arg;
    struct client_frame f = {0};
    const char *reason = "";

    if (c->dialect->parse(&f, binary, data, len, &reason) < 0) {
        buf_free(&f.input);
        c->done = true;
        ws_close(c->ws, c->dialect->binary && !binary ? WS_UNSUPPORTED : WS_INVALID, reason);
        return;
    }
    if (c->exec && f.resize)
        exec_resize(c->exec, f.rows, f.cols);
    if (c->exec && f.signum > 0)
        exec_send_signal(c->exec, f.signum);
    if (f.input.len > 0)
        buf_append(&c->input, f.input.data, f.input.len);
    c->input_end = c->input_end || f.input_end;
    buf_free(&f.input);
    if (c->input.len > 0 || c->input_end)
        flush_input(c);
}

/* --- the WebSocket ------------------------------------------------------------------------------------------------ */

static void on_opened(void *arg, struct ws *w)
{
    struct console *c = arg;
    _cleanup_buf_ struct buf b = {0};
    uint64_t cursor[2] = {c->file[0].cursor, c->file[1].cursor};

    c->ws = w;
    c->q = NULL;
    c->dialect->hello(&b, &c->status, cursor);
    send_frame(c, &b);
    pump(c);
}

static void on_writable(void *arg)
{
    struct console *c = arg;

    pump(c);
}

static void on_closed(void *arg)
{
    console_free(arg);
}

static const struct ws_handler handler = {on_opened, on_message, on_writable, on_closed};

static void accept_now(struct console *c)
{
    c->accepted = true;
    reply_header(c->q, "Location", c->location);
    ws_accept(c->q, c->protocol, &handler, c);
}

/* The client has left before the WebSocket was open. */
static void on_end(void *arg)
{
    console_free(arg);
}

static void on_changed(void *arg, const struct session_status *s)
{
    struct console *c = arg;
    struct err e = {0};

    c->status = *s;
    if (is_over(c) && c->input_source) { /* nobody reads it any more */
        forget_input(c);
        ws_pause(c->ws, false);
    }
    if (c->ws) {
        pump(c);
    } else if (c->accepted || s->state == SESSION_STARTING) {
        return;
    } else if (s->state == SESSION_FAILED) {
        reply_problem(c->q, &s->err);
    } else if (s->state == SESSION_LOST) {
        err_set(&e, 500, "session_lost", "the task's supervisor died; the outcome of the session is unknown");
        reply_problem(c->q, &e);
    } else {
        accept_now(c);
    }
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

/* Without a subprotocol the client is taken for Nomad's, which names none. */
static int pick_dialect(struct console *c, struct err *e)
{
    static const struct dialect *const dialects[] = {&dialect_cloister, &dialect_nomad};
    const char *const known[] = {dialect_cloister.name, dialect_nomad.name, NULL};
    int i = subprotocol_pick(c->q, known, e);

    if (i < -1)
        return -1;
    c->dialect = i < 0 ? &dialect_nomad : dialects[i];
    c->protocol = i < 0 ? NULL : c->dialect->name;
    return 0;
}

/* `command` is a text, with `arg` for each argument, or, as Nomad sends it, a JSON array of all. */
static int query_command(const struct request *q, struct json *j, struct err *e)
{
    const char *command = request_query(q, "command", 0);
    struct json *args = json_array();

    json_set(j, "args", args);
    if (command && command[0] == '[') {
        _cleanup_json_ struct json *list = json_parse(command, strlen(command), e);
        const struct json *first = list ? json_first(list) : NULL;

        if (!first || !json_string(first))
            return err_field(e, "/command", "must be a text or a JSON array of texts");
        json_set_string(j, "command", json_string(first));
        for (const struct json *m = json_next(first); m; m = json_next(m))
            json_push(args, json_new_string(json_string(m) ? json_string(m) : ""));
    } else if (command) {
        json_set_string(j, "command", command);
    }
    for (size_t i = 0; request_query(q, "arg", i); i++)
        json_push(args, json_new_string(request_query(q, "arg", i)));
    return 0;
}

/* The query as the body that POST would take, so that one table checks both. */
static int query_spec(const struct request *q, struct session_spec *s, struct err *e)
{
    static const char *const texts[] = {"user", "work_dir"}, *const numbers[] = {"rows", "cols"};
    _cleanup_json_ struct json *j = json_object();
    bool tty;

    if (query_bool(q, "tty", &tty, e) < 0 || query_command(q, j, e) < 0)
        return -1;
    json_set_bool(j, "tty", tty);
    for (int i = 0; i < 2; i++) {
        int64_t n = 0;

        if (request_query(q, texts[i], 0))
            json_set_string(j, texts[i], request_query(q, texts[i], 0));
        if (query_int(q, numbers[i], 1, 65535, &n, e) < 0)
            return -1;
        if (n > 0)
            json_set_int(j, numbers[i], n);
    }
    return session_spec_decode(j, s, e);
}

static struct console *console_new(struct request *q)
{
    struct console *c = xcalloc(1, sizeof(*c));

    c->q = q;
    c->loop = request_loop(q);
    for (int i = 0; i < 2; i++)
        logfile_init(&c->file[i], "", ""); /* nothing is open yet */
    return c;
}

static void console_bind(struct console *c, const struct task *t, const char *id, const uint64_t cursor[2])
{
    char dir[512];

    c->location = xasprintf("/v1/tasks/%s/execs/%s", t->id, id);
    exec_dir_path(t, id, dir, sizeof(dir));
    for (int i = 0; i < 2; i++) {
        logfile_init(&c->file[i], dir, stream_names[i]);
        c->file[i].cursor = c->acked[i] = cursor[i];
    }
}

static int open_session(struct console *c, struct task *t, struct err *e)
{
    _cleanup_session_spec_ struct session_spec spec = {0};

    if (ws_check(c->q, e) < 0 || pick_dialect(c, e) < 0 || query_spec(c->q, &spec, e) < 0)
        return -1;
    c->exec = exec_start(t, &spec, &(struct exec_options){.input = true}, on_changed, c, e);
    if (!c->exec)
        return -1;
    console_bind(c, t, exec_id(c->exec), (uint64_t[2]){0, 0});
    return 0;
}

void task_exec_open(struct request *q)
{
    struct err e = {0};
    struct task *t = request_task(q);

    if (!t)
        return;
    struct console *c = console_new(q);
    if (open_session(c, t, &e) < 0) {
        console_free(c);
        reply_problem(q, &e);
        return;
    }
    request_on_end(q, on_end, c);
}

static int attach(struct console *c, struct task *t, const struct session_status *s, struct err *e)
{
    int64_t from[2] = {0, 0};
    struct exec_options o = {.input = true};

    for (int i = 0; i < 2; i++) {
        if (query_int(c->q, stream_names[i], 0, INT64_MAX, &from[i], e) < 0)
            return -1;
        o.cursor[i] = (uint64_t)from[i];
    }
    if (ws_check(c->q, e) < 0 || pick_dialect(c, e) < 0)
        return -1;
    c->status = *s;
    console_bind(c, t, s->id, o.cursor);
    if (is_over(c))
        return 0;
    c->exec = exec_attach(t, s->id, &o, on_changed, c, e);
    return c->exec ? 0 : -1;
}

void execs_attach(struct request *q)
{
    struct session_status s;
    struct err e = {0};
    struct task *t = request_exec(q, &s);

    if (!t)
        return;
    struct console *c = console_new(q);
    if (attach(c, t, &s, &e) < 0) {
        console_free(c);
        reply_problem(q, &e);
        return;
    }
    request_on_end(q, on_end, c);
    if (is_over(c))
        accept_now(c);
}
