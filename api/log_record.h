/* A piece of a log as a record of NDJSON or SSE. */
#ifndef CLOISTER_API_LOG_RECORD_H
#define CLOISTER_API_LOG_RECORD_H

#include "api/feed.h"
#include "tasks/logreader.h"

enum { LOG_RECORD_MAX = 8192, LOG_ID = 48 }; /* bytes of a record; size of an id's text */

/* Where the reader is, as cursor= and Last-Event-ID take it: "123" for one stream, "o123,e456" for both. */
void log_id(const struct logreader *r, char out[LOG_ID]);
/* Reads such a text into the files' cursors. 0, or -1 when it is none. */
int log_id_parse(struct logreader *r, const char *text);

/* Appends the piece (LOG_DATA, LOG_GAP), or its begin, as one record and moves on behind it: 1. Text is cut between
 * characters: when all that is there is a part of one, and more may follow (not whole), nothing is done: 0. -1 with
 * errno when it cannot be read. */
int log_record(struct feed *f, const struct logreader *r, const struct logpiece *p, bool whole);

#endif
