/* The route table's interpreter: which path finds which route, what is refused, and how escapes are read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "server/router.h"

static const struct route routes[] = {
    {"GET", "/", NULL, ROLE_MONITOR, NULL, false},
    {"GET", "/v1/tasks", NULL, ROLE_OPERATOR, "prefix page", false},
    {"POST", "/v1/tasks", NULL, ROLE_OPERATOR, "wait timeout label*", true},
    {"GET", "/v1/tasks/{id}", NULL, ROLE_OPERATOR, "wait", false},
    {"DELETE", "/v1/tasks/{id}", NULL, ROLE_OPERATOR, "force", false},
    {"POST", "/v1/tasks/{id}/execs/{eid}/signal", NULL, ROLE_OPERATOR, NULL, true},
    {"GET", "/v1/tasks/{id}/files", NULL, ROLE_OPERATOR, NULL, false},
    {"PUT", "/v1/tasks/{id}/files/{path...}", NULL, ROLE_OPERATOR, NULL, BODY_STREAM},
    {NULL, NULL, NULL, ROLE_NONE, NULL, false},
};
static const struct router router = {routes};

struct expectation {
    const char *method, *path;
    int route;  /* index, or -1 */
    int status; /* of the error, or 0 */
    const char *code;
    const char *params[2];
};

static void check(const struct expectation *x)
{
    struct match m;
    struct err e = {0};
    int rc = router_match(&router, x->method, x->path, &m, &e);

    if ((rc < 0) != (x->status != 0) || e.status != x->status || (x->code && strcmp(e.code, x->code) != 0))
        fail_msg("%s %s: %d, status %d, code \"%s\"", x->method, x->path, rc, e.status, e.code);
    if (rc == 0 && m.route != (x->route < 0 ? NULL : &routes[x->route]))
        fail_msg("%s %s: another route", x->method, x->path);
    for (size_t i = 0; rc == 0 && i < 2 && x->params[i]; i++) {
        assert_true(i < m.nparams);
        assert_string_equal(m.params[i], x->params[i]);
    }
    match_free(&m);
    assert_int_equal(m.nparams, 0);
}

static void test_routes(void **state)
{
    static const struct expectation list[] = {
        {"GET", "/", 0, 0, NULL, {NULL}},
        {"GET", "/v1/tasks", 1, 0, NULL, {NULL}},
        {"HEAD", "/v1/tasks", 1, 0, NULL, {NULL}},
        {"POST", "/v1/tasks", 2, 0, NULL, {NULL}},
        {"GET", "/v1/tasks/a", 3, 0, NULL, {"a"}},
        {"DELETE", "/v1/tasks/a%20b", 4, 0, NULL, {"a b"}},
        {"GET", "/v1/%74asks/x", 3, 0, NULL, {"x"}},
        {"GET", "/v1/tasks/a/files", 6, 0, NULL, {"a"}},
        {"PUT", "/v1/tasks/a/files/local", 7, 0, NULL, {"a", "local"}},
        {"PUT", "/v1/tasks/a/files/local/x%20y/1/2/3/4/5/6/7", 7, 0, NULL, {"a", "local/x y/1/2/3/4/5/6/7"}},
        {"PUT", "/v1/tasks/a/file/local", -1, 404, "not_found", {NULL}},
        {"PUT", "/v1/tasks/a/files", -1, 405, "method_not_allowed", {NULL}},
        {"GET", "/v1/tasks/a/files/b", -1, 405, "method_not_allowed", {NULL}},
        {"GET", "/v1/tasks/%2B+%25", 3, 0, NULL, {"++%"}},
        {"POST", "/v1/tasks/t/execs/e/signal", 5, 0, NULL, {"t", "e"}},
        {"OPTIONS", "/v1/tasks", -1, 0, NULL, {NULL}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
        check(&list[i]);
}

static void test_refusals(void **state)
{
    static const struct expectation list[] = {
        {"GET", "/v1", -1, 404, "not_found", {NULL}},
        {"GET", "/v1/task", -1, 404, "not_found", {NULL}},
        {"GET", "/v1/tasksx", -1, 404, "not_found", {NULL}},
        {"GET", "/V1/tasks", -1, 404, "not_found", {NULL}},
        {"GET", "/v1/tasks/a/b", -1, 404, "not_found", {NULL}},
        {"OPTIONS", "/nothing", -1, 404, "not_found", {NULL}},
        {"GET", "/1/2/3/4/5/6/7/8", -1, 404, "not_found", {NULL}},
        {"GET", "/1/2/3/4/5/6/7/8/9", -1, 404, "not_found", {NULL}},
        {"PUT", "/v1/tasks", -1, 405, "method_not_allowed", {NULL}},
        {"get", "/v1/tasks", -1, 405, "method_not_allowed", {NULL}},
        {"HEAD", "/v1/tasks/t/execs/e/signal", -1, 405, "method_not_allowed", {NULL}},
        {"GET", "", -1, 400, NULL, {NULL}},
        {"GET", "*", -1, 400, NULL, {NULL}},
        {"GET", "//", -1, 400, NULL, {NULL}},
        {"GET", "//v1/tasks", -1, 400, NULL, {NULL}},
        {"GET", "/v1/tasks/", -1, 400, NULL, {NULL}},
        {"GET", "/v1//tasks", -1, 400, NULL, {NULL}},
        {"GET", "/v1/./tasks", -1, 400, NULL, {NULL}},
        {"GET", "/v1/tasks/..", -1, 400, NULL, {NULL}},
        {"GET", "/v1/tasks/%2e%2E", -1, 400, NULL, {NULL}},
        {"PUT", "/v1/tasks/a/files/local/..", -1, 400, "bad_path", {NULL}},
        {"PUT", "/v1/tasks/a/files/local/%2e%2e/x", -1, 400, "bad_path", {NULL}},
        {"PUT", "/v1/tasks/a/files/local/%2e%2e%2fx", -1, 400, "bad_path", {NULL}},
        {"PUT", "/v1/tasks/a/files/..%2flocal", -1, 400, "bad_path", {NULL}},
        {"PUT", "/v1/tasks/a/files/%2fetc", -1, 400, "bad_path", {NULL}},
        {"PUT", "/v1/tasks/a/files/local//x", -1, 400, "bad_path", {NULL}},
        {"PUT", "/v1/tasks/a/files/local/x%00", -1, 400, "bad_path", {NULL}},
        {"GET", "/v1/tasks/a%2Fb", -1, 400, NULL, {NULL}},
        {"GET", "/v1/tasks/a%2fb", -1, 400, NULL, {NULL}},
        {"GET", "/v1/tasks/a%00", -1, 400, NULL, {NULL}},
        {"GET", "/v1/tasks/%", -1, 400, NULL, {NULL}},
        {"GET", "/v1/tasks/%4", -1, 400, NULL, {NULL}},
        {"GET", "/v1/tasks/%4/1", -1, 400, NULL, {NULL}},
        {"GET", "/v1/tasks/%zz", -1, 400, NULL, {NULL}},
        {"GET", "/v1/tasks/%+1", -1, 400, NULL, {NULL}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
        check(&list[i]);
}

/* What 405 and OPTIONS tell in Allow. */
static void test_allow(void **state)
{
    struct match m;
    struct err e = {0};

    (void)state;
    assert_int_equal(router_match(&router, "OPTIONS", "/v1/tasks", &m, &e), 0);
    assert_null(m.route);
    assert_string_equal(m.allow, "GET, HEAD, POST, OPTIONS");
    match_free(&m);
    assert_int_equal(router_match(&router, "PATCH", "/v1/tasks/t", &m, &e), -1);
    assert_string_equal(m.allow, "GET, HEAD, DELETE, OPTIONS");
    match_free(&m);
    assert_int_equal(router_match(&router, "GET", "/v1/tasks/t/execs/e/signal", &m, &e), -1);
    assert_string_equal(m.allow, "POST, OPTIONS");
    match_free(&m);
    assert_int_equal(router_match(&router, "GET", "/nothing", &m, &e), -1);
    assert_string_equal(m.allow, "");
    match_free(&m);
}

static void test_query(void **state)
{
    struct err e = {0};

    (void)state;
    assert_int_equal(router_check_query(&routes[2], (const char *const[]){NULL}, &e), 0);
    assert_int_equal(router_check_query(&routes[2], (const char *const[]){"timeout", "wait", NULL}, &e), 0);
    assert_int_equal(router_check_query(&routes[2], (const char *const[]){"label", "wait", "label", NULL}, &e), 0);
    assert_int_equal(router_check_query(&routes[2], (const char *const[]){"wait", "label", "wait", NULL}, &e), -1);
    assert_string_equal(e.code, "invalid_parameter");
    assert_non_null(strstr(e.detail, "wait"));
    /* No route of this table takes these: part of a name, a longer one, none at all, two in one. */
    static const char *const strange[] = {"label*", "labe", "*", "wai", "waits", "", "wait timeout", "Wait", " "};
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
        e = (struct err){0};
        if (router_check_query(&routes[2], (const char *const[]){"wait", strange[i], NULL}, &e) == 0)
            fail_msg("\"%s\" passed", strange[i]);
        assert_int_equal(e.status, 400);
        assert_string_equal(e.code, "unknown_parameter");
    }
    assert_non_null(strstr(e.detail, "\" \""));
    assert_int_equal(router_check_query(&routes[5], (const char *const[]){"wait", NULL}, &e), -1);
}

static void test_percent_decode(void **state)
{
    static const struct {
        const char *in;
        size_t len;      /* 0: all of it */
        const char *out; /* NULL: refused */
    } list[] = {
        {"", 0, ""},         {"abc", 0, "abc"},   {"%41%62", 0, "Ab"},  {"a%2Fb", 0, "a/b"}, {"%C3%a9", 0, "\xc3\xa9"},
        {"a+b", 0, "a+b"},   {"%2541", 0, "%41"}, {"abcdef", 3, "abc"}, {"%41%42", 3, "A"},  {"%41%42", 5, NULL},
        {"%41%42", 4, NULL}, {"%", 0, NULL},      {"%4", 0, NULL},      {"%00", 0, NULL},    {"a%00b", 0, NULL},
        {"%g1", 0, NULL},    {"%1g", 0, NULL},    {"%-1", 0, NULL},     {"% 1", 0, NULL},    {"%%41", 0, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        _cleanup_free_ char *out = percent_decode(list[i].in, list[i].len ? list[i].len : strlen(list[i].in));

        if (!out != !list[i].out || (out && strcmp(out, list[i].out) != 0))
            fail_msg("\"%s\" (%zu): \"%s\"", list[i].in, list[i].len, out ? out : "refused");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes), cmocka_unit_test(test_refusals),       cmocka_unit_test(test_allow),
        cmocka_unit_test(test_query),  cmocka_unit_test(test_percent_decode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
