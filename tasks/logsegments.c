#include "tasks/logsegments.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

int logsegments_list(const char *dir, const char *stream, struct logsegments *s)
{
    DIR *d = opendir(dir);
    uint64_t start;
    bool index;

    *s = (struct logsegments){0};
    if (!d)
        return errno == ENOENT ? 0 : -1;
    for (const struct dirent *e; (e = readdir(d));)
        if (segment_parse(e->d_name, stream, &start, &index) && !index) {
            s->start = xrealloc(s->start, (s->n + 1) * sizeof(*s->start));
            s->start[s->n++] = start;
        }
    closedir(d);
    if (s->n > 1)
        qsort(s->start, s->n, sizeof(*s->start), compare);
    return 0;
}

int logsegment_open(const char *dir, const char *stream, uint64_t start, bool index)
{
    char name[SEGMENT_NAME];

    segment_name(stream, start, index, name);
    _cleanup_free_ char *path = xasprintf("%s/%s", dir, name);
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

uint64_t logsegment_size(const char *dir, const char *stream, uint64_t start)
{
    char name[SEGMENT_NAME];
    struct stat st;

    segment_name(stream, start, false, name);
    _cleanup_free_ char *path = xasprintf("%s/%s", dir, name);
    return lstat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* Whole marks in an index; 0 for fd -1. */
static uint64_t count_marks(int index_fd)
{
    struct stat st;

    return index_fd >= 0 && fstat(index_fd, &st) == 0 ? (uint64_t)st.st_size / sizeof(struct segment_mark) : 0;
}

size_t logmarks_read(int index_fd, uint64_t at, struct segment_mark *out, size_t n)
{
    ssize_t got;

    if (index_fd < 0)
        return 0;
    do
        got = pread(index_fd, out, n * sizeof(*out), (off_t)(at * sizeof(*out)));
    while (got < 0 && errno == EINTR);
    return got < 0 ? 0 : (size_t)got / sizeof(*out);
}

/* Number of the first mark for which one of the two conditions holds; both hold from some number on. */
static uint64_t lower_bound(int index_fd, uint64_t beyond, int64_t since)
{
    uint64_t low = 0, high = count_marks(index_fd);

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct segment_mark m;

        if (logmarks_read(index_fd, middle, &m, 1) == 1 && m.cursor <= beyond && m.time < since)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t logmarks_after(int index_fd, uint64_t cursor)
{
    return lower_bound(index_fd, cursor, INT64_MAX);
}

uint64_t logmarks_since(int index_fd, int64_t time)
{
    return lower_bound(index_fd, UINT64_MAX, time);
}
