#include "api/feed.h"

#include <string.h>

#include "api/common.h"
#include "api/sse.h"

enum { PING_MS = 15000, RETRY_MS = 2000, KEEP = 65536 };

static const struct {
    const char *name, *media;
} formats[] = {
    [FEED_JSON] = {"json", "application/json"},
    [FEED_NDJSON] = {"ndjson", MEDIA_NDJSON},
    [FEED_SSE] = {"sse", MEDIA_SSE},
};

int feed_options(const struct request *q, enum feed_format *format, bool *follow, struct err *e)
{
    const char *name = request_query(q, "format", 0), *accept = request_header(q, "Accept");
    bool said = request_query(q, "follow", 0) != NULL;

    if (query_bool(q, "follow", follow, e) < 0)
        return -1;
    *format = *follow ? FEED_NDJSON : FEED_JSON;
    for (int i = FEED_NDJSON; !name && accept && i <= FEED_SSE; i++)
        if (strstr(accept, formats[i].media))
            *format = (enum feed_format)i;
    if (name) {
        int i = FEED_JSON;

        while (i <= FEED_SSE && strcmp(formats[i].name, name) != 0)
            i++;
        if (i > FEED_SSE)
            return bad_parameter(e, "format", name);
        *format = (enum feed_format)i;
    }
    if (*format == FEED_JSON && *follow)
        return err_set(e, 400, "invalid_parameter", "format=json is one document: follow with ndjson or sse");
    if (*format == FEED_SSE && !said)
        *follow = true;
    return 0;
}

static void on_ping(void *arg, uint32_t events)
{
    struct feed *f = arg;

    (void)events;
    f->ping = loop_add_timer(request_loop(f->q), PING_MS, on_ping, f);
    if (f->out.len > f->sent)
        return; /* the client has yet to take what is there */
    if (f->format == FEED_SSE)
        sse_ping(&f->out);
    else
        buf_puts(&f->out, "\n");
    request_wake(f->q);
}

void feed_open(struct feed *f, struct request *q, enum feed_format format)
{
    *f = (struct feed){.q = q, .format = format};
    f->ping = loop_add_timer(request_loop(q), PING_MS, on_ping, f);
}

void feed_close(struct feed *f)
{
    loop_remove(f->ping);
    f->ping = NULL;
    buf_free(&f->out);
}

void feed_reply(struct feed *f, struct stream s)
{
    reply_header(f->q, "X-Accel-Buffering", "no"); /* a proxy is to pass on each record as it comes */
    reply_stream(f->q, 200, formats[f->format].media, s);
}

void feed_record(struct feed *f, const char *id, const char *json)
{
    if (f->format == FEED_SSE) {
        sse_record(&f->out, id, NULL, json);
        return;
    }
    buf_puts(&f->out, json);
    buf_puts(&f->out, "\n");
}

void feed_start(struct feed *f, const char *id)
{
    if (f->format == FEED_SSE)
        buf_printf(&f->out, "retry: %d\nid: %s\n\n", RETRY_MS, id);
}

ssize_t feed_read(struct feed *f, char *out, size_t cap)
{
    size_t n = f->out.len - f->sent;

    if (n > cap)
        n = cap;
    if (n == 0)
        return 0;
    memcpy(out, f->out.data + f->sent, n);
    f->sent += n;
    if (f->sent == f->out.len) {
        f->sent = f->out.len = 0;
        if (f->out.cap > KEEP)
            buf_free(&f->out);
    }
    return (ssize_t)n;
}
