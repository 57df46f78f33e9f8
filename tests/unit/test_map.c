/* The hash table against a plain array, through many random changes; and the histogram's buckets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/histogram.h"
#include "base/map.h"

enum { KEYS = 700, CHANGES = 200000 };

static void test_against_an_array(void **state)
{
    static char keys[KEYS][12];
    static int values[KEYS];
    bool there[KEYS] = {false};
    struct map m = {0};
    size_t n = 0;

    (void)state;
    srand(1);
    for (int i = 0; i < KEYS; i++)
        snprintf(keys[i], sizeof(keys[i]), "key%d", i);
    for (int change = 0; change < CHANGES; change++) {
        int i = rand() % KEYS;

        if (rand() % 2) {
            map_put(&m, keys[i], &values[i]);
            n += !there[i];
            there[i] = true;
        } else {
            map_remove(&m, keys[i]);
            n -= there[i];
            there[i] = false;
        }
        i = rand() % KEYS;
        assert_ptr_equal(map_get(&m, keys[i]), there[i] ? &values[i] : NULL);
        assert_int_equal(m.n, n);
        if (change % 5000 == 0)
            for (int k = 0; k < KEYS; k++)
                assert_ptr_equal(map_get(&m, keys[k]), there[k] ? &values[k] : NULL);
    }
    map_free(&m);
}

static void test_empty_and_replaced(void **state)
{
    struct map m = {0};
    char key[] = "same", other[] = "same";
    int a, b;

    (void)state;
    assert_null(map_get(&m, "none"));
    map_remove(&m, "none");
    map_put(&m, key, &a);
    map_put(&m, other, &b);
    assert_int_equal(m.n, 1);
    assert_ptr_equal(map_get(&m, "same"), &b);
    map_remove(&m, "same");
    assert_null(map_get(&m, "same"));
    map_free(&m);
    assert_null(map_get(&m, "same"));
}

static void test_histogram(void **state)
{
    struct histogram h = {0};

    (void)state;
    histogram_add(&h, 100000); /* 0.0001 s: bounds are inclusive */
    histogram_add(&h, 100001);
    histogram_add(&h, -5);
    histogram_add(&h, 3600LL * 1000000000);
    assert_int_equal(h.count[0], 2);
    assert_int_equal(h.count[1], 1);
    assert_int_equal(h.count[HISTOGRAM_BOUNDS], 1);
    assert_true(h.sum > 3600 && h.sum < 3601);
    for (int i = 1; i < HISTOGRAM_BOUNDS; i++)
        assert_true(histogram_bounds[i - 1] < histogram_bounds[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_an_array),
        cmocka_unit_test(test_empty_and_replaced),
        cmocka_unit_test(test_histogram),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
