/* Where a reply with a log begins and ends. */
#ifndef CLOISTER_API_LOG_POSITION_H
#define CLOISTER_API_LOG_POSITION_H

#include "server/http.h"
#include "tasks/logreader.h"

enum log_format { LOG_TEXT, LOG_NDJSON, LOG_SSE };

struct log_range { /* of a partial reply (RFC 9110, section 14) */
    uint64_t first, last;
};

struct log_position { /* the search for the begin, in steps: a tail may be long */
    struct logreader *reader;
    int64_t tail; /* lines; -1: all */
    struct logtail back[LOG_STREAMS];
    size_t searching;           /* the file that is searched backwards */
    bool merging;               /* then lines of all are counted forwards, in their order */
    uint64_t surplus;           /* lines that are still to be left out */
    uint64_t line[LOG_STREAMS]; /* where the line begins that each file is in */
    uint64_t limit[LOG_STREAMS];
};

/* The format that format= or else Accept asks for; 400 or 406. */
int log_format(const struct request *q, enum log_format *format, struct err *e);
/* Bit 0 stdout, bit 1 stderr, from stream=; 400. */
int log_streams(const struct request *q, unsigned int *streams, struct err *e);
/* Sets the reader by Last-Event-ID (SSE), cursor=, since= and tail=; 400. What is left to do are the steps. */
int log_position_begin(struct log_position *p, const struct request *q, struct logreader *r, bool sse, struct err *e);
/* One step of at most about 64 KiB; true when the reader is where it is to begin. */
bool log_position_step(struct log_position *p);

/* Whether the request has a Range that concerns what has the bytes [first, end): 1 with *out, 0 when it is to be
 * ignored, -1 with e (416). etag: the strong one that If-Range must name; NULL: it never matches. */
int log_range(const struct request *q, uint64_t first, uint64_t end, const char *etag, struct log_range *out,
              struct err *e);

#endif
