/* HTTP over libmicrohttpd (included by http.c and reply.c alone), driven by our loop. */
#ifndef CLOISTER_SERVER_HTTP_H
#define CLOISTER_SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/histogram.h"
#include "base/json.h"
#include "base/loop.h"

enum role { ROLE_NONE, ROLE_MONITOR, ROLE_OPERATOR, ROLE_ADMIN };
enum { REQUEST_SEGMENTS = 8 };

struct request; /* one request until its reply has been sent */

/* What the router and the handlers may ask; strings live as long as the request. */
/* Decoded variable segment of the matched route ("{id}" is 0, the next 1 ...). */
const char *request_param(const struct request *q, size_t i);
const char *request_method(const struct request *q);
const char *request_header(const struct request *q, const char *name);
/* Decoded query parameter; NULL when absent. n-th occurrence for repeatable ones. */
const char *request_query(const struct request *q, const char *name, size_t n);
const char *request_body(const struct request *q, size_t *len);
void *request_api(const struct request *q); /* http_config.api */
struct loop *request_loop(const struct request *q);
enum role request_role(const struct request *q);

/* Exactly one reply a request, at once or later (then the connection is suspended in between). */
void reply_json(struct request *q, int status, struct json *j); /* takes j */
/* Takes data (malloc'd). */
void reply_data(struct request *q, int status, const char *content_type, char *data, size_t len);
void reply_empty(struct request *q, int status);
/* application/problem+json (RFC 9457) from e. */
void reply_problem(struct request *q, const struct err *e);
struct json *problem_json(const struct err *e); /* its body; the caller frees */
/* Before the reply; replaces nothing, adds. */
void reply_header(struct request *q, const char *name, const char *value);

/* A stream: read() fills up to cap bytes and returns their count, 0 = nothing now (http suspends until
 * request_wake), -1 = end, -2 = cannot go on: the connection is cut. */
struct stream {
    ssize_t (*read)(void *arg, char *out, size_t cap);
    void *arg;
};
/* Before reply_stream: the length of the stream in bytes, when it is known. An end before it cuts the connection. */
void reply_length(struct request *q, uint64_t length);
void reply_stream(struct request *q, int status, const char *content_type, struct stream s);
void request_wake(struct request *q);

/* A body as it comes, for routes with BODY_STREAM: the handler says who takes it, and replies later. write() takes up
 * to len bytes and returns how many, 0 = none now (http suspends until request_wake); end() runs once, after the last
 * byte. What comes after a reply is dropped. A client that is cut off ends the request without end(). */
struct receiver {
    ssize_t (*write)(void *arg, const char *data, size_t len);
    void (*end)(void *arg);
    void *arg;
    bool patient; /* the client may take any time between two bytes; else body_ms */
};
void request_receive(struct request *q, struct receiver r);
/* fn(arg) runs exactly once when the request ends for whatever reason: reply sent, client gone, daemon stopping. A
 * handler that waits sets it to drop its timers and subscriptions; after it no reply may be given. */
void request_on_end(struct request *q, void (*fn)(void *arg), void *arg);

/* Switches the connection to another protocol (RFC 9110, 7.8): replies 101 with the headers that reply_header has
 * added, then fn runs with arg, which it then owns, the socket (not owned, non-blocking) and what the client has sent
 * already. When it does not come to that, arg is freed with free() and what request_on_end has set runs; else that does
 * not. */
struct upgraded;
typedef void (*upgrade_fn)(void *arg, struct upgraded *u, int fd, const char *sent, size_t n);
void reply_upgrade(struct request *q, upgrade_fn fn, void *arg);
/* fn(arg) runs when the daemon stops; it must call upgraded_close. */
void upgraded_on_stop(struct upgraded *u, void (*fn)(void *arg), void *arg);
void upgraded_close(struct upgraded *u); /* closes the socket and frees u */

struct router; /* server/router.h */

struct http_counters {
    uint64_t requests, responses[6]; /* by status class: responses[2] = 2xx */
    uint64_t connections, connections_open;
    struct histogram latency; /* from a request's first line to its reply; of a stream to its beginning */
};
/* For GET /metrics. */
const struct http_counters *http_counters(const struct request *q);

struct http_config {
    struct loop *loop;
    const struct router *router;
    const struct auth *auth;
    void *api;                           /* for request_api */
    size_t max_body;                     /* bytes, 1 MiB; not of BODY_STREAM */
    int connection_limit;                /* per listener */
    int64_t header_ms, body_ms, idle_ms; /* absolute deadlines */
};

struct http;
/* Starts serving on listening sockets (owned from now on); fd < 0 is left out. NULL on error. */
struct http *http_start(const struct http_config *c, int unix_fd, int tcp_fd, struct err *e);
/* Ends all requests and connections, then frees. */
void http_stop(struct http *h);

#endif
