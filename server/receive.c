/* Bodies that are taken as they come. */
#include <string.h>

#include "base/clock.h"
#include "server/http_internal.h"

void request_receive(struct request *q, struct receiver r)
{
    q->receiver = r;
    if (r.patient)
        q->conn->deadline = -1;
}

bool receive_wanted(const struct request *q)
{
    struct match m;
    struct err e;

    if (strcmp(q->method, "PUT") != 0 || router_match(q->http->config.router, q->method, q->path, &m, &e) < 0)
        return false;
    bool stream = m.route && m.route->body == BODY_STREAM;
    match_free(&m);
    return stream;
}

/* libmicrohttpd replies only when it has read the body, so what is left of it is dropped; but not for ever. */
static void drop(struct request *q)
{
    if (!q->dropping)
        q->conn->deadline = clock_mono_ms() + q->http->config.body_ms;
    q->dropping = true;
}

size_t receive_data(struct request *q, const char *data, size_t len)
{
    while (len > 0 && !q->response && q->receiver.write) {
        ssize_t n = q->receiver.write(q->receiver.arg, data, len);

        if (n <= 0 && !q->response) {
            request_suspend(q);
            return len;
        }
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    if (q->response)
        drop(q);
    else
        q->conn->deadline = q->receiver.patient ? -1 : clock_mono_ms() + q->http->config.body_ms;
    return 0;
}

void receive_end(struct request *q)
{
    if (!q->body_ended && q->receiver.end) {
        q->body_ended = true;
        q->receiver.end(q->receiver.arg);
    }
    if (!q->response)
        request_suspend(q);
}
