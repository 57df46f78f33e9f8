/* Reads a stream's log back over its segment files <dir>/<stream>.<start> (supervisor/capture.h), which rotate. */
#ifndef CLOISTER_TASKS_LOGFILE_H
#define CLOISTER_TASKS_LOGFILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct logfile {
    char dir[512];
    char stream[8];
    int fd;          /* open segment, or -1 */
    uint64_t start;  /* its first byte's cursor */
    uint64_t cursor; /* of the next byte to read */
};

/* Nothing need exist yet: reads find it when it comes. */
void logfile_init(struct logfile *f, const char *dir, const char *stream);
void logfile_close(struct logfile *f);
/* Reads on at the cursor and moves it; over a gap (rotated away) to the next that exists. 0: nothing there now;
 * -1 with errno. */
ssize_t logfile_read(struct logfile *f, char *out, size_t cap);
/* Cursors of the first byte that is kept, and behind the last. */
void logfile_range(const struct logfile *f, uint64_t *first, uint64_t *end);
/* Sets the cursor to where the last n lines start. */
void logfile_tail(struct logfile *f, uint64_t n);

#endif
