/* Sets of CPUs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "isolation/cpus.h"

static void lists_are_read_and_written(void **state)
{
    static const struct {
        const char *in, *out;
        size_t n;
    } rows[] = {
        {"", "", 0},           {"0", "0", 1},       {"0-3,8\n", "0-3,8", 5}, {"3,2,1,0", "0-3", 4},
        {"63-64", "63-64", 2}, {"1023", "1023", 1}, {"0-1,1-2", "0-2", 3},   {"0,2,4", "0,2,4", 3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cpus c;
        char text[CPUS_TEXT];

        assert_int_equal(cpus_parse(rows[i].in, &c), 0);
        assert_int_equal(cpus_count(&c), rows[i].n);
        assert_int_equal(cpus_format(&c, text, sizeof(text)), 0);
        assert_string_equal(text, rows[i].out);
    }
}

static void malformed_lists_are_refused(void **state)
{
    static const char *const rows[] = {"a", "1-", "2-1", "1024", "-1", "1;2", "99999999999999999999"};
    struct cpus c;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(cpus_parse(rows[i], &c), -1);
}

static void a_list_that_does_not_fit_is_refused(void **state)
{
    struct cpus c;
    char text[4];

    (void)state;
    assert_int_equal(cpus_parse("0,2,4", &c), 0);
    assert_int_equal(cpus_format(&c, text, sizeof(text)), -1);
}

static void check_pick(const char *free_list, size_t n, const char *expected)
{
    struct cpus nodes[3], free_cpus, picked;
    char text[CPUS_TEXT];

    cpus_parse("0-3", &nodes[0]);
    cpus_parse("4-7", &nodes[1]);
    cpus_parse("8-11", &nodes[2]);
    cpus_parse(free_list, &free_cpus);
    assert_int_equal(cpus_pick(&free_cpus, n, nodes, 3, &picked), expected != NULL);
    if (!expected)
        return;
    assert_int_equal(cpus_format(&picked, text, sizeof(text)), 0);
    assert_string_equal(text, expected);
}

static void cores_come_from_one_node_where_it_has_them(void **state)
{
    (void)state;
    check_pick("0-11", 2, "0-1");
    check_pick("1-3,4-7,10-11", 2, "10-11"); /* the fullest node that suffices */
    check_pick("1-3,4-7,10-11", 3, "1-3");
    check_pick("1-3,4-7,10-11", 4, "4-7");
    check_pick("1-3,4-7,10-11", 5, "4-7,10"); /* the largest, then the smallest that suffices for the rest */
    check_pick("1,5,9", 3, "1,5,9");
    check_pick("1,5,9", 4, NULL);
    check_pick("20-23", 2, "20-21"); /* of no node that is known */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_read_and_written),
        cmocka_unit_test(malformed_lists_are_refused),
        cmocka_unit_test(a_list_that_does_not_fit_is_refused),
        cmocka_unit_test(cores_come_from_one_node_where_it_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
