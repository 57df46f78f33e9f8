/* Reads one stream of a log back over its segments (supervisor/segment.h), which rotate while it is read. */
#ifndef CLOISTER_TASKS_LOGFILE_H
#define CLOISTER_TASKS_LOGFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "supervisor/segment.h"

enum { LOGFILE_MARKS = 16 };

struct logfile {
    char dir[512];
    char stream[8];
    int fd, index_fd; /* of the open segment, or -1 */
    uint64_t start;   /* its first byte's cursor */
    uint64_t cursor;  /* of the next byte to read; set it with logfile_seek */
    uint64_t limit;   /* nothing is read from this cursor on */
    bool watched;     /* somebody calls logfile_changed: what did not change is not looked at again */
    bool changed;
    struct segment_mark marks[LOGFILE_MARKS]; /* a window of the index */
    uint64_t marks_at;                        /* number of the first of them */
    size_t marks_used, marks_n;
};

/* At cursor 0, without limit. Nothing need exist yet: reads find it when it comes. */
void logfile_init(struct logfile *f, const char *dir, const char *stream);
void logfile_close(struct logfile *f); /* it may be read on: that opens again */
void logfile_seek(struct logfile *f, uint64_t cursor);
/* Segments have come or gone. An open one that was removed is closed, so that a reader who waits holds no space. */
void logfile_changed(struct logfile *f);

enum log_state {
    LOG_NOTHING, /* at the end of what is there now, or at the limit */
    LOG_GAP,     /* the bytes from the cursor to *to were removed, or never written */
    LOG_DATA,    /* the bytes from the cursor to *to are there, in one segment */
    LOG_ERROR,   /* errno tells */
};
enum log_state logfile_peek(struct logfile *f, uint64_t *to);
/* After LOG_DATA: when the byte at the cursor was written (ns; 0: unknown); *to is lowered to where another time
 * begins. */
int64_t logfile_time(struct logfile *f, uint64_t *to);
/* After LOG_DATA: copies bytes from the cursor, without moving it. Count, or -1 with errno. */
ssize_t logfile_copy(const struct logfile *f, char *out, size_t n);
/* The same over segments: all that is there without a gap, at most n. */
ssize_t logfile_look(const struct logfile *f, char *out, size_t n);

/* Reads on at the cursor and moves it; over a gap to the next that exists. 0: nothing there now; -1 with errno. */
ssize_t logfile_read(struct logfile *f, char *out, size_t cap);

/* Cursors of the first byte that is kept, and behind the last. */
void logfile_range(const struct logfile *f, uint64_t *first, uint64_t *end);
/* Behind the last byte that follows `from` without a gap; `from` itself when that is not there. */
uint64_t logfile_extent(const struct logfile *f, uint64_t from);
/* Moves to the first byte of which the time is `time` (ns) or later, else to the end. By binary search. */
void logfile_since(struct logfile *f, int64_t time);

struct logtail { /* a search backwards for where the last lines begin */
    uint64_t first, end, pos, wanted;
    uint64_t lines; /* found: at most wanted */
};
/* For the last n lines between first and end. */
void logtail_begin(struct logtail *t, uint64_t first, uint64_t end, uint64_t n);
/* Searches a block of at most 64 KiB; true when it is done: then f is there, and t->lines tells how many follow. */
bool logtail_step(struct logtail *t, struct logfile *f);

#endif
