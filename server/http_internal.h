/* Private to http.c, request.c, reply.c and conn.c. */
#ifndef CLOISTER_SERVER_HTTP_INTERNAL_H
#define CLOISTER_SERVER_HTTP_INTERNAL_H

#include "base/buf.h"
#include "server/auth.h"
#include "server/http.h"
#include "server/router.h"

struct MHD_Connection;
struct MHD_Daemon;
struct MHD_Response;
struct MHD_UpgradeResponseHandle;

enum { QUERY_MAX = 64, HEADERS_MAX = 16 };

struct http;

struct listener {
    struct http *http;
    struct MHD_Daemon *mhd;
    struct loop_source *source;
    bool is_unix;
};

struct conn { /* a client's connection */
    struct http *http;
    struct listener *listener;
    int fd;
    int64_t deadline; /* clock_mono_ms; -1 none */
    enum role peer;   /* unix: by credentials */
    struct conn *prev, *next;
};

struct query {
    char *name, *value;
};

struct request {
    struct http *http;
    struct conn *conn;
    struct MHD_Connection *mhd;
    char *method, *path, *authority; /* authority: of a target in absolute form, or NULL */
    struct match match;
    enum role role;
    bool has_token; /* it has shown one */
    int64_t began;  /* clock_mono_ns */
    struct query query[QUERY_MAX];
    size_t nquery;
    const char *query_fault; /* what is wrong with it as a text; static */
    struct buf body;
    bool checked;                  /* the first call is over */
    bool handled;                  /* the handler has run */
    struct MHD_Response *response; /* waiting to be queued */
    int status;
    struct {
        char *name, *value;
    } headers[HEADERS_MAX];
    size_t nheaders;
    bool queued, suspended, gone, close;
    int watch_fd; /* dup of the connection's fd while suspended, to notice a client that leaves */
    struct loop_source *watch;
    struct stream stream;
    bool streaming;
    uint64_t length; /* of the stream; 0: unknown */
    struct receiver receiver;
    bool body_ended, dropping;
    upgrade_fn upgrade;
    void *upgrade_arg;
    void (*on_end)(void *arg);
    void *on_end_arg;
    struct request *prev, *next;
};

struct upgraded { /* a connection that speaks another protocol */
    struct http *http;
    struct MHD_UpgradeResponseHandle *handle;
    void (*on_stop)(void *arg);
    void *on_stop_arg;
    struct upgraded *prev, *next;
};

struct http {
    struct http_config config;
    struct listener listeners[2];
    struct conn *conns;
    struct request *requests;
    struct upgraded *upgraded;
    struct loop_source *tick;
    struct http_counters counters;
    bool resumed; /* MHD must run before the next wait */
    bool stopping;
};

/* conn.c */
struct conn *conn_new(struct listener *l, int fd);
void conn_free(struct conn *c);
void conn_expire(struct http *h); /* cuts off whose deadline is over */
/* http.c */
void request_ready(struct request *q); /* a response is there: queue it, now or on resume */
void request_suspend(struct request *q);
void request_resume(struct request *q);
/* request.c: a parameter as it came; false when the query is not to be read on. Then the check: 400. */
bool query_add(struct request *q, const char *name, const char *value);
int query_check(const struct request *q, struct err *e);
void query_free(struct request *q);
/* receive.c: a part of a body that is taken as it comes, and its end. Returns how many bytes were not taken; the
 * request is suspended then. */
size_t receive_data(struct request *q, const char *data, size_t len);
void receive_end(struct request *q);
/* Whether it is for a route with BODY_STREAM; asked before the caller is known, since framing is checked first. */
bool receive_wanted(const struct request *q);

#endif
