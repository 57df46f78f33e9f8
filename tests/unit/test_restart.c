/* The restart policy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "supervisor/restart.h"

static struct restart_policy policy(int64_t attempts, enum restart_mode mode, enum delay_function f)
{
    return (struct restart_policy){
        .attempts = attempts,
        .interval_ms = 60000,
        .delay_ms = 1000,
        .mode = mode,
        .condition = RESTART_ON_FAILURE,
        .delay_function = f,
        .max_delay_ms = 5000,
    };
}

static void check(const struct restart_policy *p, struct restart_history *h, int64_t now, int64_t expected)
{
    int64_t delay = -1;

    assert_int_equal(restart_decide(p, h, now, true, 0, &delay), expected >= 0);
    if (expected >= 0)
        assert_int_equal(delay, expected);
}

static void fail_mode_gives_up_within_the_interval(void **state)
{
    struct restart_policy p = policy(2, RESTART_FAIL, DELAY_CONSTANT);
    struct restart_history h = {0};

    (void)state;
    check(&p, &h, 100, 1000);
    check(&p, &h, 200, 1000);
    check(&p, &h, 300, -1);
}

static void the_count_starts_anew_after_the_interval(void **state)
{
    struct restart_policy p = policy(1, RESTART_FAIL, DELAY_CONSTANT);
    struct restart_history h = {0};

    (void)state;
    check(&p, &h, 100, 1000);
    check(&p, &h, 60100, 1000);
    check(&p, &h, 60200, -1);
}

static void delay_mode_waits_for_the_end_of_the_interval(void **state)
{
    struct restart_policy p = policy(1, RESTART_DELAY, DELAY_CONSTANT);
    struct restart_history h = {0};

    (void)state;
    check(&p, &h, 0, 1000);
    check(&p, &h, 10000, 50000);
    check(&p, &h, 60000, 1000);
}

static void delays_grow_up_to_their_bound(void **state)
{
    static const int64_t doubled[] = {1000, 2000, 4000, 5000, 5000}, summed[] = {1000, 1000, 2000, 3000, 5000, 5000};
    struct restart_policy p = policy(100, RESTART_FAIL, DELAY_EXPONENTIAL);
    struct restart_history h = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(doubled) / sizeof(doubled[0]); i++)
        check(&p, &h, (int64_t)i, doubled[i]);
    p = policy(100, RESTART_FAIL, DELAY_FIBONACCI);
    h = (struct restart_history){0};
    for (size_t i = 0; i < sizeof(summed) / sizeof(summed[0]); i++)
        check(&p, &h, (int64_t)i, summed[i]);
}

static void success_is_a_reason_only_where_asked(void **state)
{
    struct restart_policy p = policy(5, RESTART_FAIL, DELAY_CONSTANT);
    struct restart_history h = {0};
    int64_t delay = 0;

    (void)state;
    assert_false(restart_decide(&p, &h, 0, false, 0, &delay));
    p.condition = RESTART_ALWAYS;
    assert_true(restart_decide(&p, &h, 0, false, 0, &delay));
    p.attempts = 0;
    assert_false(restart_decide(&p, &h, 0, true, 0, &delay));
}

static void chance_adds_a_quarter_at_most(void **state)
{
    struct restart_policy p = policy(5, RESTART_FAIL, DELAY_CONSTANT);
    struct restart_history h = {0};
    int64_t delay = 0;

    (void)state;
    assert_true(restart_decide(&p, &h, 0, true, UINT32_MAX, &delay));
    assert_int_equal(delay, 1250);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fail_mode_gives_up_within_the_interval),
        cmocka_unit_test(the_count_starts_anew_after_the_interval),
        cmocka_unit_test(delay_mode_waits_for_the_end_of_the_interval),
        cmocka_unit_test(delays_grow_up_to_their_bound),
        cmocka_unit_test(success_is_a_reason_only_where_asked),
        cmocka_unit_test(chance_adds_a_quarter_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
