#include "tasks/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "tasks/logsegments.h"

enum { TAIL_BLOCK = 64 * 1024 };

void logfile_init(struct logfile *f, const char *dir, const char *stream)
{
    memset(f, 0, sizeof(*f));
    f->fd = f->index_fd = -1;
    f->changed = true;
    f->limit = UINT64_MAX;
    snprintf(f->dir, sizeof(f->dir), "%s", dir);
    snprintf(f->stream, sizeof(f->stream), "%s", stream);
}

void logfile_close(struct logfile *f)
{
    cleanup_close(&f->fd);
    cleanup_close(&f->index_fd);
    f->fd = f->index_fd = -1;
    f->marks_n = f->marks_used = 0;
    f->changed = true;
}

void logfile_seek(struct logfile *f, uint64_t cursor)
{
    logfile_close(f);
    f->cursor = cursor;
}

void logfile_changed(struct logfile *f)
{
    struct stat st;

    f->changed = true;
    if (f->fd >= 0 && (fstat(f->fd, &st) < 0 || st.st_nlink == 0))
        logfile_close(f);
}

/* --- from segment to segment -------------------------------------------------------------------------------------- */

static int use(struct logfile *f, uint64_t start)
{
    _cleanup_close_ int fd = logsegment_open(f->dir, f->stream, start, false);
    int index = fd < 0 ? -1 : logsegment_open(f->dir, f->stream, start, true);
    struct stat st;

    if (fd < 0)
        return -1;
    /* Without its index a segment can be read; its times are unknown then. But first, it may be removed just now. */
    if (index < 0 && (fstat(fd, &st) < 0 || st.st_nlink == 0)) {
        errno = ENOENT;
        return -1;
    }
    logfile_close(f);
    f->fd = take_fd(&fd);
    f->index_fd = index;
    f->start = start;
    return 0;
}

/* Opens the segment of the cursor, else the first behind it; or, when one is open, the one that follows it. 1, 0 when
 * there is none, -1 with errno. */
static int advance(struct logfile *f)
{
    struct logsegments s;
    size_t i = 0;
    int rc = 0;

    if (f->watched && !f->changed)
        return 0;
    if (logsegments_list(f->dir, f->stream, &s) < 0)
        return -1;
    if (f->fd >= 0)
        while (i < s.n && s.start[i] <= f->start)
            i++;
    else
        while (i + 1 < s.n && s.start[i + 1] <= f->cursor)
            i++;
    f->changed = false;
    for (bool more = true; i < s.n && more; i++) {
        rc = use(f, s.start[i]) == 0 ? 1 : errno == ENOENT || errno == EACCES ? 0 : -1;
        more = rc == 0 && errno == ENOENT; /* rotated away between the listing and the open */
        /* A file that has just been made may not have its group yet: then it is looked at again. */
        f->changed = f->changed || (rc == 0 && errno == EACCES);
    }
    free(s.start);
    return rc;
}

static uint64_t end_of(int fd, uint64_t start)
{
    struct stat st;

    return start + (fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0);
}

/* At the end of the open segment. 1: there is more to look at, 0: nothing, -1 with errno. */
static int move_on(struct logfile *f)
{
    struct logfile before = *f;

    before.fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 3);
    before.index_fd = f->index_fd < 0 ? -1 : fcntl(f->index_fd, F_DUPFD_CLOEXEC, 3);
    int rc = before.fd < 0 ? -1 : advance(f);
    /* The writer may have filled the old segment after we looked and before it began the next. */
    if (rc > 0 && end_of(before.fd, before.start) > f->cursor) {
        logfile_close(f);
        *f = before;
        f->changed = true;
        return 1;
    }
    logfile_close(&before);
    return rc;
}

/* The same when no name is known to have changed. The news may be on its way, and the order of streams must not depend
 * on it: what was written is there. */
static int follow_on(struct logfile *f)
{
    if (f->cursor == f->start)
        return 0;
    return use(f, f->cursor) == 0 ? 1 : errno == ENOENT || errno == EACCES ? 0 : -1;
}

enum log_state logfile_peek(struct logfile *f, uint64_t *to)
{
    if (f->cursor >= f->limit)
        return LOG_NOTHING;
    for (;;) {
        int rc = f->fd >= 0 ? 1 : advance(f);

        if (rc <= 0)
            return rc < 0 ? LOG_ERROR : LOG_NOTHING;
        uint64_t end = f->cursor < f->start ? f->start : end_of(f->fd, f->start);
        *to = end < f->limit ? end : f->limit;
        if (f->cursor < f->start)
            return LOG_GAP;
        if (end > f->cursor)
            return LOG_DATA;
        rc = f->watched && !f->changed ? follow_on(f) : move_on(f);
        if (rc <= 0)
            return rc < 0 ? LOG_ERROR : LOG_NOTHING;
    }
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

ssize_t logfile_copy(const struct logfile *f, char *out, size_t n)
{
    ssize_t got;

    do
        got = pread(f->fd, out, n, (off_t)(f->cursor - f->start));
    while (got < 0 && errno == EINTR);
    return got;
}

ssize_t logfile_look(const struct logfile *f, char *out, size_t n)
{
    struct logfile ahead = *f;
    size_t got = 0;
    ssize_t part;
    uint64_t to;

    ahead.fd = ahead.index_fd = -1;
    ahead.watched = false;
    while (got < n && logfile_peek(&ahead, &to) == LOG_DATA && (part = logfile_copy(&ahead, out + got, n - got)) > 0) {
        got += (size_t)part;
        ahead.cursor += (uint64_t)part;
    }
    logfile_close(&ahead);
    return (ssize_t)got;
}

ssize_t logfile_read(struct logfile *f, char *out, size_t cap)
{
    uint64_t to;

    for (;;) {
        switch (logfile_peek(f, &to)) {
        case LOG_NOTHING:
            return 0;
        case LOG_ERROR:
            return -1;
        case LOG_GAP:
            f->cursor = to;
            continue;
        case LOG_DATA:
            break;
        }
        ssize_t n = logfile_copy(f, out, to - f->cursor < cap ? (size_t)(to - f->cursor) : cap);
        if (n > 0)
            f->cursor += (uint64_t)n;
        return n;
    }
}

/* --- times -------------------------------------------------------------------------------------------------------- */

static void load_marks(struct logfile *f, uint64_t at)
{
    f->marks_at = at;
    f->marks_used = 0;
    f->marks_n = logmarks_read(f->index_fd, at, f->marks, LOGFILE_MARKS);
}

/* Brings the mark behind the current one into the window, if there is one. */
static bool next_mark(struct logfile *f)
{
    if (f->marks_used + 1 >= f->marks_n)
        load_marks(f, f->marks_at + f->marks_used);
    return f->marks_n > 1;
}

int64_t logfile_time(struct logfile *f, uint64_t *to)
{
    if (f->marks_n == 0 || f->marks[f->marks_used].cursor > f->cursor) {
        uint64_t after = logmarks_after(f->index_fd, f->cursor);

        load_marks(f, after > 0 ? after - 1 : 0);
    }
    const struct segment_mark *m = f->marks + f->marks_used;
    if (f->marks_n > 0 && m->cursor <= f->cursor) {
        while (next_mark(f) && f->marks[f->marks_used + 1].cursor <= f->cursor)
            f->marks_used++;
        if (f->marks_n == 0)
            return 0;
        m = f->marks + f->marks_used;
        if (f->marks_n > 1 && m[1].cursor < *to)
            *to = m[1].cursor;
        return m->time;
    }
    if (f->marks_n > 0 && m->cursor < *to) /* the first mark could not be written */
        *to = m->cursor;
    return 0;
}

/* When the segment begins; of those that have no mark it is unknown. */
static bool begin_time(const struct logfile *f, uint64_t start, int64_t *time)
{
    struct segment_mark m;
    _cleanup_close_ int index = logsegment_open(f->dir, f->stream, start, true);

    if (logmarks_read(index, 0, &m, 1) != 1)
        return false;
    *time = m.time;
    return true;
}

void logfile_since(struct logfile *f, int64_t time)
{
    struct logsegments s;
    struct segment_mark m = {0};

    logsegments_list(f->dir, f->stream, &s);
    size_t low = 0, high = s.n;
    while (low < high) { /* the first segment that begins at the time or later */
        size_t middle = low + (high - low) / 2, known = middle;
        int64_t begin = 0;

        while (!begin_time(f, s.start[known], &begin) && known > low)
            known--;
        if (begin >= time)
            high = known;
        else
            low = middle + 1;
    }
    uint64_t at = low < s.n ? s.start[low] : 0;
    if (low > 0) {
        uint64_t start = s.start[low - 1], end = start + logsegment_size(f->dir, f->stream, start);
        _cleanup_close_ int index = logsegment_open(f->dir, f->stream, start, true);

        if (logmarks_read(index, logmarks_since(index, time), &m, 1) == 1)
            at = m.cursor;
        else if (low == s.n)
            at = end;
    }
    free(s.start);
    logfile_seek(f, at);
}

/* --- ranges and lines --------------------------------------------------------------------------------------------- */

void logfile_range(const struct logfile *f, uint64_t *first, uint64_t *end)
{
    struct logsegments s;

    logsegments_list(f->dir, f->stream, &s);
    *first = s.n > 0 ? s.start[0] : 0;
    *end = s.n > 0 ? s.start[s.n - 1] + logsegment_size(f->dir, f->stream, s.start[s.n - 1]) : 0;
    free(s.start);
}

uint64_t logfile_extent(const struct logfile *f, uint64_t from)
{
    struct logsegments s;
    uint64_t end = from;

    logsegments_list(f->dir, f->stream, &s);
    for (size_t i = 0; i < s.n && s.start[i] <= end; i++) {
        uint64_t here = s.start[i] + logsegment_size(f->dir, f->stream, s.start[i]);

        end = here > end ? here : end;
    }
    free(s.start);
    return end;
}

void logtail_begin(struct logtail *t, uint64_t first, uint64_t end, uint64_t n)
{
    *t = (struct logtail){.first = first, .end = end, .pos = n > 0 ? end : first, .wanted = n};
}

/* All that there is, is not more than wanted. */
static bool tail_whole(struct logtail *t, struct logfile *f)
{
    if (t->wanted == 0) {
        logfile_seek(f, t->end);
        return true;
    }
    t->lines += t->end > t->first;
    logfile_seek(f, t->first);
    return true;
}

/* Moves t->pos to the begin of a block of one segment, which is read into the buffer: its size, 0 when it is empty. */
static size_t tail_block(struct logtail *t, struct logfile *f, char *block)
{
    logfile_seek(f, t->pos - 1);
    if (advance(f) <= 0 || f->start >= t->pos) { /* rotated away since */
        t->first = t->pos;
        return 0;
    }
    uint64_t end = end_of(f->fd, f->start), bottom = f->start > t->first ? f->start : t->first;
    end = end < t->pos ? end : t->pos;
    t->pos = end > bottom ? end : bottom;
    if (end <= bottom)
        return 0;
    size_t want = end - bottom > TAIL_BLOCK ? TAIL_BLOCK : (size_t)(end - bottom);
    f->cursor = t->pos = end - want;
    ssize_t n = logfile_copy(f, block, want);
    return n > 0 ? (size_t)n : 0;
}

bool logtail_step(struct logtail *t, struct logfile *f)
{
    if (t->pos <= t->first)
        return tail_whole(t, f);
    _cleanup_free_ char *block = xcalloc(1, TAIL_BLOCK);
    size_t n = tail_block(t, f, block);
    for (size_t i = n; i-- > 0;) {
        /* The newline that ends the last line begins no further one. */
        if (block[i] != '\n' || t->pos + i + 1 == t->end || ++t->lines < t->wanted)
            continue;
        logfile_seek(f, t->pos + i + 1);
        return true;
    }
    return false;
}
