/* Log capture: a pipe's bytes go to segment files <dir>/<stream>.<start>, start = 20-digit cursor of the first byte. */
#ifndef CLOISTER_SUPERVISOR_CAPTURE_H
#define CLOISTER_SUPERVISOR_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/loop.h"

struct capture {
    int pipe_fd; /* read end, non-blocking; -1 after the end */
    int dir_fd, file_fd;
    const char *stream; /* "stdout" or "stderr" */
    uint64_t cursor;    /* bytes written in all */
    uint64_t file_start;
    int64_t max_size; /* bytes a segment */
    int64_t max_files;
    uint64_t lost;              /* bytes that could not be written */
    gid_t gid;                  /* group of the files, mode 0640 */
    bool disabled;              /* read and discard */
    struct loop_source *source; /* the supervisor's watch of pipe_fd */
};

/* Opens the first segment. dir_fd and pipe_fd stay the caller's. */
int capture_open(struct capture *c, struct err *e);
/* Moves what is in the pipe now (at most 1 MiB a call); 1 more may come, 0 end of stream. Never blocks on the pipe. */
int capture_pump(struct capture *c);
void capture_close(struct capture *c);

#endif
