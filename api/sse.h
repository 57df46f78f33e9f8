/* Records of the two stream formats that carry JSON: NDJSON and server-sent events. */
#ifndef CLOISTER_API_SSE_H
#define CLOISTER_API_SSE_H

#include "base/buf.h"

#define MEDIA_NDJSON "application/x-ndjson"
#define MEDIA_SSE "text/event-stream"

/* Appends one event (WHATWG HTML, section 9.2): "id: ID", "event: EVENT", a "data: " line for each line of data, and an
 * empty line. id and event may be NULL. Neither may hold a line break. */
void sse_record(struct buf *b, const char *id, const char *event, const char *data);
/* A comment, which clients ignore: it keeps the connection alive and finds out who has left. */
void sse_ping(struct buf *b);

#endif
