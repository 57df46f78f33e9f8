/* Log capture: a pipe's bytes go to segment files with an index of times (segment.h), which rotate. */
#ifndef CLOISTER_SUPERVISOR_CAPTURE_H
#define CLOISTER_SUPERVISOR_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/loop.h"
#include "supervisor/segment.h"

struct capture_order {  /* what makes the order of several streams: shared by those of one directory */
    int64_t last;       /* time of the newest mark */
    const void *stream; /* which wrote last */
};

struct capture {
    int pipe_fd; /* read end, non-blocking; -1 after the end */
    int dir_fd, file_fd;
    const char *stream; /* "stdout" or "stderr" */
    uint64_t cursor;    /* of the next byte: all that were taken from the pipe, kept or lost */
    uint64_t file_start;
    int64_t max_size; /* bytes; no file of a segment gets larger */
    int64_t max_files;
    uint64_t lost;               /* bytes that could not be written */
    gid_t gid;                   /* group of the files, mode 0640 */
    bool disabled;               /* read and discard */
    struct loop_source *source;  /* the supervisor's watch of pipe_fd */
    struct capture_order *order; /* NULL: its own */
    /* private */
    struct capture_order own;
    int index_fd; /* open when file_fd is, else anything */
    uint64_t index_len;
    struct segment_mark newest; /* of this process, in this segment; time 0: none */
    int64_t marked_ns;          /* when it was made, by a clock that cannot be set */
    int64_t retry_ms;           /* CLOCK_BOOTTIME: after a failure nothing is tried before */
    bool fresh;                 /* the segment has no byte yet, and those before it are all still there */
    bool losing;                /* the last bytes are lost, and no segment begins behind them */
    bool grown, no_splice;
};

/* Opens the segment file_start, when it ends at cursor, else a new one at cursor. dir_fd and pipe_fd stay the caller's,
 * and may be set later. */
int capture_open(struct capture *c, struct err *e);
/* Moves what is in the pipe now (at most about 1 MiB a call); 1 more may come, 0 end of stream. Never blocks on the
 * pipe. What the disk does not take is counted as lost, and its cursors are never used again: a reader sees a gap. */
int capture_pump(struct capture *c);
/* Moves all that the pipe holds at the moment of the call. */
void capture_drain(struct capture *c);
/* Bytes lost at the very end are followed by an empty segment, so that readers see their gap. */
void capture_close(struct capture *c);

#endif
