#include "supervisor/capture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"

/* CHUNK is a pipe's usual capacity, LARGE what one that was found full is made (pipe(7): F_SETPIPE_SZ). */
enum { CHUNK = 64 * 1024, LARGE = 1 << 20, PUMP_MAX = 1 << 20, SPLICE_MIN = 16 * 1024, RETRY_MS = 100 };

/* A stream that goes on within this time needs no new mark. */
static const int64_t COALESCE_NS = 1000000;

/* --- segments ---------------------------------------------------------------------------------------------------- */

static int open_file(const struct capture *c, uint64_t start, bool index)
{
    char name[SEGMENT_NAME];

    segment_name(c->stream, start, index, name);
    int fd = openat(c->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    /* The directory belongs to the server's group; the file must too, whatever the umask. */
    if (fd >= 0 && (fchown(fd, 0, c->gid) < 0 || fchmod(fd, 0640) < 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static void close_segment(struct capture *c)
{
    if (c->file_fd >= 0) {
        close(c->file_fd);
        close(c->index_fd);
    }
    c->file_fd = -1;
}

static int open_segment(struct capture *c, uint64_t start)
{
    struct stat st;
    /* The index first: a reader who finds the segment finds it too. */
    int index = open_file(c, start, true), file = index < 0 ? -1 : open_file(c, start, false);

    if (file < 0 || fstat(index, &st) < 0) {
        cleanup_close(&index);
        cleanup_close(&file);
        return -1;
    }
    close_segment(c);
    c->losing = false;
    c->file_fd = file;
    c->index_fd = index;
    c->file_start = start;
    c->index_len = (uint64_t)st.st_size / sizeof(struct segment_mark) * sizeof(struct segment_mark);
    c->newest = (struct segment_mark){0};
    return 0;
}

static int descending(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x < *y) - (*x > *y);
}

/* The start of the oldest segment that stays, by the names in the directory; 0 while there is room for more. */
static uint64_t oldest_kept(const struct capture *c, DIR *d)
{
    _cleanup_free_ uint64_t *starts = NULL;
    size_t n = 0, max = (size_t)c->max_files;
    uint64_t start;
    bool index;

    for (const struct dirent *e; (e = readdir(d));)
        if (segment_parse(e->d_name, c->stream, &start, &index) && !index) {
            starts = xrealloc(starts, (n + 1) * sizeof(*starts));
            starts[n++] = start;
        }
    if (n <= max)
        return 0;
    qsort(starts, n, sizeof(*starts), descending);
    return starts[max - 1];
}

static void unlink_segment(const struct capture *c, uint64_t start)
{
    char name[SEGMENT_NAME];

    for (int index = 0; index < 2; index++) {
        segment_name(c->stream, start, index, name);
        unlinkat(c->dir_fd, name, 0);
    }
}

static void drop_old(const struct capture *c)
{
    int fd = openat(c->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    uint64_t start;
    bool index;

    if (!d) {
        cleanup_close(&fd);
        return; /* the next rotation does it */
    }
    uint64_t keep = oldest_kept(c, d);
    rewinddir(d);
    for (const struct dirent *e; keep > 0 && (e = readdir(d));)
        if (segment_parse(e->d_name, c->stream, &start, &index) && start < keep)
            unlink_segment(c, start);
    closedir(d);
}

/* A segment with room for at least one byte and its mark. 0, or -1 when the disk does not give it. */
static int ensure_room(struct capture *c)
{
    if (c->file_fd >= 0 && c->cursor - c->file_start < (uint64_t)c->max_size &&
        c->index_len + sizeof(struct segment_mark) <= (uint64_t)c->max_size)
        return 0;
    if (c->file_fd < 0 && clock_mono_ms() < c->retry_ms)
        return -1;
    if (open_segment(c, c->cursor) < 0)
        return -1;
    c->fresh = true;
    return 0;
}

/* n bytes have been written. Old segments go only now, that no empty ones take their place while the disk is full. */
static void advance(struct capture *c, size_t n)
{
    c->cursor += n;
    if (c->fresh)
        drop_old(c);
    c->fresh = false;
}

/* Where an earlier supervisor's segments end; 0 when there are none. */
static uint64_t end_of_segments(const struct capture *c)
{
    int fd = openat(c->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    uint64_t start, end = 0;
    bool index;
    struct stat st;

    if (!d)
        cleanup_close(&fd);
    for (const struct dirent *e; d && (e = readdir(d));)
        if (segment_parse(e->d_name, c->stream, &start, &index) && !index &&
            fstatat(c->dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && start + (uint64_t)st.st_size > end)
            end = start + (uint64_t)st.st_size;
    if (d)
        closedir(d);
    return end;
}

int capture_open(struct capture *c, struct err *e)
{
    struct stat st;

    c->file_fd = -1;
    if (!c->order)
        c->order = &c->own;
    if (c->disabled)
        return 0;
    if (c->cursor == 0)
        c->cursor = c->file_start = end_of_segments(c);
    if (open_segment(c, c->file_start) < 0 || fstat(c->file_fd, &st) < 0)
        return err_step(e, "logs", errno, "cannot open the log file of %s", c->stream);
    if ((uint64_t)st.st_size != c->cursor - c->file_start && open_segment(c, c->cursor) < 0)
        return err_step(e, "logs", errno, "cannot open the log file of %s", c->stream);
    return 0;
}

/* --- marks -------------------------------------------------------------------------------------------------------- */

/* The bytes from the cursor on are written now. When the mark cannot be written they belong to the one before. */
static void mark(struct capture *c)
{
    struct capture_order *o = c->order;
    int64_t now = clock_real_ns(), mono = clock_mono_ns();

    if (o->stream == c && c->index_len > 0 && mono - c->marked_ns < COALESCE_NS)
        return;
    struct segment_mark m = {c->cursor, now > o->last ? now : o->last + 1};
    o->stream = c;
    if (pwrite(c->index_fd, &m, sizeof(m), (off_t)c->index_len) != sizeof(m))
        return;
    c->index_len += sizeof(m);
    c->newest = m;
    c->marked_ns = mono;
    o->last = m.time;
}

/* Wakes who watches the directory by inotify(7): before Linux 6.8 splice(2) tells nobody of what it writes. */
static void touch(const struct capture *c)
{
    off_t at = (off_t)c->index_len - (off_t)sizeof(c->newest);

    if (c->newest.time > 0 && pwrite(c->index_fd, &c->newest, sizeof(c->newest), at) < 0)
        return; /* the next write wakes them */
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

static void lose(struct capture *c, size_t n)
{
    if (c->file_fd >= 0 && c->fresh)
        unlink_segment(c, c->file_start);
    c->fresh = false;
    c->cursor += n;
    c->lost += n;
    if (c->file_fd >= 0 || clock_mono_ms() >= c->retry_ms)
        c->retry_ms = clock_mono_ms() + RETRY_MS;
    close_segment(c); /* a segment has no holes: the next one begins behind what is lost */
    c->losing = true;
}

static size_t room(const struct capture *c)
{
    return (size_t)(c->file_start + (uint64_t)c->max_size - c->cursor);
}

static void store(struct capture *c, const char *data, size_t len)
{
    while (len > 0) {
        if (ensure_room(c) < 0) { /* a full disk must not block the task: what cannot be kept is counted */
            lose(c, len);
            return;
        }
        mark(c);
        size_t part = len < room(c) ? len : room(c);
        ssize_t n = pwrite(c->file_fd, data, part, (off_t)(c->cursor - c->file_start));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            lose(c, len);
            return;
        }
        advance(c, (size_t)n);
        data += n;
        len -= (size_t)n;
    }
}

/* Through a buffer. What read(2) returns. */
static ssize_t move_copied(struct capture *c)
{
    static char chunk[CHUNK]; /* one process, one loop: a single buffer serves all streams */
    ssize_t n;

    do
        n = read(c->pipe_fd, chunk, sizeof(chunk));
    while (n < 0 && errno == EINTR);
    if (n > 0 && !c->disabled)
        store(c, chunk, (size_t)n);
    return n;
}

/* Within the kernel, when the pipe holds much: 0 when it does not, or when it must be copied. */
static ssize_t move_spliced(struct capture *c)
{
    int waiting = 0;
    ssize_t n;

    if (c->disabled || c->no_splice || ioctl(c->pipe_fd, FIONREAD, &waiting) < 0 || waiting < SPLICE_MIN ||
        ensure_room(c) < 0)
        return 0;
    mark(c);
    off_t at = (off_t)(c->cursor - c->file_start);
    do
        n = splice(c->pipe_fd, NULL, c->file_fd, &at, room(c) < LARGE ? room(c) : LARGE, SPLICE_F_NONBLOCK);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EINVAL) /* not a pipe (a terminal), or a filesystem without it */
        c->no_splice = true;
    if (n <= 0)
        return 0;
    advance(c, (size_t)n);
    touch(c);
    return n;
}

/* A pipe that was full is made larger once, so that few know the cost: the task then waits less for us. */
static void grow(struct capture *c, ssize_t n)
{
    if (c->grown || n < CHUNK)
        return;
    c->grown = true;
    if (fcntl(c->pipe_fd, F_SETPIPE_SZ, LARGE) < 0)
        return; /* beyond /proc/sys/fs/pipe-max-size, or no pipe: it stays as it is */
}

/* What read(2) returns, of at least one byte when there is one. */
static ssize_t move(struct capture *c)
{
    ssize_t n = c->grown ? move_spliced(c) : 0;

    if (n > 0)
        return n;
    n = move_copied(c);
    grow(c, n);
    return n;
}

int capture_pump(struct capture *c)
{
    for (size_t moved = 0; moved < PUMP_MAX;) {
        ssize_t n = move(c);

        if (n <= 0)
            return n < 0 && errno == EAGAIN ? 1 : 0;
        moved += (size_t)n;
    }
    return 1;
}

void capture_drain(struct capture *c)
{
    int left = 0;
    ssize_t n;

    if (ioctl(c->pipe_fd, FIONREAD, &left) < 0)
        return;
    while (left > 0 && (n = move(c)) > 0)
        left -= (int)(n < left ? n : left);
}

void capture_close(struct capture *c)
{
    if (c->losing && open_segment(c, c->cursor) < 0)
        c->losing = false; /* not even its name fits: readers see the end before what is lost */
    close_segment(c);
}
