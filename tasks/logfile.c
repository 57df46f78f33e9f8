#include "tasks/logfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"

enum { CURSOR_DIGITS = 20, TAIL_BLOCK = 64 * 1024 };

struct segments { /* sorted starts */
    uint64_t *start;
    size_t n;
};

void logfile_init(struct logfile *f, const char *dir, const char *stream)
{
    memset(f, 0, sizeof(*f));
    f->fd = -1;
    snprintf(f->dir, sizeof(f->dir), "%s", dir);
    snprintf(f->stream, sizeof(f->stream), "%s", stream);
}

void logfile_close(struct logfile *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static bool segment_start(const struct logfile *f, const char *name, uint64_t *start)
{
    size_t n = strlen(f->stream);

    if (strncmp(name, f->stream, n) != 0 || name[n] != '.' || strlen(name + n + 1) != CURSOR_DIGITS ||
        strspn(name + n + 1, "0123456789") != CURSOR_DIGITS)
        return false;
    *start = strtoull(name + n + 1, NULL, 10);
    return true;
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static struct segments list(const struct logfile *f)
{
    struct segments s = {0};
    DIR *d = opendir(f->dir);
    uint64_t start;

    for (const struct dirent *e; d && (e = readdir(d));)
        if (segment_start(f, e->d_name, &start)) {
            s.start = xrealloc(s.start, (s.n + 1) * sizeof(*s.start));
            s.start[s.n++] = start;
        }
    if (d)
        closedir(d);
    if (s.n > 1)
        qsort(s.start, s.n, sizeof(*s.start), compare);
    return s;
}

static int open_segment(const struct logfile *f, uint64_t start)
{
    char path[600];

    snprintf(path, sizeof(path), "%s/%s.%020" PRIu64, f->dir, f->stream, start);
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

static int use(struct logfile *f, uint64_t start)
{
    int fd = open_segment(f, start);

    if (fd < 0)
        return -1;
    logfile_close(f);
    f->fd = fd;
    f->start = start;
    if (f->cursor < start)
        f->cursor = start;
    return 0;
}

/* The segment of the cursor, else the first behind it. 0, or -1 when there is none. */
static int find(struct logfile *f)
{
    struct segments s = list(f);
    size_t i = 0;
    int rc = -1;

    while (i + 1 < s.n && s.start[i + 1] <= f->cursor)
        i++;
    for (; i < s.n && rc < 0; i++) /* one may be rotated away between the listing and the open */
        rc = use(f, s.start[i]);
    free(s.start);
    return rc;
}

static ssize_t read_here(struct logfile *f, char *out, size_t cap)
{
    ssize_t n;

    do
        n = pread(f->fd, out, cap, (off_t)(f->cursor - f->start));
    while (n < 0 && errno == EINTR);
    if (n > 0)
        f->cursor += (uint64_t)n;
    return n;
}

static bool next_segment(struct logfile *f)
{
    struct segments s = list(f);
    bool moved = false;

    for (size_t i = 0; i < s.n && !moved; i++)
        moved = s.start[i] > f->start && use(f, s.start[i]) == 0;
    free(s.start);
    return moved;
}

ssize_t logfile_read(struct logfile *f, char *out, size_t cap)
{
    struct logfile before;

    if (f->fd < 0 && find(f) < 0)
        return 0;
    for (;;) {
        ssize_t n = read_here(f, out, cap);
        if (n != 0)
            return n;
        before = *f;
        before.fd = dup(f->fd);
        if (before.fd < 0)
            return -1;
        bool moved = next_segment(f);
        /* The writer may have filled the old segment after we looked and before it began the next. */
        n = moved ? read_here(&before, out, cap) : 0;
        if (n > 0) {
            logfile_close(f);
            *f = before;
            return n;
        }
        close(before.fd);
        if (!moved)
            return 0;
    }
}

void logfile_range(const struct logfile *f, uint64_t *first, uint64_t *end)
{
    struct segments s = list(f);
    struct stat st;

    *first = s.n > 0 ? s.start[0] : 0;
    *end = s.n > 0 ? s.start[s.n - 1] : 0;
    _cleanup_close_ int fd = s.n > 0 ? open_segment(f, *end) : -1;
    if (fd >= 0 && fstat(fd, &st) == 0)
        *end += (uint64_t)st.st_size;
    free(s.start);
}

/* Reads [from, to) as far as it is there; returns the number of bytes. */
static size_t read_range(struct logfile *f, uint64_t from, uint64_t to, char *out)
{
    size_t got = 0;

    logfile_close(f);
    f->cursor = from;
    while (f->cursor < to) {
        ssize_t n = logfile_read(f, out + got, (size_t)(to - from) - got);

        if (n <= 0)
            break;
        got += (size_t)n;
        if (f->cursor != from + got) /* a gap: the part before it was rotated away meanwhile */
            break;
    }
    return got;
}

void logfile_tail(struct logfile *f, uint64_t n)
{
    uint64_t first, end, pos, lines = 0;
    _cleanup_free_ char *block = xcalloc(1, TAIL_BLOCK);

    logfile_range(f, &first, &end);
    pos = n > 0 ? end : first;
    while (pos > first) {
        uint64_t begin = pos - first > TAIL_BLOCK ? pos - TAIL_BLOCK : first;
        size_t len = read_range(f, begin, pos, block);

        for (size_t i = len; i-- > 0;) {
            /* The newline that ends the last line begins no further one. */
            if (block[i] != '\n' || begin + i + 1 == end || ++lines < n)
                continue;
            logfile_close(f);
            f->cursor = begin + i + 1;
            return;
        }
        pos = begin;
    }
    logfile_close(f);
    f->cursor = n > 0 ? first : end;
}
