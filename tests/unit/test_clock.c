/* Times as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"1970-01-01T00:00:01.000000001Z", 1000000001},
        {"2026-11-27T14:03:19Z", 1795788199000000000},
        {"2026-11-27t14:03:19.35z", 1795788199350000000},
        {"2026-11-27T15:03:19.1234567899+01:00", 1795788199123456789},
        {"2026-11-27 06:33:19-07:30", 1795788199000000000},
        {"2028-02-29T00:00:00Z", 1835395200000000000},
    };
    static const char *const bad[] = {
        "",
        "2026",
        "2026-11-27",
        "2026-11-27T14:03:19",
        "2026-11-27T14:03Z",
        "2026-13-27T14:03:19Z",
        "2026-11-31T14:03:19Z",
        "2026-11-27T24:03:19Z",
        "2026-11-27T14:60:19Z",
        "2026-11-27T14:03:19.Z",
        "2026-11-27T14:03:19Zx",
        "2026-11-27T14:03:19+1:00",
        "2026-11-27T14:03:19+01:60",
        "1950-11-27T14:03:19Z",
        "-026-11-27T14:03:19Z",
    };
    int64_t ns;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(clock_parse(good[i].text, &ns), 0);
        assert_int_equal(ns, good[i].ns);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(clock_parse(bad[i], &ns), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_times)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
