#include "server/http.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/cors.h"
#include "server/guard.h"
#include "server/http_internal.h"
#include "server/subprotocol.h"

enum { TICK_MS = 500, MEMORY_LIMIT = 32768, WRITE_MS = 60000 };

const char *request_header(const struct request *q, const char *name)
{
    return MHD_lookup_connection_value(q->mhd, MHD_HEADER_KIND, name);
}

/* --- suspending: a connection that waits costs nothing, and its client's leaving is noticed --------------------- */

/* Runs on_end once. */
static void request_ended(struct request *q)
{
    void (*fn)(void *) = q->on_end;

    q->on_end = NULL;
    if (fn)
        fn(q->on_end_arg);
}

static void unwatch(struct request *q)
{
    loop_remove(q->watch);
    q->watch = NULL;
    if (q->watch_fd >= 0)
        close(q->watch_fd);
    q->watch_fd = -1;
}

void request_resume(struct request *q)
{
    if (!q->suspended)
        return;
    q->suspended = false;
    unwatch(q);
    q->http->resumed = true;
    MHD_resume_connection(q->mhd);
}

static void on_hangup(void *arg, uint32_t events)
{
    struct request *q = arg;

    (void)events;
    q->gone = true;
    request_ended(q);
    request_resume(q);
}

void request_suspend(struct request *q)
{
    if (q->suspended)
        return;
    q->suspended = true;
    MHD_suspend_connection(q->mhd);
    q->watch_fd = fcntl(q->conn->fd, F_DUPFD_CLOEXEC, 3);
    if (q->watch_fd >= 0)
        q->watch = loop_add_fd(q->http->config.loop, q->watch_fd, EPOLLRDHUP | EPOLLHUP | EPOLLERR, on_hangup, q);
    q->conn->deadline = -1;
}

void request_ready(struct request *q)
{
    request_resume(q);
}

/* --- the first call: checks --------------------------------------------------------------------------------------- */

static enum MHD_Result on_header(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct framing *f = arg;

    (void)kind;
    if (!guard_field_name(name))
        f->bad_name = true;
    if (strcasecmp(name, "Host") == 0) {
        f->hosts++;
    } else if (strcasecmp(name, "Content-Length") == 0) {
        f->lengths++;
        f->length = value ? value : "";
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        f->encodings++;
        f->encoding = value ? value : "";
    } else if (strcasecmp(name, "Expect") == 0) {
        f->expect = value ? value : "";
    }
    return MHD_YES;
}

static enum MHD_Result on_argument(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    return query_add(arg, name, value ? value : "") ? MHD_YES : MHD_NO;
}

static int authenticate(struct request *q, struct err *e)
{
    const struct auth *a = q->http->config.auth;
    const char *host = q->authority ? q->authority : request_header(q, "Host"), *origin = request_header(q, "Origin");
    _cleanup_free_ char *shown = NULL;

    if (q->conn->listener->is_unix) {
        q->role = q->conn->peer;
        if (q->role == ROLE_NONE)
            return err_set(e, 403, "forbidden", "this account may not use the socket");
        return auth_headers(a, NULL, origin, e);
    }
    if (auth_headers(a, host, origin, e) < 0 || subprotocol_authorization(q, &shown, e) < 0)
        return -1;
    q->has_token = shown;
    return cors_is_preflight(q) ? 0 : auth_token(a, shown, &q->role, e);
}

static int check(struct request *q, const char *version, struct err *e)
{
    struct framing f = {0};
    size_t max_body = receive_wanted(q) ? SIZE_MAX : q->http->config.max_body;

    MHD_get_connection_values(q->mhd, MHD_HEADER_KIND, on_header, &f);
    if (guard_framing(&f, version, q->path, max_body, e) < 0) {
        q->close = true;
        return -1;
    }
    if (authenticate(q, e) < 0)
        return -1;
    if (cors_answer_preflight(q))
        return 0;
    if (router_match(q->http->config.router, q->method, q->path, &q->match, e) < 0)
        return -1;
    if (!q->match.route) { /* OPTIONS */
        reply_header(q, "Allow", q->match.allow);
        reply_empty(q, 204);
        return 0;
    }
    if (guard_role(q->role, q->match.route, q->has_token, e) < 0)
        return -1;
    MHD_get_connection_values(q->mhd, MHD_GET_ARGUMENT_KIND, on_argument, q);
    if (query_check(q, e) < 0)
        return -1;
    bool has_body = f.encoding || (f.length && strcmp(f.length, "0") != 0);
    if (has_body && q->match.route->body == BODY_NONE)
        return err_set(e, 400, "unexpected_body", "this resource takes no body");
    return has_body && q->match.route->body == BODY_JSON
               ? guard_content_type(request_header(q, "Content-Type"), q->conn->listener->is_unix, e)
               : 0;
}

/* --- libmicrohttpd's callbacks ---------------------------------------------------------------------------------- */

static struct request *request_new(struct listener *l, struct MHD_Connection *mhd, const char *url, const char *method)
{
    struct request *q = xcalloc(1, sizeof(*q));

    q->http = l->http;
    q->mhd = mhd;
    q->conn = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    q->method = xstrdup(method);
    q->path = xstrdup(guard_target(url, &q->authority));
    q->watch_fd = -1;
    q->began = clock_mono_ns();
    q->next = l->http->requests;
    if (q->next)
        q->next->prev = q;
    l->http->requests = q;
    l->http->counters.requests++;
    return q;
}

static void request_free(struct request *q)
{
    request_ended(q);
    unwatch(q);
    if (q->prev)
        q->prev->next = q->next;
    else
        q->http->requests = q->next;
    if (q->next)
        q->next->prev = q->prev;
    if (q->response)
        MHD_destroy_response(q->response);
    query_free(q);
    for (size_t i = 0; i < q->nheaders; i++) {
        free(q->headers[i].name);
        free(q->headers[i].value);
    }
    match_free(&q->match);
    buf_free(&q->body);
    free(q->upgrade_arg);
    free(q->method);
    free(q->path);
    free(q->authority);
    free(q);
}

static enum MHD_Result queue(struct request *q)
{
    q->queued = true;
    q->conn->deadline = q->streaming ? -1 : clock_mono_ms() + WRITE_MS;
    return MHD_queue_response(q->mhd, (unsigned)q->status, q->response);
}

static enum MHD_Result take_body(struct request *q, const char *data, size_t *len)
{
    if (q->match.route && q->match.route->body == BODY_STREAM) {
        *len = receive_data(q, data, *len);
        return MHD_YES;
    }
    if (q->body.len <= q->http->config.max_body)
        buf_append(&q->body, data, *len);
    *len = 0;
    return MHD_YES;
}

static enum MHD_Result run_handler(struct request *q)
{
    struct err e = {0};

    q->handled = true;
    if (q->body.len > q->http->config.max_body) {
        err_set(&e, 413, "body_too_large", "the body is larger than %zu bytes", q->http->config.max_body);
        reply_problem(q, &e);
    } else {
        q->match.route->handler(q);
    }
    if (q->response)
        return queue(q);
    request_suspend(q);
    return MHD_YES;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *len, void **slot)
{
    struct request *q = *slot;
    struct err e = {0};

    if (!q) {
        q = *slot = request_new(arg, mhd, url, method);
        q->conn->deadline = clock_mono_ms() + q->http->config.body_ms;
        if (check(q, version, &e) < 0)
            reply_problem(q, &e);
        else if (q->match.route && q->match.route->body == BODY_STREAM && !q->response) {
            q->handled = true;
            q->match.route->handler(q);
        }
        return q->response ? queue(q) : MHD_YES;
    }
    if (q->gone || q->http->stopping)
        return MHD_NO;
    if (*len > 0)
        return take_body(q, data, len);
    if (q->queued)
        return MHD_YES;
    if (q->response)
        return queue(q);
    if (!q->handled)
        return run_handler(q);
    if (q->receiver.end)
        receive_end(q);
    return q->response ? queue(q) : MHD_YES;
}

static void on_completed(void *arg, struct MHD_Connection *mhd, void **slot, enum MHD_RequestTerminationCode how)
{
    struct request *q = *slot;

    (void)arg, (void)mhd, (void)how;
    if (!q)
        return;
    q->conn->deadline = clock_mono_ms() + q->http->config.idle_ms;
    request_free(q);
    *slot = NULL;
}

static void on_connection(void *arg, struct MHD_Connection *mhd, void **slot, enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *slot = conn_new(arg, MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
        return;
    }
    conn_free(*slot);
    *slot = NULL;
}

/* Paths and queries reach the router as they came; it decodes them segment by segment. */
static size_t keep_escapes(void *arg, struct MHD_Connection *mhd, char *s)
{
    (void)arg, (void)mhd;
    return strlen(s);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *arg, const char *fmt, va_list ap)
{
    char text[256];

    (void)arg;
    vsnprintf(text, sizeof(text), fmt, ap);
    log_debug("libmicrohttpd: %s", text);
}

/* --- the loop -------------------------------------------------------------------------------------------------- */

static void on_epoll(void *arg, uint32_t events)
{
    struct listener *l = arg;

    (void)events;
    MHD_run(l->mhd);
}

static int64_t on_prepare(void *arg)
{
    struct http *h = arg;
    int64_t least = -1;

    if (h->resumed) {
        h->resumed = false;
        for (int i = 0; i < 2; i++)
            if (h->listeners[i].mhd)
                MHD_run(h->listeners[i].mhd);
    }
    for (int i = 0; i < 2; i++) {
        MHD_UNSIGNED_LONG_LONG ms;

        if (h->listeners[i].mhd && MHD_get_timeout(h->listeners[i].mhd, &ms) == MHD_YES &&
            (least < 0 || (int64_t)ms < least))
            least = (int64_t)ms;
    }
    if (least == 0) /* MHD has work that no fd will announce */
        h->resumed = true;
    return h->resumed ? 0 : least;
}

static void on_tick(void *arg, uint32_t events)
{
    struct http *h = arg;

    (void)events;
    conn_expire(h);
    h->tick = loop_add_timer(h->config.loop, TICK_MS, on_tick, h);
}

static int start(struct http *h, int i, int fd, struct err *e)
{
    struct listener *l = &h->listeners[i];

    l->http = h;
    l->is_unix = i == 0;
    if (fd < 0)
        return 0;
    l->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG, 0, NULL,
                              NULL, on_request, l, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET,
                              fd, MHD_OPTION_NOTIFY_CONNECTION, on_connection, l, MHD_OPTION_NOTIFY_COMPLETED,
                              on_completed, l, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
                              MHD_OPTION_CONNECTION_LIMIT, (unsigned)h->config.connection_limit,
                              MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_LIMIT, MHD_OPTION_END);
    if (!l->mhd)
        return err_set(e, 500, "http", "libmicrohttpd does not start");
    int epfd = MHD_get_daemon_info(l->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    l->source = loop_add_fd(h->config.loop, epfd, EPOLLIN, on_epoll, l);
    return l->source ? 0 : err_set(e, 500, "http", "cannot watch the listener: %s", strerror(errno));
}

struct http *http_start(const struct http_config *c, int unix_fd, int tcp_fd, struct err *e)
{
    struct http *h = xcalloc(1, sizeof(*h));

    h->config = *c;
    if (start(h, 0, unix_fd, e) < 0 || start(h, 1, tcp_fd, e) < 0) {
        http_stop(h);
        return NULL;
    }
    loop_set_prepare(c->loop, on_prepare, h);
    h->tick = loop_add_timer(c->loop, TICK_MS, on_tick, h);
    return h;
}

void http_stop(struct http *h)
{
    h->stopping = true;
    loop_set_prepare(h->config.loop, NULL, NULL);
    loop_remove(h->tick);
    while (h->upgraded) {
        struct upgraded *u = h->upgraded;

        u->on_stop(u->on_stop_arg);
    }
    /* Stopping with a suspended connection aborts the program, so all go on first. */
    for (struct request *q = h->requests; q; q = q->next) {
        request_ended(q);
        request_resume(q);
    }
    for (int i = 0; i < 2; i++) {
        loop_remove(h->listeners[i].source);
        if (h->listeners[i].mhd)
            MHD_stop_daemon(h->listeners[i].mhd);
    }
    free(h);
}
