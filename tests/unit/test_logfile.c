/* Reading logs: by cursor, time and lines, also from files that are cut or missing. */
#include "tests/unit/logs.h"

static void test_times_by_index(void **state)
{
    struct bench *b = *state;
    struct segment_mark marks[500];
    char data[5000] = "";
    struct logfile f;
    uint64_t to;

    for (uint64_t i = 0; i < 500; i++)
        marks[i] = (struct segment_mark){1000 + i * 10, (int64_t)(i + 1) * 1000};
    craft(b, "stdout.00000000000000001000", data, sizeof(data));
    craft(b, "stdout.00000000000000001000.index", marks, sizeof(marks) - 7); /* the last is cut */
    logfile_init(&f, b->dir, "stdout");
    for (uint64_t at = 1000; at < 6000; at += 37) {
        uint64_t i = (at - 1000) / 10 < 498 ? (at - 1000) / 10 : 498;

        logfile_seek(&f, at);
        assert_int_equal(logfile_peek(&f, &to), LOG_DATA);
        assert_int_equal(logfile_time(&f, &to), (i + 1) * 1000);
        assert_int_equal(to, i < 498 ? 1000 + (i + 1) * 10 : 6000);
    }
    logfile_seek(&f, 1000); /* on and on through the window */
    for (uint64_t i = 0; i < 499; i++) {
        assert_int_equal(logfile_peek(&f, &to), LOG_DATA);
        assert_int_equal(logfile_time(&f, &to), (i + 1) * 1000);
        f.cursor = to;
    }
    assert_int_equal(f.cursor, 6000);
    static const struct {
        int64_t time;
        uint64_t cursor;
    } since[] = {{0, 1000}, {1000, 1000}, {1001, 1010}, {250000, 3490}, {499000, 5980}, {499001, 6000}};
    for (size_t i = 0; i < sizeof(since) / sizeof(since[0]); i++) {
        logfile_since(&f, since[i].time);
        assert_int_equal(f.cursor, since[i].cursor);
    }
    logfile_close(&f);
}

static void test_since_over_segments(void **state)
{
    struct bench *b = *state;
    struct logfile f;
    char name[SEGMENT_NAME];

    for (uint64_t i = 0; i < 30; i++) { /* each of 10 bytes at one time */
        struct segment_mark m = {i * 10, (int64_t)(i + 1) * 100};

        segment_name("stderr", i * 10, false, name);
        craft(b, name, "0123456789", 10);
        segment_name("stderr", i * 10, true, name);
        craft(b, name, &m, i == 12 || i == 15 ? 0 : sizeof(m)); /* two have no time */
    }
    logfile_init(&f, b->dir, "stderr");
    for (int64_t t = 1; t <= 3000; t += 17) {
        uint64_t i = (uint64_t)(t + 99) / 100 - 1; /* the first at or after t */

        logfile_since(&f, t);
        if (i != 12 && i != 15)
            assert_int_equal(f.cursor, i * 10);
    }
    logfile_since(&f, 3001);
    assert_int_equal(f.cursor, 300);
    logfile_close(&f);
}

static void test_missing_files(void **state)
{
    struct bench *b = *state;
    struct segment_mark late = {4, 7};
    struct logfile f;
    uint64_t to;
    char text[30];

    logfile_init(&f, b->dir, "stdout");
    assert_int_equal(logfile_peek(&f, &to), LOG_NOTHING);
    craft(b, "stdout.00000000000000000000", "0123456789", 10);
    craft(b, "stdout.00000000000000000010.index", "", 0); /* an index alone is no segment */
    craft(b, "stdout.000000000000000000100", "xx", 2);    /* nor is this */
    craft(b, "stdout.00000000000000000030", "abcdefghij", 10);
    craft(b, "stdout.00000000000000000030.index", &late, sizeof(late));
    assert_int_equal(logfile_peek(&f, &to), LOG_DATA);
    assert_int_equal(logfile_time(&f, &to), 0);
    assert_int_equal(to, 10);
    logfile_seek(&f, 15);
    assert_int_equal(logfile_peek(&f, &to), LOG_GAP);
    assert_int_equal(to, 30);
    logfile_seek(&f, 0);
    assert_int_equal(logfile_read(&f, text, 10), 10);
    assert_int_equal(logfile_read(&f, text, 30), 10);
    assert_memory_equal(text, "abcdefghij", 10);
    assert_int_equal(logfile_extent(&f, 0), 10);
    assert_int_equal(logfile_extent(&f, 30), 40);
    assert_int_equal(logfile_extent(&f, 20), 20);
    logfile_close(&f);
}

static uint64_t tail_of(struct bench *b, uint64_t n, uint64_t *lines)
{
    struct logtail t;
    struct logfile f;
    uint64_t first, end;

    logfile_init(&f, b->dir, "stdout");
    logfile_range(&f, &first, &end);
    logtail_begin(&t, first, end, n);
    while (!logtail_step(&t, &f))
        ;
    logfile_close(&f);
    *lines = t.lines;
    return f.cursor;
}

static void test_tail(void **state)
{
    struct bench *b = *state;
    size_t n = 300000, at = 0;
    char *data = malloc(n);
    uint64_t lines;

    while (at + 9 < n) /* lines of 8 bytes, and a last one without its end */
        at += (size_t)snprintf(data + at, 9, "%07zu\n", at / 8);
    data[at++] = 'z';
    open_captures(b, 70000, 100);
    put(b, 0, data, at);
    assert_int_equal(tail_of(b, 0, &lines), at);
    assert_int_equal(tail_of(b, 1, &lines), at - 1);
    assert_int_equal(lines, 1);
    for (uint64_t want = 2; want < at / 8; want = want * 3 + 1) {
        assert_int_equal(tail_of(b, want, &lines), at - 1 - (want - 1) * 8);
        assert_int_equal(lines, want);
    }
    assert_int_equal(tail_of(b, 1000000, &lines), 0);
    assert_int_equal(lines, at / 8 + 1);
    free(data);
}

static void test_tail_over_a_gap(void **state)
{
    struct bench *b = *state;
    uint64_t lines;

    assert_int_equal(tail_of(b, 3, &lines), 0);
    assert_int_equal(lines, 0);
    craft(b, "stdout.00000000000000000020", "a\nb\n", 4);
    craft(b, "stdout.00000000000000000024", "", 0);
    craft(b, "stdout.00000000000000000100", "c\nd\n", 4);
    assert_int_equal(tail_of(b, 1, &lines), 102);
    assert_int_equal(tail_of(b, 3, &lines), 22);
    assert_int_equal(tail_of(b, 4, &lines), 20);
    assert_int_equal(lines, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_times_by_index, setup, teardown),
        cmocka_unit_test_setup_teardown(test_since_over_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_missing_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tail, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tail_over_a_gap, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
