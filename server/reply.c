/* Replies: from a handler's values to an MHD response. */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "server/cors.h"
#include "server/http_internal.h"

void reply_header(struct request *q, const char *name, const char *value)
{
    if (q->nheaders == HEADERS_MAX)
        return;
    q->headers[q->nheaders].name = xstrdup(name);
    q->headers[q->nheaders++].value = xstrdup(value);
}

static void give(struct request *q, int status, const char *content_type, struct MHD_Response *r)
{
    if (q->response) { /* a second reply is a bug of the handler; the first one stands */
        MHD_destroy_response(r);
        return;
    }
    q->response = r;
    q->status = status;
    if (content_type)
        MHD_add_response_header(r, "Content-Type", content_type);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    if (q->close)
        MHD_add_response_header(r, "Connection", "close");
    cors_headers(q);
    for (size_t i = 0; i < q->nheaders; i++)
        MHD_add_response_header(r, q->headers[i].name, q->headers[i].value);
    if (q->status / 100 < 6)
        q->http->counters.responses[q->status / 100]++;
    histogram_add(&q->http->counters.latency, clock_mono_ns() - q->began);
    request_ready(q);
}

static struct MHD_Response *from_buffer(char *data, size_t len)
{
    struct MHD_Response *r = MHD_create_response_from_buffer_with_free_callback(len, data, free);

    if (!r)
        abort();
    return r;
}

void reply_data(struct request *q, int status, const char *content_type, char *data, size_t len)
{
    give(q, status, content_type, from_buffer(data, len));
}

void reply_json(struct request *q, int status, struct json *j)
{
    char *text = json_print(j);

    json_free(j);
    reply_data(q, status, "application/json", text, strlen(text));
}

void reply_empty(struct request *q, int status)
{
    give(q, status, NULL, from_buffer(xcalloc(1, 1), 0));
}

static const char *title_of(int status)
{
    static const struct {
        int status;
        const char *title;
    } titles[] = {
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {409, "Conflict"},
        {410, "Gone"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {507, "Insufficient Storage"},
        {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
        if (titles[i].status == status)
            return titles[i].title;
    return "Error";
}

struct json *problem_json(const struct err *e)
{
    struct json *j = json_object();
    _cleanup_free_ char *type = xasprintf("/problems/%s", e->code);

    json_set_string(j, "type", type);
    json_set_string(j, "code", e->code);
    json_set_string(j, "title", title_of(e->status));
    json_set_int(j, "status", e->status);
    json_set_string(j, "detail", e->detail);
    if (e->pointer[0]) {
        struct json *list = json_array(), *one = json_object();

        json_set_string(one, "pointer", e->pointer);
        json_set_string(one, "detail", e->detail);
        json_push(list, one);
        json_set(j, "errors", list);
    }
    if (e->step[0])
        json_set_string(j, "step", e->step);
    if (e->errnum)
        json_set_string(j, "errno", err_errno_name(e->errnum));
    return j;
}

void reply_problem(struct request *q, const struct err *e)
{
    struct json *j = problem_json(e);
    char *text = json_print(j);

    json_free(j);
    if (e->status == 401)
        reply_header(q, "WWW-Authenticate", "Bearer");
    if (e->status == 503 || e->status == 429)
        reply_header(q, "Retry-After", "1");
    if (e->status == 426) {
        reply_header(q, "Upgrade", "websocket");
        reply_header(q, "Sec-WebSocket-Version", "13");
    }
    if (e->status == 405)
        reply_header(q, "Allow", q->match.allow);
    reply_data(q, e->status, "application/problem+json", text, strlen(text));
}

static ssize_t on_read(void *arg, uint64_t pos, char *out, size_t cap)
{
    struct request *q = arg;

    (void)pos;
    if (q->gone || q->http->stopping)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    ssize_t n = q->stream.read(q->stream.arg, out, cap);
    if (n == 0)
        request_suspend(q);
    if (n == -2)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    return n < 0 ? MHD_CONTENT_READER_END_OF_STREAM : n;
}

void reply_length(struct request *q, uint64_t length)
{
    q->length = length;
}

void reply_stream(struct request *q, int status, const char *content_type, struct stream s)
{
    q->stream = s;
    q->streaming = true; /* to HEAD libmicrohttpd sends the same headers, and never asks for the bytes */
    struct MHD_Response *r =
        MHD_create_response_from_callback(q->length > 0 ? q->length : MHD_SIZE_UNKNOWN, 16384, on_read, q, NULL);
    if (!r)
        abort();
    give(q, status, content_type, r);
}

void request_wake(struct request *q)
{
    if (q->suspended)
        request_resume(q);
}

/* --- another protocol --------------------------------------------------------------------------------------------- */

static void on_upgrade(void *arg, struct MHD_Connection *mhd, void *slot, const char *sent, size_t n, MHD_socket fd,
                       struct MHD_UpgradeResponseHandle *handle)
{
    struct request *q = slot;
    struct upgraded *u = xcalloc(1, sizeof(*u));

    (void)arg, (void)mhd;
    *u = (struct upgraded){.http = q->http, .handle = handle, .next = q->http->upgraded};
    if (u->next)
        u->next->prev = u;
    q->http->upgraded = u;
    q->conn->deadline = -1;
    q->on_end = NULL;
    void *owned = q->upgrade_arg;
    q->upgrade_arg = NULL;
    q->upgrade(owned, u, fd, sent, n);
}

void reply_upgrade(struct request *q, upgrade_fn fn, void *arg)
{
    struct MHD_Response *r = MHD_create_response_for_upgrade(on_upgrade, NULL);

    if (!r)
        abort();
    q->upgrade = fn;
    q->upgrade_arg = arg;
    give(q, MHD_HTTP_SWITCHING_PROTOCOLS, NULL, r);
}

void upgraded_on_stop(struct upgraded *u, void (*fn)(void *arg), void *arg)
{
    u->on_stop = fn;
    u->on_stop_arg = arg;
}

void upgraded_close(struct upgraded *u)
{
    if (u->prev)
        u->prev->next = u->next;
    else
        u->http->upgraded = u->next;
    if (u->next)
        u->next->prev = u->prev;
    u->http->resumed = true; /* libmicrohttpd closes the socket at its next run */
    MHD_upgrade_action(u->handle, MHD_UPGRADE_ACTION_CLOSE);
    free(u);
}
