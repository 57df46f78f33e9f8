/* Log capture: what is written is read back exactly, and what cannot be kept is a gap. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tasks/logsegments.h"
#include "tests/unit/logs.h"

static void test_what_is_written_is_read(void **state)
{
    struct bench *b = *state;
    size_t n = 3 << 20, got = 0;
    char *data = noise(n, 1), *back = malloc(n);
    struct logfile f;
    ssize_t part;

    open_captures(b, SIZE * 16, 1000);
    for (size_t at = 0, step = 1; at < n; at += step, step = step * 7 % 99991 + 1) /* from 1 byte to more than a pipe */
        put(b, 0, data + at, at + step < n ? step : n - at);
    logfile_init(&f, b->dir, "stdout");
    while ((part = logfile_read(&f, back + got, n - got)) > 0)
        got += (size_t)part;
    assert_int_equal(got, n);
    assert_memory_equal(back, data, n);
    for (uint64_t at = 1; at < n; at = at * 3 + 7) { /* any cursor */
        char some[100];

        logfile_seek(&f, at);
        part = logfile_read(&f, some, sizeof(some));
        assert_true(part > 0);
        assert_memory_equal(some, data + at, part);
    }
    logfile_close(&f);
    free(data);
    free(back);
}

static void test_no_file_is_larger_than_the_limit(void **state)
{
    struct bench *b = *state;
    struct logsegments s;
    struct stat st;

    open_captures(b, SIZE, 3);
    for (int i = 0; i < SIZE; i++) { /* each write of a stream follows one of the other: each needs a mark */
        put(b, 0, "o", 1);
        put(b, 1, "e", 1);
    }
    for (int i = 0; i < LOG_STREAMS; i++) {
        assert_int_equal(logsegments_list(b->dir, log_stream_names[i], &s), 0);
        assert_int_equal(s.n, 3);
        for (size_t k = 0; k < s.n; k++)
            for (int index = 0; index < 2; index++) {
                int fd = logsegment_open(b->dir, log_stream_names[i], s.start[k], index);

                assert_int_equal(fstat(fd, &st), 0);
                assert_true(st.st_size > 0 && st.st_size <= SIZE);
                close(fd);
            }
        free(s.start);
    }
}

static void test_retention_leaves_an_exact_gap(void **state)
{
    struct bench *b = *state;
    struct logfile f;
    char *data = noise(SIZE * 5 + 10, 2), back[SIZE * 5];
    uint64_t to, first, end;

    open_captures(b, SIZE, 2);
    put(b, 0, data, SIZE * 5 + 10);
    logfile_init(&f, b->dir, "stdout");
    logfile_range(&f, &first, &end);
    assert_int_equal(first, SIZE * 4);
    assert_int_equal(end, SIZE * 5 + 10);
    assert_int_equal(logfile_peek(&f, &to), LOG_GAP);
    assert_int_equal(to, first);
    f.cursor = to;
    assert_int_equal(logfile_peek(&f, &to), LOG_DATA);
    assert_int_equal(logfile_look(&f, back, sizeof(back)), SIZE + 10);
    assert_memory_equal(back, data + first, SIZE + 10);
    logfile_close(&f);
    free(data);
}

static void test_a_reader_that_waits_holds_no_removed_file(void **state)
{
    struct bench *b = *state;
    struct logfile f;
    char *data = noise(SIZE * 3, 3), some[10];
    uint64_t to;

    open_captures(b, SIZE, 1);
    put(b, 0, data, SIZE);
    logfile_init(&f, b->dir, "stdout");
    assert_int_equal(logfile_read(&f, some, sizeof(some)), sizeof(some));
    put(b, 0, data, 2 * SIZE);
    logfile_changed(&f);
    assert_int_equal(f.fd, -1);
    assert_int_equal(logfile_peek(&f, &to), LOG_GAP);
    assert_int_equal(to, 2 * SIZE);
    logfile_close(&f);
    free(data);
}

static void test_a_full_disk_loses_what_is_counted_and_nothing_else(void **state)
{
    struct bench *b = *state;
    struct rlimit old, low = {3000, RLIM_INFINITY};
    struct logfile f;
    char *data = noise(7000, 4), back[4000];
    uint64_t to;

    signal(SIGXFSZ, SIG_IGN);
    open_captures(b, 8192, 4);
    getrlimit(RLIMIT_FSIZE, &old);
    low.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0); /* writes beyond fail with EFBIG */
    put(b, 0, data, 5000);
    usleep(150000);
    put(b, 0, data + 5000, 2000);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(b->c[0].lost, 2000);
    logfile_init(&f, b->dir, "stdout");
    assert_int_equal(logfile_read(&f, back, 3000), 3000);
    assert_memory_equal(back, data, 3000);
    assert_int_equal(logfile_peek(&f, &to), LOG_GAP);
    assert_int_equal(to, 5000);
    assert_int_equal(logfile_extent(&f, 0), 3000);
    assert_int_equal(logfile_read(&f, back, sizeof(back)), 2000);
    assert_memory_equal(back, data + 5000, 2000);
    logfile_close(&f);
    free(data);
}

static void test_a_full_disk_does_not_push_old_segments_out(void **state)
{
    struct bench *b = *state;
    struct rlimit old, none = {0, RLIM_INFINITY};
    struct logsegments s;
    char *data = noise(SIZE * 2, 5);

    signal(SIGXFSZ, SIG_IGN);
    open_captures(b, SIZE, 2);
    put(b, 0, data, SIZE * 2);
    getrlimit(RLIMIT_FSIZE, &old);
    none.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    for (int i = 0; i < 4; i++) {
        put(b, 0, data, 100);
        usleep(110000);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(logsegments_list(b->dir, "stdout", &s), 0);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.start[0], 0);
    assert_int_equal(b->c[0].lost, 400);
    assert_int_equal(b->c[0].cursor, SIZE * 2 + 400);
    free(s.start);
    free(data);
}

static void test_the_next_run_goes_on(void **state)
{
    struct bench *b = *state;
    struct logsegments s;
    struct logfile f;
    char back[20] = "";

    for (int run = 0; run < 5; run++) {
        open_captures(b, SIZE, 2);
        put(b, 0, "abc", 3);
        close_captures(b);
    }
    assert_int_equal(logsegments_list(b->dir, "stdout", &s), 0);
    assert_int_equal(s.n, 1);
    logfile_init(&f, b->dir, "stdout");
    assert_int_equal(logfile_read(&f, back, sizeof(back)), 15);
    assert_string_equal(back, "abcabcabcabcabc");
    logfile_close(&f);
    free(s.start);
}

static void test_what_is_left_at_the_end_is_drained(void **state)
{
    struct bench *b = *state;
    char *data = noise(1 << 20, 6);

    open_captures(b, 1 << 20, 4);
    b->c[0].grown = true; /* a large pipe, full */
    fcntl(b->in[0], F_SETPIPE_SZ, 1 << 20);
    ssize_t n = write(b->in[0], data, 1 << 20);
    assert_true(n > 0);
    capture_drain(&b->c[0]);
    assert_int_equal(b->c[0].cursor, n);
    free(data);
}

/* --- both streams ------------------------------------------------------------------------------------------------- */

static void test_streams_are_merged_in_order(void **state)
{
    struct bench *b = *state;
    struct logreader r;
    struct logpiece p;
    char want[200], got[200];
    size_t n = 0;
    int64_t last = 0;

    open_captures(b, 64, 100);
    for (int i = 0; i < 150; i++) {
        int stream = (i * i / 7) % 2;

        want[i] = (char)(stream ? 'e' : 'o');
        put(b, stream, &want[i], 1);
    }
    logreader_init(&r, b->dir, 3);
    for (logreader_peek(&r, &p); p.state == LOG_DATA; logreader_peek(&r, &p)) {
        assert_true(p.time > last); /* strictly */
        last = p.time;
        ssize_t part = logfile_copy(p.file, got + n, (size_t)(p.to - p.file->cursor));
        assert_true(part > 0);
        for (ssize_t i = 0; i < part; i++)
            assert_int_equal(got[n + (size_t)i], p.stream ? 'e' : 'o');
        n += (size_t)part;
        p.file->cursor = p.to;
    }
    assert_int_equal(p.state, LOG_NOTHING);
    assert_int_equal(n, 150);
    assert_memory_equal(got, want, n);
    logreader_close(&r);
}

static void test_a_stream_that_goes_on_at_once_needs_few_marks(void **state)
{
    struct bench *b = *state;
    struct stat st;

    open_captures(b, 1 << 20, 2);
    for (int i = 0; i < 20000; i++)
        put(b, 0, "x", 1);
    assert_int_equal(fstatat(b->dir_fd, "stdout.00000000000000000000.index", &st, 0), 0);
    assert_true(st.st_size > 0 && st.st_size < 20000 * 16 / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_written_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_file_is_larger_than_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retention_leaves_an_exact_gap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reader_that_waits_holds_no_removed_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_disk_loses_what_is_counted_and_nothing_else, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_disk_does_not_push_old_segments_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_next_run_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_left_at_the_end_is_drained, setup, teardown),
        cmocka_unit_test_setup_teardown(test_streams_are_merged_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stream_that_goes_on_at_once_needs_few_marks, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
