/* Private to the readers of logs: which segments a stream has. */
#ifndef CLOISTER_TASKS_LOGSEGMENTS_H
#define CLOISTER_TASKS_LOGSEGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "supervisor/segment.h"

struct logsegments { /* starts, sorted */
    uint64_t *start;
    size_t n;
};

/* Those in the directory now; the caller frees start. 0, none too when there is no directory, or -1 with errno. */
int logsegments_list(const char *dir, const char *stream, struct logsegments *s);
/* The file or its index for reading: fd, or -1 with errno. */
int logsegment_open(const char *dir, const char *stream, uint64_t start, bool index);
/* Bytes in the segment; 0 when it is gone. */
uint64_t logsegment_size(const char *dir, const char *stream, uint64_t start);

/* Reads up to n marks from number `at` on; the count. */
size_t logmarks_read(int index_fd, uint64_t at, struct segment_mark *out, size_t n);
/* Number of the first mark with a cursor beyond `cursor`, or with a time of `time` or later. By binary search. */
uint64_t logmarks_after(int index_fd, uint64_t cursor);
uint64_t logmarks_since(int index_fd, int64_t time);

#endif
