/* The strict scan and the tree: what is refused and where, and that texts survive a round trip. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/utf8.h"

static void expect_bad(const char *text, size_t len, int status, const char *code, const char *pointer)
{
    struct err e = {0};

    if (json_check(text, len, &e) != -1)
        fail_msg("accepted: %s", text);
    assert_int_equal(e.status, status);
    assert_string_equal(e.code, code);
    assert_string_equal(e.pointer, pointer);
    assert_true(utf8_is_text(e.detail, strlen(e.detail)));
}

static void test_malformed_names_the_byte(void **state)
{
    static const char *const bad[][2] = {
        {"[1,]", "at byte 3"},    {"{\"a\":1,}", "at byte 7"},  {"[1 2]", "at byte 3"},
        {"{} {}", "at byte 3"},   {"[\"a\\q\"]", "at byte 3"},  {"[01]", "at byte 2"},
        {"\"a\x01\"", "byte 2"},  {"{\"a\" 1}", "at byte 5"},   {"[-]", "at byte 2"},
        {"[1e+]", "at byte 4"},   {"\"\\u00g0\"", "at byte 1"}, {"", "at byte 0"},
        {"[true false]", "byte"}, {"nulL", "at byte 0"},        {"[\"a\n\"]", "at byte 3"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err e = {0};

        assert_int_equal(json_check(bad[i][0], strlen(bad[i][0]), &e), -1);
        assert_string_equal(e.code, "malformed_json");
        if (!strstr(e.detail, bad[i][1]))
            fail_msg("%s: %s", bad[i][0], e.detail);
    }
}

/* The memory ends with the text, so that a sanitizer sees any byte read beyond it. */
static void test_every_prefix_is_refused(void **state)
{
    static const char whole[] = "{\"a\":[1.5e-3,true,null,\"\\u00e9\\ud83d\\ude00\xc3\xa9\"],\"b\":{\"c\":false}}";
    struct err e;

    (void)state;
    assert_int_equal(json_check(whole, strlen(whole), &e), 0);
    for (size_t n = 0; n < strlen(whole); n++) {
        char *part = xcalloc(n, 1);

        memcpy(part, whole, n);
        assert_int_equal(json_check(part, n, &e), -1);
        assert_int_equal(e.status, 400);
        free(part);
    }
}

static void test_nul_is_refused(void **state)
{
    (void)state;
    expect_bad("\"\\u0000\"", 8, 400, "malformed_json", "");
    expect_bad("\"a\0b\"", 5, 400, "malformed_json", "");
    expect_bad("{}\0", 3, 400, "malformed_json", "");
}

static void test_utf8(void **state)
{
    static const char *const bad[] = {"\"\x80\"",
                                      "\"\xc3\"",
                                      "\"\xe0\x80\x80\"",
                                      "\"\xed\xbf\xbf\"",
                                      "\"\xf4\x90\x80\x80\"",
                                      "\"\xff\"",
                                      "\"\xf0\x80\x80\x80\"",
                                      "\"\xe2\x82\""};
    static const char *const good[] = {"\"\xc2\x80\"", "\"\xe2\x82\xac\"", "\"\xf4\x8f\xbf\xbf\"", "\"\x7f\""};
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_bad(bad[i], strlen(bad[i]), 400, "malformed_json", "");
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(json_check(good[i], strlen(good[i]), &e), 0);
    expect_bad("\"\\ud800\\u0041\"", 14, 400, "malformed_json", "");
    expect_bad("\"\\ud800\"", 8, 400, "malformed_json", "");
}

static void test_duplicates_have_a_pointer(void **state)
{
    static const char *const bad[][2] = {
        {"{\"a\":1,\"a\":2}", "/a"},       {"{\"a\":1,\"\\u0061\":2}", "/a"},
        {"[0,{\"a\":1,\"a\":2}]", "/1/a"}, {"{\"x\":[[],[{\"y\":{},\"k/~\":0,\"k/~\":0}]]}", "/x/1/0/k~1~0"},
        {"{\"\":1,\"\":2}", "/"},
    };
    static const char apart[] = "{\"a\":{\"a\":1},\"A\":[{\"a\":1},{\"a\":1}]}";
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_bad(bad[i][0], strlen(bad[i][0]), 422, "duplicate_key", bad[i][1]);
    assert_int_equal(json_check(apart, strlen(apart), &e), 0);
}

/* A long key is cut in the pointer, but between two characters, whatever the alignment. */
static void test_cut_pointers_stay_utf8(void **state)
{
    (void)state;
    for (int shift = 0; shift < 5; shift++) {
        _cleanup_buf_ struct buf key = {0}, text = {0};
        struct err e = {0};

        buf_printf(&key, "\"%.*s", shift, "aaaa");
        for (int i = 0; i < 60; i++)
            buf_puts(&key, i % 2 ? "\xc3\xa9" : "\xf0\x9f\x98\x80");
        buf_printf(&text, "{%s\":1,%s\":2}", key.data, key.data);
        assert_int_equal(json_check(text.data, text.len, &e), -1);
        assert_string_equal(e.code, "duplicate_key");
        assert_true(strlen(e.pointer) > 85 && utf8_is_text(e.pointer, strlen(e.pointer)));
        err_field(&e, key.data, "%s%s%s", key.data, key.data, key.data);
        assert_true(strlen(e.pointer) > 85 && utf8_is_text(e.pointer, strlen(e.pointer)));
        assert_true(strlen(e.detail) > 280 && utf8_is_text(e.detail, strlen(e.detail)));
    }
}

static char *nested(int depth, char open, char close)
{
    struct buf b = {0};

    for (int i = 0; i < depth; i++)
        buf_puts(&b, open == '{' ? "{\"a\":" : "[");
    buf_puts(&b, "1");
    for (int i = 0; i < depth; i++)
        buf_append(&b, &close, 1);
    return buf_take(&b, NULL);
}

static void test_bounds(void **state)
{
    _cleanup_buf_ struct buf many = {0};
    struct err e;

    (void)state;
    for (int depth = 32; depth <= 33; depth++) {
        char *a = nested(depth, '[', ']'), *o = nested(depth, '{', '}');

        assert_int_equal(json_check(a, strlen(a), &e), depth == 32 ? 0 : -1);
        assert_int_equal(json_check(o, strlen(o), &e), depth == 32 ? 0 : -1);
        free(a);
        free(o);
    }
    buf_puts(&many, "[1");
    for (int i = 2; i < 10000; i++) /* the array is a value too */
        buf_puts(&many, ",1");
    buf_puts(&many, "]");
    assert_int_equal(json_check(many.data, many.len, &e), 0);
    many.data[many.len - 1] = ',';
    buf_puts(&many, "1]");
    expect_bad(many.data, many.len, 400, "malformed_json", "");
}

static void test_round_trip(void **state)
{
    static const char *const same[] = {
        "{}",
        "[]",
        "null",
        "\"\"",
        "[true,false,null,-1,0,1.5]",
        "{\"b\":{\"a\":[1,{\"c\":\"\xc3\xa9 \xf0\x9f\x98\x80\"}]},\"A\":\"x\\n\\\"\\\\\"}",
        "[9007199254740991,9007199254740992,-9007199254740991,4503599627370497,1000000000000001]",
    };
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        struct json *j = json_parse(same[i], strlen(same[i]), &e);

        assert_non_null(j);
        char *text = json_print(j);
        assert_string_equal(text, same[i]);
        free(text);
        json_free(j);
    }
}

static void test_getters(void **state)
{
    static const char text[] =
        "{\"s\":\"\\ud83d\\ude00\",\"n\":9007199254740991,\"f\":1.5,\"b\":true,\"z\":null,\"h\":1e300}";
    struct err e;
    _cleanup_json_ struct json *j = json_parse(text, strlen(text), &e);
    int64_t v = 0;

    (void)state;
    assert_non_null(j);
    assert_int_equal(json_count(j), 6);
    assert_string_equal(json_key(json_first(j)), "s");
    assert_string_equal(json_string(json_get(j, "s")), "\xf0\x9f\x98\x80");
    assert_null(json_get(j, "S"));
    assert_null(json_string(json_get(j, "n")));
    assert_int_equal(json_type(json_get(j, "n")), JSON_NUMBER);
    assert_true(json_int(json_get(j, "n"), &v) && v == 9007199254740991);
    assert_false(json_int(json_get(j, "f"), &v));
    assert_false(json_int(json_get(j, "h"), &v));
    assert_false(json_int(json_get(j, "s"), &v));
    assert_true(json_bool(json_get(j, "b")));
    assert_int_equal(json_type(json_get(j, "z")), JSON_NULL);
    assert_string_equal(json_type_name(JSON_OBJECT), "object");
}

static void test_building(void **state)
{
    _cleanup_json_ struct json *j = json_object();
    struct json *a = json_array();

    (void)state;
    json_set_int(j, "max", INT64_MAX);
    json_set_int(j, "min", INT64_MIN);
    json_set_string(j, "none", NULL);
    json_set_bool(j, "yes", true);
    json_push(a, json_new_double(0.5));
    json_push(a, json_new_null());
    json_set(j, "a", a);
    char *text = json_print(j);
    assert_string_equal(text, "{\"max\":9223372036854775807,\"min\":-9223372036854775808,\"none\":null,\"yes\":true,"
                              "\"a\":[0.5,null]}");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed_names_the_byte),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_nul_is_refused),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_duplicates_have_a_pointer),
        cmocka_unit_test(test_cut_pointers_stay_utf8),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_getters),
        cmocka_unit_test(test_building),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
