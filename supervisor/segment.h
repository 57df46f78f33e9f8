/* Names and marks of log segments: what supervisor/capture.c writes and tasks/logfile.c reads.
 *
 * A segment is two files: <stream>.<start> holds the bytes from cursor start on, and <stream>.<start>.index holds
 * marks. A mark tells when the bytes from its cursor on were written, up to the next mark's cursor. Cursors and times
 * grow within an index, and times grow strictly over all streams of a directory. A mark is written before its bytes. */
#ifndef CLOISTER_SUPERVISOR_SEGMENT_H
#define CLOISTER_SUPERVISOR_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct segment_mark { /* as on disk, in the host's byte order; a part of one at the end of the file is no mark */
    uint64_t cursor;
    int64_t time; /* CLOCK_REALTIME, ns, never going back */
};

enum { SEGMENT_NAME = 48 };

/* "stdout.00000000000000001234", or the same with ".index". stream has at most 15 characters. */
void segment_name(const char *stream, uint64_t start, bool index, char out[SEGMENT_NAME]);
/* Whether name is a segment file of the stream; tells its start, and whether it is the index. */
bool segment_parse(const char *name, const char *stream, uint64_t *start, bool *index);

#endif
