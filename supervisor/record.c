#include "supervisor/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

static const char RECORD_NAME[] = "record", RESERVE_NAME[] = ".record.reserve";

int record_reserve(int task_dir_fd)
{
    _cleanup_close_ int fd = openat(task_dir_fd, RESERVE_NAME, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

    if (fd < 0)
        return -1;
    return fallocate(fd, 0, 0, sizeof(struct run_status)) < 0 && errno != EOPNOTSUPP ? -1 : 0;
}

/* Into blocks that are there already: a write, a change of the size and a rename need no others. */
static int write_reserve(int task_dir_fd, const struct run_status *s)
{
    _cleanup_close_ int fd = openat(task_dir_fd, RESERVE_NAME, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

    return fd < 0 || file_write_all(fd, s, s->head.size) < 0 || ftruncate(fd, s->head.size) < 0 || fsync(fd) < 0 ||
                   renameat(task_dir_fd, RESERVE_NAME, task_dir_fd, RECORD_NAME) < 0
               ? -1
               : fsync(task_dir_fd);
}

int record_write(int task_dir_fd, const struct run_status *s)
{
    bool ended = s->state == RUN_EXITED || s->state == RUN_FAILED;

    if (file_write_atomic(task_dir_fd, RECORD_NAME, s, s->head.size, 0644, ended) == 0)
        return 0;
    return ended && (errno == ENOSPC || errno == EDQUOT) ? write_reserve(task_dir_fd, s) : -1;
}

int record_read(int task_dir_fd, const char *id, struct run_status *s)
{
    _cleanup_free_ char *data = NULL;
    size_t len = 0;

    if (file_read(task_dir_fd, RECORD_NAME, MESSAGE_MAX, &data, &len) < 0) {
        if (errno == EFBIG)
            errno = EBADMSG;
        return -1;
    }
    if (!message_open(data, len, MSG_RUN_STATUS, s) || strncmp(s->id, id, sizeof(s->id)) != 0) {
        errno = EBADMSG;
        return -1;
    }
    return 0;
}

static void read_boot_id(char out[40])
{
    _cleanup_free_ char *boot = NULL;

#ifdef CLOISTER_FAULTS
    if (getenv("CLOISTER_BOOT_ID")) {
        snprintf(out, 40, "%.36s", getenv("CLOISTER_BOOT_ID"));
        return;
    }
#endif
    if (file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &boot, NULL) == 0)
        snprintf(out, 40, "%.36s", boot);
}

void record_init(struct run_status *s, const char *id)
{
    memset(s, 0, sizeof(*s));
    s->head = message_head(MSG_RUN_STATUS);
    s->state = RUN_STARTING;
    snprintf(s->id, sizeof(s->id), "%s", id);
    s->supervisor_pid = getpid();
    read_boot_id(s->boot_id);
}

uint64_t record_pid_start(pid_t pid)
{
    char path[64];
    _cleanup_free_ char *text = NULL;
    unsigned long long start = 0;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (file_read(AT_FDCWD, path, 4096, &text, NULL) < 0)
        return 0;
    /* The command name may hold spaces and parentheses: fields are counted from the last ')'. */
    const char *after = strrchr(text, ')');
    if (!after || sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                         &start) != 1)
        return 0;
    return start;
}
