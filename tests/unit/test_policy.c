/* Lists of id ranges, and the arithmetic of capability sets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "isolation/caps.h"
#include "isolation/network.h"
#include "isolation/policy.h"

static void ranges_are_read(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        uint32_t low, high; /* of the last one */
    } rows[] = {
        {"", 0, 0, 0},
        {"0", 1, 0, 0},
        {"0,10-15,22", 3, 22, 22},
        {"7-7", 1, 7, 7},
        {" 1 , 2-3 ", 2, 2, 3},
        {"4294967295", 1, 4294967295u, 4294967295u},
        {"0-4294967295", 1, 0, 4294967295u},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct id_ranges r;

        assert_int_equal(id_ranges_parse(rows[i].text, &r), 0);
        assert_int_equal(r.n, rows[i].n);
        if (r.n) {
            assert_int_equal(r.v[r.n - 1].low, rows[i].low);
            assert_int_equal(r.v[r.n - 1].high, rows[i].high);
        }
        free(r.v);
    }
}

static void bad_ranges_are_refused(void **state)
{
    static const char *const rows[] = {
        ",",           "1,",         ",1",   "5-4",   "a",   "1-",  "-1",   "+1",
        "0x1",         "4294967296", "1--2", "1-2-3", "1;2", "1 2", "1,,2", "99999999999999999999",
        "0-4294967296"};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct id_ranges r;

        assert_int_equal(id_ranges_parse(rows[i], &r), -1);
        assert_null(r.v);
        assert_int_equal(r.n, 0);
    }
}

static void ranges_are_inclusive(void **state)
{
    struct id_ranges r;

    (void)state;
    assert_int_equal(id_ranges_parse("0,10-15", &r), 0);
    assert_true(id_ranges_have(&r, 0));
    assert_false(id_ranges_have(&r, 1));
    assert_false(id_ranges_have(&r, 9));
    assert_true(id_ranges_have(&r, 10));
    assert_true(id_ranges_have(&r, 15));
    assert_false(id_ranges_have(&r, 16));
    free(r.v);
}

static void slots_are_whole(void **state)
{
    static const struct {
        const char *text;
        uint64_t n;
        uint32_t first, last;
    } rows[] = {
        {"", 0, 0, 0},
        {"65536-131070", 0, 0, 0},
        {"65536-131071", 1, 65536, 65536},
        {"65537-196607", 1, 131072, 131072},
        {"2013265920-2080374783", 1024, 2013265920, 2080309248},
        {"65536-131071,70000,196608-327679", 3, 65536, 262144},
        {"4294901760-4294967295", 1, 4294901760, 4294901760},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct id_ranges r;

        assert_int_equal(id_ranges_parse(rows[i].text, &r), 0);
        assert_int_equal(id_ranges_slots(&r), rows[i].n);
        assert_int_equal(id_ranges_slot(&r, 0), rows[i].first);
        assert_int_equal(id_ranges_slot(&r, rows[i].n ? rows[i].n - 1 : 0), rows[i].last);
        assert_int_equal(id_ranges_slot(&r, rows[i].n), 0);
        free(r.v);
    }
}

static void names_of_capabilities(void **state)
{
    (void)state;
    assert_int_equal(caps_parse("chown"), 1);
    assert_int_equal(caps_parse("CAP_CHOWN"), 1);
    assert_int_equal(caps_parse("Cap_Chown"), 1);
    assert_int_equal(caps_parse("cap_cap_chown"), 0);
    assert_int_equal(caps_parse("cap_1"), 0);
    assert_int_equal(caps_parse(""), 0);
    assert_int_equal(caps_parse("all"), caps_kernel());
    assert_int_equal(__builtin_popcountll(caps_default()), 13);
}

static void names_are_sorted(void **state)
{
    struct strings s;

    (void)state;
    caps_names(caps_parse("setuid") | caps_parse("chown") | caps_parse("kill"), &s);
    assert_int_equal(s.n, 3);
    assert_string_equal(s.v[0], "chown");
    assert_string_equal(s.v[1], "kill");
    assert_string_equal(s.v[2], "setuid");
    for (size_t i = 0; i < s.n; i++)
        free(s.v[i]);
    free(s.v);
}

/* Computes with at most one name in each list. */
static int compute(const char *add, const char *drop, uint64_t allow, uint64_t *result, uint64_t *added, struct err *e)
{
    char *adds[] = {(char *)add}, *drops[] = {(char *)drop};
    struct spec s = {
        .cap_add = {.v = adds, .n = add != NULL},
        .cap_drop = {.v = drops, .n = drop != NULL},
    };

    memset(e, 0, sizeof(*e));
    return caps_compute(&s, allow, result, added, e);
}

static void sets_are_computed(void **state)
{
    uint64_t def = caps_default(), held = caps_held(), chown_bit = caps_parse("chown"), result, added;
    struct err e;

    (void)state;
    assert_int_equal(compute(NULL, NULL, def, &result, &added, &e), 0);
    assert_int_equal(result, def & held);
    assert_int_equal(added, 0);
    assert_int_equal(compute(NULL, "cap_chown", def, &result, &added, &e), 0);
    assert_int_equal(result, def & held & ~chown_bit);
    assert_int_equal(compute(NULL, "ALL", def, &result, &added, &e), 0);
    assert_int_equal(result, 0);
    assert_int_equal(compute(NULL, NULL, chown_bit, &result, &added, &e), 0);
    assert_int_equal(result, chown_bit & held);
    if (!(held & chown_bit))
        skip();
    assert_int_equal(compute("chown", "all", def, &result, &added, &e), 0);
    assert_int_equal(result, chown_bit);
    assert_int_equal(added, chown_bit);
    assert_int_equal(compute("all", NULL, caps_kernel(), &result, &added, &e), 0);
    assert_int_equal(result, held);
}

static void bad_capabilities_are_refused(void **state)
{
    uint64_t result, added;
    struct err e;

    (void)state;
    assert_int_equal(compute("nonsense", NULL, caps_kernel(), &result, &added, &e), -1);
    assert_int_equal(e.status, 422);
    assert_string_equal(e.pointer, "/cap_add/0");
    assert_int_equal(compute(NULL, "nonsense", caps_kernel(), &result, &added, &e), -1);
    assert_string_equal(e.pointer, "/cap_drop/0");
    assert_int_equal(compute("sys_admin", NULL, caps_default(), &result, &added, &e), -1);
    assert_int_equal(e.status, 403);
    assert_string_equal(e.code, "capability_denied");
    assert_string_equal(e.pointer, "/cap_add/0");
    assert_non_null(strstr(e.detail, "sys_admin"));
    for (int i = 0; i < 64; i++) { /* what the host cannot give */
        uint64_t lacking = caps_kernel() & ~caps_held() & (uint64_t)1 << i;
        struct strings name;

        if (!lacking)
            continue;
        caps_names(lacking, &name);
        assert_int_equal(compute(name.v[0], NULL, caps_kernel(), &result, &added, &e), -1);
        assert_int_equal(e.status, 422);
        free(name.v[0]);
        free(name.v);
    }
}

static void network_options_are_checked(void **state)
{
    static const char *const good[] = {"10.0.0.0/8", "172.27.64.0/20", "192.0.2.0/29", "fd00:1::/64", "fd00::/120"};
    static const char *const bad[] = {"",           "10.0.0.0",     "10.0.0.0/",   "10.0.0.0/7",   "10.0.0.0/30",
                                      "10.0.0.0/x", "10.0.0.0/20x", "10.0.0/20",   "fd00::/121",   "fd00::/15",
                                      "x/20",       "/20",          "10.0.0.0/-8", "10.0.0.0/0020"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(subnet_valid(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(subnet_valid(bad[i]));
    assert_true(interface_name_valid("cloister0"));
    assert_true(interface_name_valid("fifteen-letters"));
    assert_false(interface_name_valid("sixteen-letters."));
    assert_false(interface_name_valid(""));
    assert_false(interface_name_valid(".."));
    assert_false(interface_name_valid("a b"));
    assert_false(interface_name_valid("a/b"));
    assert_false(interface_name_valid("a\"b"));
    for (int m = NET_HOST; m < NET_MODES; m++)
        assert_int_equal(net_mode_parse(net_mode_name((enum net_mode)m)), m);
    assert_int_equal(net_mode_parse("cni"), NET_DEFAULT);
}

static void addresses_meet(void **state)
{
    (void)state;
    assert_true(network_addresses_meet(NULL, NULL));
    assert_true(network_addresses_meet(NULL, "192.0.2.1"));
    assert_true(network_addresses_meet("192.0.2.1", "0.0.0.0"));
    assert_true(network_addresses_meet("192.0.2.1", "192.0.2.1"));
    assert_false(network_addresses_meet("192.0.2.1", "192.0.2.2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_read),
        cmocka_unit_test(bad_ranges_are_refused),
        cmocka_unit_test(ranges_are_inclusive),
        cmocka_unit_test(slots_are_whole),
        cmocka_unit_test(names_of_capabilities),
        cmocka_unit_test(names_are_sorted),
        cmocka_unit_test(sets_are_computed),
        cmocka_unit_test(bad_capabilities_are_refused),
        cmocka_unit_test(network_options_are_checked),
        cmocka_unit_test(addresses_meet),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
