/* Which media type the Accept header gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/accept.h"

static void test_picks(void **state)
{
    static const char *const media[] = {"text/plain", "application/x-ndjson", "text/event-stream", NULL};
    static const struct {
        const char *accept;
        int picked;
    } cases[] = {
        {NULL, 0},
        {"", 0},
        {"*/*", 0},
        {"text/*", 0},
        {"application/*", 1},
        {"text/event-stream", 2},
        {"TEXT/Event-Stream; charset=utf-8", 2},
        {"text/html, application/x-ndjson;q=0.9, */*;q=0.8", 1},
        {"text/plain;q=0.5, text/event-stream", 2},
        {"text/plain;q=0, */*", 1},
        {"text/plain;q=0", -1},
        {"image/png,application/json", -1},
        {"text/plain;q=inf, text/event-stream", 0},
        {"text/plain;q=1e300", 0},
        {"text/plain;q=nan, text/event-stream", 2},
        {"text", -1},
        {",;,", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(accept_pick(cases[i].accept, media), cases[i].picked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_picks)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
