/* A directory with the captures of two streams, for the tests of logs. */
#ifndef CLOISTER_TESTS_UNIT_LOGS_H
#define CLOISTER_TESTS_UNIT_LOGS_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "supervisor/capture.h"
#include "tasks/logreader.h"

enum { SIZE = 4096 };

struct bench {
    char dir[64];
    int dir_fd;
    struct capture_order order;
    struct capture c[LOG_STREAMS];
    int in[LOG_STREAMS]; /* write ends */
};

static inline void open_captures(struct bench *b, int64_t size, int64_t files)
{
    for (int i = 0; i < LOG_STREAMS; i++) {
        struct err e = {0};
        int ends[2];

        assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
        b->in[i] = ends[1];
        b->c[i] = (struct capture){
            .pipe_fd = ends[0],
            .dir_fd = b->dir_fd,
            .stream = log_stream_names[i],
            .max_size = size,
            .max_files = files,
            .gid = getgid(),
            .order = &b->order,
            .cursor = b->c[i].cursor,
            .file_start = b->c[i].file_start,
            .lost = b->c[i].lost,
        };
        assert_int_equal(capture_open(&b->c[i], &e), 0);
    }
}

static inline void close_captures(struct bench *b)
{
    for (int i = 0; i < LOG_STREAMS && b->in[0] >= 0; i++) {
        capture_close(&b->c[i]);
        close(b->c[i].pipe_fd);
        close(b->in[i]);
    }
    b->in[0] = -1;
}

static inline int setup(void **state)
{
    struct bench *b = calloc(1, sizeof(*b));

    *state = b;
    b->in[0] = -1;
    snprintf(b->dir, sizeof(b->dir), "/tmp/cloister-logs-XXXXXX");
    if (!mkdtemp(b->dir))
        return -1;
    b->dir_fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return b->dir_fd < 0 ? -1 : 0;
}

static inline int teardown(void **state)
{
    struct bench *b = *state;
    int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    close_captures(b);
    close(b->dir_fd);
    int rc = file_remove_tree(tmp, strrchr(b->dir, '/') + 1);
    close(tmp);
    free(b);
    return rc;
}

/* Through the pipe, in parts that it can hold. */
static inline void put(struct bench *b, int stream, const char *data, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t part = write(b->in[stream], data + at, n - at);

        assert_true(part > 0 || errno == EAGAIN);
        at += part > 0 ? (size_t)part : 0;
        assert_int_equal(capture_pump(&b->c[stream]), 1);
    }
}

static inline char *noise(size_t n, unsigned int seed)
{
    char *p = malloc(n);

    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245 + 12345;
        p[i] = (char)(seed >> 16);
    }
    return p;
}

static inline void craft(const struct bench *b, const char *name, const void *data, size_t n)
{
    int fd = openat(b->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, n), n);
    close(fd);
}

#endif
