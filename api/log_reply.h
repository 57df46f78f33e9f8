/* A reply with what a task or a session wrote: whole, in part or as it comes; as text, NDJSON or server-sent events. */
#ifndef CLOISTER_API_LOG_REPLY_H
#define CLOISTER_API_LOG_REPLY_H

#include "server/http.h"

struct log_end {       /* how what wrote the log has ended */
    const char *state; /* static text */
    bool exited;       /* the next two tell */
    int code, signum;  /* -1 and 0: does not apply */
};

struct log_source {
    char dir[512];
    const struct log_end *end; /* NULL: it may still grow */
    void (*close)(void *arg);  /* runs once, when the reply is over */
    void *arg;
};

struct log_reply;
/* Replies as the request's query and headers ask (stream, follow, tail, since, cursor, format, Range, Last-Event-ID).
 * NULL when that is a problem: it has been replied, and close has run. Else the reply is valid until close. */
struct log_reply *log_reply(struct request *q, const struct log_source *source);
/* All is written; who follows gets the rest and the end. */
void log_reply_ended(struct log_reply *f, const struct log_end *end);

#endif
