/* The codec of the task spec. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "isolation/spec.h"

static int decode(const char *text, struct spec *s, struct err *e)
{
    _cleanup_json_ struct json *j = json_parse(text, strlen(text), e);
    assert_non_null(j);
    return spec_decode(j, s, e);
}

static void test_defaults(void **state)
{
    (void)state;
    _cleanup_spec_ struct spec s = {0};
    struct err e = {0};
    assert_int_equal(decode("{\"command\":\"/bin/my prog\"}", &s, &e), 0);
    assert_string_equal(s.command, "/bin/my prog");
    assert_string_equal(s.name, "my_prog");
    assert_string_equal(s.user, "nobody");
    assert_string_equal(s.work_dir, "/");
    assert_null(s.input.text);
    assert_false(s.input.open);
    assert_null(s.hostname);
    assert_true(s.no_new_privs);
    assert_int_equal(s.pid_mode, NS_DEFAULT);
    assert_int_equal(s.kill_signal, 2);
    assert_int_equal(s.kill_timeout_ms, 5000);
    assert_int_equal(s.logs.max_files, 10);
    assert_int_equal(s.logs.max_file_size, 10);
    assert_string_equal(s.chroot, "default");
    assert_int_equal(s.root, ROOT_OVERLAY);
}

static void test_default_names(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"/bin/", "task"}, {"sleep", "sleep"}, {"/a/.-b", "b"}, {"/a/[", "task"}, {"/a/x:y", "x_y"}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        _cleanup_spec_ struct spec s = {0};
        struct err e = {0};
        _cleanup_free_ char *text = xasprintf("{\"command\":\"%s\"}", pairs[i][0]);
        assert_int_equal(decode(text, &s, &e), 0);
        assert_string_equal(s.name, pairs[i][1]);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"command\":\"a\"}",
        "{\"command\":\"/bin/sh\",\"args\":[\"-c\",\"\",\"\\u00e9\"],\"name\":\"n.1\",\"labels\":{\"a/b\":\"\"},"
        "\"user\":\"1:2\",\"env\":{\"X\":\"1=2\",\"Y\":\"\"},\"work_dir\":\"/a/..b\",\"stdin\":\"\","
        "\"pid_mode\":\"host\",\"ipc_mode\":\"private\",\"hostname\":\"a-b.c\",\"cap_add\":[\"x\"],"
        "\"cap_drop\":[\"all\"],\"no_new_privs\":false,\"resources\":{\"memory_max\":-1,\"cpu\":1,\"memory\":4,"
        "\"pids\":4194304},\"logs\":{\"max_files\":1,\"max_file_size\":10240,\"disabled\":true},"
        "\"kill_signal\":\"SIGRTMIN+3\",\"kill_timeout\":\"1h30m\"}",
        "{\"command\":\"a\",\"network\":{\"mode\":\"bridge\",\"group\":\"g\",\"dns\":{\"servers\":[\"::1\"],"
        "\"searches\":[\"a.b\"],\"options\":[\"rotate\"]},\"ports\":[{\"task\":1},{\"host\":2,\"task\":2,"
        "\"host_ip\":\"0.0.0.0\",\"protocol\":\"udp\"}]}}",
        "{\"command\":\"a\",\"kill_signal\":9,\"kill_timeout\":0}",
        "{\"command\":\"a\",\"kill_timeout\":86400}",
        "{\"command\":\"a\",\"stdin\":{\"open\":true}}",
        "{\"command\":\"a\",\"chroot\":\"debian\",\"root\":\"copy\",\"volume_mounts\":[{\"volume\":\"v\","
        "\"destination\":\"/v\"},{\"volume\":\"w\",\"destination\":\"/w\",\"read_only\":true,"
        "\"propagation_mode\":\"bidirectional\"}]}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        _cleanup_spec_ struct spec s = {0}, t = {0};
        struct err e = {0};
        assert_int_equal(decode(texts[i], &s, &e), 0);
        _cleanup_json_ struct json *j = spec_encode(&s);
        _cleanup_free_ char *first = json_print(j);
        assert_int_equal(decode(first, &t, &e), 0);
        _cleanup_json_ struct json *k = spec_encode(&t);
        _cleanup_free_ char *second = json_print(k);
        assert_string_equal(first, second);
        assert_int_equal(s.kill_signal, t.kill_signal);
        assert_int_equal(s.kill_timeout_ms, t.kill_timeout_ms);
        assert_int_equal(s.resources.memory_max, t.resources.memory_max);
        assert_int_equal(s.pid_mode, t.pid_mode);
        assert_int_equal(s.no_new_privs, t.no_new_privs);
        assert_int_equal(s.input.text != NULL, t.input.text != NULL);
        assert_int_equal(s.input.open, t.input.open);
        assert_int_equal(s.env.n, t.env.n);
    }
}

static void test_rejects(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *pointer, *detail; /* detail: a part of it */
    } cases[] = {
        {"\"command\":\"\"", "/command", "empty"},
        {"\"command\":\"a\",\"stdin\":5", "/stdin", "expected string or object, got number"},
        {"\"command\":\"a\",\"stdin\":{}", "/stdin/open", "required"},
        {"\"command\":\"a\",\"stdin\":{\"open\":1}", "/stdin/open", "expected boolean"},
        {"\"command\":\"a\",\"stdin\":{\"open\":true,\"x\":1}", "/stdin/x", "unknown"},
        {"\"command\":3", "/command", "expected string, got number"},
        {"\"args\":[]", "/command", "required"},
        {"\"command\":\"a\",\"x\":1", "/x", "unknown"},
        {"\"command\":\"a\",\"x/y~\":1", "/x~1y~0", "unknown"},
        {"\"command\":\"a\",\"resources/cpu\":1", "/resources~1cpu", "unknown"},
        {"\"command\":\"a\",\"resources\":{\"x\":1}", "/resources/x", "unknown"},
        {"\"command\":\"a\",\"args\":\"b\"", "/args", "expected array, got string"},
        {"\"command\":\"a\",\"args\":[\"b\",1]", "/args/1", "expected string"},
        {"\"command\":\"a\",\"name\":\"-a\"", "/name", "match"},
        {"\"command\":\"a\",\"hostname\":null", "/hostname", "got null"},
        {"\"command\":\"a\",\"hostname\":\"a..b\"", "/hostname", "1123"},
        {"\"command\":\"a\",\"hostname\":\"a-\"", "/hostname", "1123"},
        {"\"command\":\"a\",\"work_dir\":\"a\"", "/work_dir", "absolute"},
        {"\"command\":\"a\",\"work_dir\":\"/a/..\"", "/work_dir", ".."},
        {"\"command\":\"a\",\"env\":{\"\":\"1\"}", "/env/", "name"},
        {"\"command\":\"a\",\"env\":{\"A=\":\"1\"}", "/env/A=", "name"},
        {"\"command\":\"a\",\"env\":{\"A\":1}", "/env/A", "expected string, got number"},
        {"\"command\":\"a\",\"labels\":{\" \":\"1\"}", "/labels/ ", "label"},
        {"\"command\":\"a\",\"pid_mode\":\"x\"", "/pid_mode", "private"},
        {"\"command\":\"a\",\"no_new_privs\":1", "/no_new_privs", "got number"},
        {"\"command\":\"a\",\"resources\":{\"cpu\":0}", "/resources/cpu", "from 1 to"},
        {"\"command\":\"a\",\"resources\":{\"cpu\":1.5}", "/resources/cpu", "integer"},
        {"\"command\":\"a\",\"resources\":{\"cpu\":\"1\"}", "/resources/cpu", "expected integer, got string"},
        {"\"command\":\"a\",\"resources\":{\"memory\":64,\"memory_max\":63}", "/resources/memory_max", "below"},
        {"\"command\":\"a\",\"resources\":{\"memory_max\":0}", "/resources/memory_max", "-1"},
        {"\"command\":\"a\",\"logs\":{\"max_files\":1001}", "/logs/max_files", "1000"},
        {"\"command\":\"a\",\"kill_signal\":\"SIGNOPE\"", "/kill_signal", "signal"},
        {"\"command\":\"a\",\"kill_signal\":0", "/kill_signal", "signal"},
        {"\"command\":\"a\",\"kill_timeout\":-1", "/kill_timeout", "24h"},
        {"\"command\":\"a\",\"kill_timeout\":\"25h\"", "/kill_timeout", "24h"},
        {"\"command\":\"a\",\"kill_timeout\":9007199254740991", "/kill_timeout", "24h"},
        {"\"command\":\"a\",\"kill_timeout\":true", "/kill_timeout", "string or integer, got"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        _cleanup_spec_ struct spec s = {0};
        struct err e = {0};
        _cleanup_free_ char *text = xasprintf("{%s}", cases[i].fields);
        assert_int_equal(decode(text, &s, &e), -1);
        assert_int_equal(e.status, 422);
        assert_string_equal(e.pointer, cases[i].pointer);
        if (!strstr(e.detail, cases[i].detail))
            fail_msg("%s: %s", cases[i].fields, e.detail);
    }
}

static void test_not_object(void **state)
{
    (void)state;
    _cleanup_spec_ struct spec s = {0};
    struct err e = {0};
    assert_int_equal(decode("[]", &s, &e), -1);
    assert_string_equal(e.pointer, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_default_names), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_rejects),  cmocka_unit_test(test_not_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
