#include "api/exec_frames.h"

#include <inttypes.h>
#include <string.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/signals.h"

const char *const stream_names[2] = {"stdout", "stderr"};

static int refuse(const char **reason, const char *why)
{
    *reason = why;
    return -1;
}

static bool get_size(const struct json *size, const char *rows, const char *cols, struct client_frame *f)
{
    int64_t r, c;

    if (!json_int(json_get(size, rows), &r) || !json_int(json_get(size, cols), &c) || r < 1 || r > 65535 || c < 1 ||
        c > 65535)
        return false;
    f->resize = true;
    f->rows = (uint16_t)r;
    f->cols = (uint16_t)c;
    return true;
}

static void put_json(struct buf *b, struct json *j)
{
    _cleanup_free_ char *text = json_print(j);

    json_free(j);
    buf_puts(b, text);
}

/* --- cloister.exec.v1: binary messages, the first byte of which is the channel
 * ---------------------------------------- */

enum { CHANNEL_INPUT, CHANNEL_STDOUT, CHANNEL_STDERR, CHANNEL_CONTROL };

static int parse_control(struct client_frame *f, const char *data, size_t len, const char **reason)
{
    struct err e = {0};
    _cleanup_json_ struct json *j = json_parse(data, len, &e);
    const struct json *m = j && json_type(j) == JSON_OBJECT && json_count(j) == 1 ? json_first(j) : NULL;
    const char *key = m ? json_key(m) : "";

    if (strcmp(key, "resize") == 0 && json_type(m) == JSON_OBJECT)
        return get_size(m, "rows", "cols", f) ? 0 : refuse(reason, "resize wants rows and cols from 1 to 65535");
    if (strcmp(key, "stdin") == 0 && json_string(m) && strcmp(json_string(m), "close") == 0) {
        f->input_end = true;
        return 0;
    }
    if (strcmp(key, "signal") == 0 && json_string(m)) {
        f->signum = signal_parse(json_string(m));
        return f->signum > 0 ? 0 : refuse(reason, "there is no such signal");
    }
    return refuse(reason, "control messages are resize, stdin or signal");
}

static int cloister_parse(struct client_frame *f, bool binary, const char *data, size_t len, const char **reason)
{
    if (!binary || len == 0)
        return refuse(reason, "messages are binary and start with a channel");
    if (data[0] == CHANNEL_CONTROL)
        return parse_control(f, data + 1, len - 1, reason);
    if (data[0] != CHANNEL_INPUT)
        return refuse(reason, "clients send on channel 0 and 3");
    buf_append(&f->input, data + 1, len - 1);
    return 0;
}

static void put_channel(struct buf *b, char channel)
{
    buf_append(b, &channel, 1);
}

static void cloister_hello(struct buf *b, const struct session_status *s, const uint64_t cursor[2])
{
    struct json *j = json_object(), *session = json_object();

    json_set_string(session, "id", s->id);
    json_set_bool(session, "tty", s->tty);
    for (int i = 0; i < 2; i++)
        json_set_int(session, stream_names[i], (int64_t)cursor[i]);
    json_set(j, "session", session);
    put_channel(b, CHANNEL_CONTROL);
    put_json(b, j);
}

static void cloister_output(struct buf *b, int stream, const char *data, size_t len)
{
    put_channel(b, (char)(CHANNEL_STDOUT + stream));
    buf_append(b, data, len);
}

static void cloister_gap(struct buf *b, int stream, uint64_t from, uint64_t to)
{
    put_channel(b, CHANNEL_CONTROL);
    buf_printf(b, "{\"gap\":{\"stream\":\"%s\",\"from\":%" PRIu64 ",\"to\":%" PRIu64 "}}", stream_names[stream], from,
               to);
}

static void cloister_end(struct buf *b, const struct session_status *s)
{
    struct json *j = json_object(), *end = json_object();

    json_set(end, "code", s->code < 0 ? json_new_null() : json_new_int(s->code));
    json_set_string(end, "signal", s->signum > 0 ? signal_name(s->signum) : NULL);
    json_set(j, "exit", end);
    put_channel(b, CHANNEL_CONTROL);
    put_json(b, j);
}

const struct dialect dialect_cloister = {
    .name = "cloister.exec.v1",
    .binary = true,
    .parse = cloister_parse,
    .hello = cloister_hello,
    .output = cloister_output,
    .gap = cloister_gap,
    .end = cloister_end,
};

/* --- nomad.exec.v1: the JSON of Nomad's `alloc exec`
 * ------------------------------------------------------------------ */

static int nomad_parse(struct client_frame *f, bool binary, const char *data, size_t len, const char **reason)
{
    struct err e = {0};
    _cleanup_json_ struct json *j = json_parse(data, len, &e);

    (void)binary;
    if (!j || json_type(j) != JSON_OBJECT)
        return refuse(reason, "messages are JSON objects");
    const struct json *input = json_get(j, "stdin"), *size = json_get(j, "tty_size");
    const char *text = input && json_type(input) == JSON_OBJECT ? json_string(json_get(input, "data")) : NULL;
    if (text && base64_decode(&f->input, text, strlen(text)) < 0)
        return refuse(reason, "stdin.data must be base64");
    f->input_end = input && json_type(input) == JSON_OBJECT && json_bool(json_get(input, "close"));
    if (size && (json_type(size) != JSON_OBJECT || !get_size(size, "height", "width", f)))
        return refuse(reason, "tty_size wants height and width from 1 to 65535");
    return 0; /* {} keeps the connection alive */
}

static void nomad_hello(struct buf *b, const struct session_status *s, const uint64_t cursor[2])
{
    (void)b, (void)s, (void)cursor;
}

static void nomad_output(struct buf *b, int stream, const char *data, size_t len)
{
    buf_printf(b, "{\"%s\":{\"data\":\"", stream_names[stream]);
    base64_encode(b, data, len);
    buf_puts(b, "\"}}");
}

static void nomad_gap(struct buf *b, int stream, uint64_t from, uint64_t to)
{
    (void)b, (void)stream, (void)from, (void)to; /* it has no word for it */
}

/* A signal is told as a shell does, since its clients read nothing but exit_code. */
static void nomad_end(struct buf *b, const struct session_status *s)
{
    buf_printf(b, "{\"exited\":true,\"result\":{\"exit_code\":%d,\"signal\":%d}}",
               s->code < 0 ? 128 + s->signum : s->code, s->signum);
}

const struct dialect dialect_nomad = {
    .name = "nomad.exec.v1",
    .parse = nomad_parse,
    .hello = nomad_hello,
    .output = nomad_output,
    .gap = nomad_gap,
    .end = nomad_end,
};
