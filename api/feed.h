/* A reply that is a stream of JSON records, as NDJSON or server-sent events. It holds no more than what it has been
 * given and not yet sent: a handler gives more only when that is gone. */
#ifndef CLOISTER_API_FEED_H
#define CLOISTER_API_FEED_H

#include "base/buf.h"
#include "server/http.h"

enum feed_format { FEED_JSON /* one document, no stream */, FEED_NDJSON, FEED_SSE };

/* The format that format= or else Accept asks for, and follow= ("true", "false"; absent: true for server-sent events).
 * Without either it is JSON, or NDJSON when it follows. 400 for what does not go together. */
int feed_options(const struct request *q, enum feed_format *format, bool *follow, struct err *e);

struct feed {
    struct request *q;
    enum feed_format format;
    struct buf out;
    size_t sent;
    struct loop_source *ping;
};

/* Something is sent every 15 s when there is nothing else: an SSE comment, or an empty line. */
void feed_open(struct feed *f, struct request *q, enum feed_format format);
void feed_close(struct feed *f);
/* Replies 200 with the stream; s.read gives more by feed_record and returns feed_read's value. */
void feed_reply(struct feed *f, struct stream s);
/* json: the text of one value, without line breaks. id: what a client sends as Last-Event-ID; NULL: none. */
void feed_record(struct feed *f, const char *id, const char *json);
/* For SSE: the id of what the client has before it gets any record, and how soon it is to come again. */
void feed_start(struct feed *f, const char *id);
/* Moves up to cap bytes of what is there to out; 0 when nothing is. */
ssize_t feed_read(struct feed *f, char *out, size_t cap);

#endif
