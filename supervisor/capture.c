#include "supervisor/capture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 64 * 1024, PUMP_MAX = 16 };

static void segment_name(const struct capture *c, uint64_t start, char *out, size_t n)
{
    snprintf(out, n, "%s.%020" PRIu64, c->stream, start);
}

static int open_segment(struct capture *c)
{
    char name[64];

    segment_name(c, c->cursor, name, sizeof(name));
    int fd = openat(c->dir_fd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return -1;
    /* The directory belongs to the server's group; the file must too, whatever the umask. */
    if (fchown(fd, 0, c->gid) < 0 || fchmod(fd, 0640) < 0) {
        close(fd);
        return -1;
    }
    if (c->file_fd >= 0)
        close(c->file_fd);
    c->file_fd = fd;
    c->file_start = c->cursor;
    return 0;
}

/* Removes the oldest segments: every segment but the last is full, so their names follow from the size. */
static void drop_old(struct capture *c)
{
    char name[64];
    uint64_t keep = (uint64_t)(c->max_files - 1) * (uint64_t)c->max_size;

    if (c->file_start < keep + (uint64_t)c->max_size)
        return;
    segment_name(c, c->file_start - keep - (uint64_t)c->max_size, name, sizeof(name));
    unlinkat(c->dir_fd, name, 0);
}

/* Where an earlier supervisor's segments end; 0 when there are none. */
static uint64_t end_of_segments(const struct capture *c)
{
    int fd = openat(c->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    size_t n = strlen(c->stream);
    uint64_t end = 0;
    struct stat st;

    if (!d && fd >= 0)
        close(fd);
    for (const struct dirent *e; d && (e = readdir(d));)
        if (strncmp(e->d_name, c->stream, n) == 0 && e->d_name[n] == '.' &&
            fstatat(c->dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            uint64_t at = strtoull(e->d_name + n + 1, NULL, 10) + (uint64_t)st.st_size;
            end = at > end ? at : end;
        }
    if (d)
        closedir(d);
    return end;
}

int capture_open(struct capture *c, struct err *e)
{
    c->file_fd = -1;
    if (c->disabled)
        return 0;
    if (c->cursor == 0)
        c->cursor = end_of_segments(c);
    if (open_segment(c) < 0)
        return err_step(e, "logs", errno, "cannot open the log file of %s", c->stream);
    return 0;
}

static void store(struct capture *c, const char *data, size_t len)
{
    while (len > 0) {
        uint64_t room = c->file_start + (uint64_t)c->max_size - c->cursor;
        size_t part = len < room ? len : (size_t)room;
        ssize_t n = c->file_fd >= 0 && part > 0 ? write(c->file_fd, data, part) : 0;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) { /* a full disk must not block the task: what cannot be kept is counted */
            c->lost += len;
            return;
        }
        c->cursor += (uint64_t)n;
        data += n;
        len -= (size_t)n;
        if (c->cursor - c->file_start >= (uint64_t)c->max_size) {
            if (open_segment(c) < 0) {
                c->lost += len;
                return;
            }
            drop_old(c);
        }
    }
}

int capture_pump(struct capture *c)
{
    static char chunk[CHUNK]; /* one process, one task: a single buffer serves both streams */

    for (int i = 0; i < PUMP_MAX; i++) {
        ssize_t n = read(c->pipe_fd, chunk, sizeof(chunk));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 1 : 0;
        if (n == 0)
            return 0;
        if (!c->disabled)
            store(c, chunk, (size_t)n);
    }
    return 1;
}

void capture_close(struct capture *c)
{
    if (c->file_fd >= 0)
        close(c->file_fd);
    c->file_fd = -1;
}
