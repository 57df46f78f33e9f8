/* The configuration language: blocks, heredocs, comments, bounds, and errors with their places. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/hcl.h"

/* The memory ends with the text, so that a sanitizer sees any byte read beyond it. */
static struct json *parse(const char *text, size_t len, struct err *e)
{
    char *copy = xcalloc(len, 1);

    memcpy(copy, text, len);
    struct json *j = hcl_parse("f", copy, len, e);
    free(copy);
    return j;
}

static void expect_tree(const char *text, const char *want)
{
    struct err e = {0};
    struct json *j = parse(text, strlen(text), &e);

    if (!j)
        fail_msg("%s: %s", text, e.detail);
    char *got = json_print(j);
    assert_string_equal(got, want);
    free(got);
    json_free(j);
}

static void expect_bad(const char *text, size_t len, const char *want)
{
    struct err e = {0};

    assert_null(parse(text, len, &e));
    assert_int_equal(e.status, 400);
    assert_string_equal(e.code, "config_syntax");
    if (strncmp(e.detail, want, strlen(want)) != 0)
        fail_msg("%s: %s", text, e.detail);
}

static void test_blocks(void **state)
{
    (void)state;
    expect_tree("plugin \"exec\" {\n  config {\n    allow_caps = [\"chown\",\"kill\"]\n"
                "    denied_host_uids = \"0,10-15\"\n  }\n}\n",
                "{\"plugin\":{\"exec\":{\"config\":{\"allow_caps\":[\"chown\",\"kill\"],"
                "\"denied_host_uids\":\"0,10-15\"}}}}");
    expect_tree("client {\n  chroot_env {\n    \"/bin\" = \"/bin\"\n  }\n"
                "  host_volume \"data\" {\n    path = \"/srv\"\n    read_only = false\n  }\n}\n",
                "{\"client\":{\"chroot_env\":{\"/bin\":\"/bin\"},"
                "\"host_volume\":{\"data\":{\"path\":\"/srv\",\"read_only\":false}}}}");
    expect_tree("v \"a\" { x = 1 }\nv \"b\" { x = 2 }\nv c {}\n", "{\"v\":{\"a\":{\"x\":1},\"b\":{\"x\":2},\"c\":{}}}");
    expect_tree("", "{}");
}

static void test_values(void **state)
{
    (void)state;
    expect_tree("a = 1\nb = -2.5\nc = true\nd = null\ne = [\n  1,\n  \"x\", # one\n  [],\n]\n",
                "{\"a\":1,\"b\":-2.5,\"c\":true,\"d\":null,\"e\":[1,\"x\",[]]}");
    expect_tree("o = { a = 1, \"b c\" : 2\n d = {} }", "{\"o\":{\"a\":1,\"b c\":2,\"d\":{}}}");
    expect_tree("s = \"q\\\" b\\\\ n\\n t\\t $ { \xc3\xa9\"", "{\"s\":\"q\\\" b\\\\ n\\n t\\t $ { \xc3\xa9\"}");
}

static void test_comments(void **state)
{
    (void)state;
    expect_tree("# a\n// b\n/* c\n d */ x = /* e */ 1 # f\ny = \"# no // comment /* here\" // g\n#",
                "{\"x\":1,\"y\":\"# no // comment /* here\"}");
}

static void test_heredocs(void **state)
{
    (void)state;
    expect_tree("a = <<EOT\n one\n\n  two \"x\" \\n\nEOT\nb = 1\n",
                "{\"a\":\" one\\n\\n  two \\\"x\\\" \\\\n\\n\",\"b\":1}");
    expect_tree("a = <<-E\n    x\n\n      y\n    E\n", "{\"a\":\"x\\n\\n  y\\n\"}");
    expect_tree("a = <<E\nE\n", "{\"a\":\"\"}");
    expect_tree("a = <<-E\n  E", "{\"a\":\"\"}");
    expect_tree("a = <<E\n  E\nE", "{\"a\":\"  E\\n\"}");
    expect_bad("a = <<-E\n   ", 12, "f:2:4: ");
    expect_bad("a = <<E\nx ${y}\nE\n", 17, "f:2:");
    expect_bad("a = <<E\nx %{if}\nE\n", 18, "f:2:");
    expect_bad("a = << E\nE\n", 11, "f:1:7: ");
}

static void test_errors_name_the_place(void **state)
{
    static const char *const bad[][2] = {
        {"a = 1\n\nb = \"${x}\"", "f:3:6: interpolation"},
        {"a = \"%{x}\"", "f:1:6: interpolation"},
        {"a = \"$${x}\"", "f:1:7: interpolation"},
        {"b = ${x}", "f:1:5: "},
        {"a = 1\na = 2", "f:2:"},
        {"a {\n  b = 1\n  b = 2\n}", "f:3:"},
        {"v \"a\" {}\nv \"a\" {}", "f:2:"},
        {"a = 1\na \"l\" {}", "f:2:"},
        {"a {\n", "f:2:1: unfinished block"},
        {"}", "f:1:1: "},
        {"a = [1 2]", "f:1:8: "},
        {"a = [1,,2]", "f:1:8: "},
        {"a = \"x\ny\"", "f:1:7: unfinished string"},
        {"a = \"\\x\"", "f:1:6: bad escape"},
        {"a = 01", "f:1:"},
        {"a = 1.", "f:1:"},
        {"a = yes", "f:1:5: a value"},
        {"a =\n1", "f:1:4: a value"},
        {"a", "f:1:2: "},
        {"= 1", "f:1:1: a name"},
        {"/* x\n", "f:1:1: unfinished comment"},
        {"a = 1\nb = \"\xff\"", "f:2:6: invalid UTF-8"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_bad(bad[i][0], strlen(bad[i][0]), bad[i][1]);
    expect_bad("a = \"x\0y\"", 9, "f:1:7: NUL");
    expect_bad("a = 1\n\0", 7, "f:2:1: ");
}

/* Lists, objects, blocks and labels alike make the tree deeper, and whoever walks it recurses. */
static void test_depth_is_bounded(void **state)
{
    static const char *const openers[] = {"[", "{a=", "a {", "l "};

    (void)state;
    for (size_t i = 0; i < sizeof(openers) / sizeof(openers[0]); i++) {
        _cleanup_buf_ struct buf text = {0};
        struct err e = {0};

        buf_puts(&text, i < 2 ? "x = " : "");
        for (int n = 0; n < 100000; n++)
            buf_puts(&text, openers[i]);
        buf_puts(&text, "{}");
        assert_null(parse(text.data, text.len, &e));
        assert_non_null(strstr(e.detail, "nesting deeper than 32"));
    }
    expect_tree("a b c d e f g h { i = [[[[1]]]] }",
                "{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"h\":{\"i\":[[[[1]]]]}}}}}}}}}");
}

/* Every prefix yields a tree or an error with its place, and reads nothing beyond its end. */
static void test_prefixes(void **state)
{
    static const char whole[] =
        "p \"e\" {\n c = [\"a\\n\", -1.5e3, true] /* x */\n t = <<-E\n   u\n  E\n o = { k : null }\n}\n";
    struct err e = {0};

    (void)state;
    for (size_t n = 0; n <= strlen(whole); n++) {
        struct json *j = parse(whole, n, &e);

        if (!j)
            assert_memory_equal(e.detail, "f:", 2);
        json_free(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_comments),
        cmocka_unit_test(test_heredocs),
        cmocka_unit_test(test_errors_name_the_place),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_prefixes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
