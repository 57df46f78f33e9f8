/* JSON, the configuration language, durations, ids, signals, files and messages. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/hcl.h"
#include "base/id.h"
#include "base/loop.h"
#include "base/msg.h"
#include "base/run.h"
#include "base/signals.h"

static void test_json_refuses(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "-",
        "nul",
        "tru",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\x01\"",
        "\"a",
        "\"\\x\"",
        "\xef\xbb\xbf{}",
        "{} {}",
        "{\"a\" 1}",
        "{1:2}",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf5\x80\x80\x80\"",
        "'a'",
        "NaN",
        "[1 2]",
        "\f1",
    };
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(&e, 0, sizeof(e));
        assert_int_equal(json_check(bad[i], strlen(bad[i]), &e), -1);
        assert_int_equal(e.status, 400);
    }
}

static void test_json_duplicate_names_its_place(void **state)
{
    static const char text[] = "{\"a\":{\"x~\":1,\"y\":2,\"x\\u007e\":3}}";
    struct err e = {0};

    (void)state;
    assert_int_equal(json_check(text, strlen(text), &e), -1);
    assert_int_equal(e.status, 422);
    assert_string_equal(e.pointer, "/a/x~0");
}

static void test_json_depth(void **state)
{
    char text[200] = "";
    struct err e;

    (void)state;
    memset(text, '[', 32);
    memset(text + 32, ']', 32);
    assert_int_equal(json_check(text, 64, &e), 0);
    memset(text, '[', 33);
    memset(text + 33, ']', 33);
    assert_int_equal(json_check(text, 66, &e), -1);
}

static void test_json_integers_are_exact(void **state)
{
    struct json *j = json_object();
    int64_t v;
    struct err e;

    (void)state;
    json_set_int(j, "n", INT64_MAX);
    char *text = json_print(j);
    assert_string_equal(text, "{\"n\":9223372036854775807}");
    free(text);
    json_free(j);
    j = json_parse("[1.5, 9007199254740993e3, 7]", 28, &e);
    assert_non_null(j);
    assert_false(json_int(json_first(j), &v));
    assert_false(json_int(json_next(json_first(j)), &v));
    assert_true(json_int(json_next(json_next(json_first(j))), &v));
    assert_int_equal(v, 7);
    json_free(j);
}

static void expect_tree(const char *text, const char *want)
{
    struct err e = {0};
    struct json *j = hcl_parse("f", text, strlen(text), &e);

    if (!j)
        fail_msg("%s", e.detail);
    char *got = json_print(j);
    assert_string_equal(got, want);
    free(got);
    json_free(j);
}

static void test_hcl_reads_the_seeds_blocks(void **state)
{
    (void)state;
    expect_tree(
        "plugin \"exec\" {\n  config {\n    allow_caps = [\"chown\", \"kill\",]\n    denied_host_uids = \"0,10-15\"\n"
        "  }\n}\n",
        "{\"plugin\":{\"exec\":{\"config\":{\"allow_caps\":[\"chown\",\"kill\"],\"denied_host_uids\":\"0,10-15\"}}}}");
    expect_tree("client { chroot_env { \"/bin\" = \"/bin\"  \"/opt/t\" = \"/usr/local\" }\n"
                "host_volume \"data\" { path = \"/srv\" read_only = false } // c\n /* c */ # c\n }",
                "{\"client\":{\"chroot_env\":{\"/bin\":\"/bin\",\"/opt/t\":\"/usr/local\"},"
                "\"host_volume\":{\"data\":{\"path\":\"/srv\",\"read_only\":false}}}}");
    expect_tree("a = <<-E\n    x\n      y\n    E\nb = -1.5\nc = { d = null, e: [] }\n",
                "{\"a\":\"x\\n  y\\n\",\"b\":-1.5,\"c\":{\"d\":null,\"e\":[]}}");
}

static void test_hcl_errors_name_the_line(void **state)
{
    static const char *const bad[][2] = {
        {"a = 1\nb = ${x}", "f:2:5: "}, {"a = \"${x}\"", "f:1:6: "},
        {"a = 1\na = 2", "f:2:"},       {"a {", "f:1:4: "},
        {"a = [1", "f:1:7: "},          {"a = \"x", "f:1:7: "},
        {"\n\n}", "f:3:1: "},           {"a = <<E\nx", "f:2:2: "},
        {"a {}\na {}", "f:2:"},         {"/* x", "f:1:1: "},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err e = {0};

        assert_null(hcl_parse("f", bad[i][0], strlen(bad[i][0]), &e));
        if (strncmp(e.detail, bad[i][1], strlen(bad[i][1])) != 0)
            fail_msg("%s: %s", bad[i][0], e.detail);
    }
}

static void test_durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"0", 0}, {"5s", 5000}, {"1h30m", 5400000}, {"1.5s", 1500}, {"250ms", 250}, {"2m", 120000}};
    static const char *const bad[] = {"", "5", "s", "-1s", "1x", "1.s", "5 s", "99999999h"};
    char text[CLOCK_TEXT];
    int64_t ms;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(duration_parse(good[i].text, &ms), 0);
        assert_int_equal(ms, good[i].ms);
        duration_format(ms, text);
        assert_int_equal(duration_parse(text, &ms), 0);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(duration_parse(bad[i], &ms), -1);
    clock_format(1000000001, text);
    assert_string_equal(text, "1970-01-01T00:00:01.000000001Z");
}

static void test_ids_and_signals(void **state)
{
    char a[ID_LEN + 1], b[ID_LEN + 1];

    (void)state;
    id_new(a);
    usleep(1000);
    id_new(b);
    assert_true(id_valid(a) && id_valid(b) && strcmp(a, b) < 0);
    assert_false(id_valid("../../../../../../../../../etc/passwd"));
    assert_int_equal(signal_parse("sigterm"), SIGTERM);
    assert_int_equal(signal_parse("9"), SIGKILL);
    assert_int_equal(signal_parse("RTMIN+3"), SIGRTMIN + 3);
    assert_int_equal(signal_parse("SIGNONE"), -1);
    assert_int_equal(signal_parse("0"), -1);
    assert_string_equal(signal_name(SIGHUP), "SIGHUP");
}

static void test_files(void **state)
{
    char dir[] = "/tmp/cloister-unit-XXXXXX", *text = NULL;
    size_t len;

    (void)state;
    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(file_write_atomic(fd, "a", "hello", 5, 0640, true), 0);
    assert_int_equal(file_read(fd, "a", 5, &text, &len), 0);
    assert_string_equal(text, "hello");
    free(text);
    assert_int_equal(file_read(fd, "a", 4, &text, &len), -1);
    assert_int_equal(errno, EFBIG);
    assert_int_equal(symlinkat("/etc", fd, "out"), 0);
    assert_int_equal(mkdirat(fd, "t", 0700), 0);
    assert_int_equal(symlinkat("/etc", fd, "t/link"), 0);
    assert_int_equal(file_remove_tree(fd, "t"), 0);
    assert_int_equal(file_remove_tree(fd, "t"), 0);
    assert_int_equal(access("/etc/passwd", F_OK), 0);
    close(fd);
    fd = open("/tmp", O_RDONLY | O_DIRECTORY);
    assert_int_equal(file_remove_tree(fd, dir + 5), 0);
    assert_int_equal(access(dir, F_OK), -1);
    close(fd);
}

/* In a child with mounts of its own. 0: the mount was respected; 1: it was not; 77: mounting is not allowed here. */
static int remove_around_mount(int fd, const char *dir)
{
    char source[64], target[64];
    static const char *const names[] = {"tree/a/mnt", "tree"};

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return 77;
    for (int i = 0; i < 2; i++) {
        snprintf(source, sizeof(source), "%s/kept", dir);
        snprintf(target, sizeof(target), "%s/%s", dir, names[i]);
        if (mount(source, target, NULL, MS_BIND, NULL) < 0)
            return 77;
        if (file_remove_tree(fd, "tree") == 0 || faccessat(fd, "kept/file", F_OK, 0) < 0)
            return 1;
        umount2(target, MNT_DETACH);
    }
    return 0;
}

/* A bind mount has the st_dev of its source, and that source may be a host volume. */
static void test_paths(void **state)
{
    static const char *const clean[][2] = {
        {"/", "/"},       {"//", "/"},       {"/.", "/"},      {"/a/", "/a"}, {"//a//./b/.", "/a/b"},
        {"/..a", "/..a"}, {"/a..", "/a.."},  {"/...", "/..."}, {"a", NULL},   {"", NULL},
        {"/..", NULL},    {"/a/../b", NULL}, {"/a/..", NULL},
    };
    static const char *const below[][3] = {
        {"/a/b", "/a", "b"}, {"/a", "/a", ""}, {"/ab", "/a", NULL}, {"/a", "/a/b", NULL},
        {"/a", "/", "a"},    {"/", "/", ""},   {"/", "/a", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(clean) / sizeof(clean[0]); i++) {
        _cleanup_free_ char *path = file_clean_path(clean[i][0]);

        if (clean[i][1])
            assert_string_equal(path, clean[i][1]);
        else
            assert_null(path);
    }
    for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++) {
        const char *rest = file_below(below[i][0], below[i][1]);

        if (below[i][2])
            assert_string_equal(rest, below[i][2]);
        else
            assert_null(rest);
    }
}

static void test_remove_tree_stops_at_bind_mounts(void **state)
{
    char dir[] = "/tmp/cloister-unit-XXXXXX";
    int status;

    (void)state;
    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(fd, "kept", 0700) | mkdirat(fd, "tree", 0700), 0);
    assert_int_equal(mkdirat(fd, "tree/a", 0700) | mkdirat(fd, "tree/a/mnt", 0700), 0);
    close(openat(fd, "kept/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    pid_t pid = fork();
    if (pid == 0)
        _exit(remove_around_mount(fd, dir));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    int opened = openat(fd, "kept", O_RDONLY | O_DIRECTORY);
    assert_true(opened >= 0);
    close(opened);
    assert_int_equal(file_remove_tree(fd, "kept") | file_remove_tree(fd, "tree"), 0);
    close(fd);
    rmdir(dir);
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

static void test_messages_carry_fds(void **state)
{
    int pair[2], fds[MSG_FDS_MAX], null = open("/dev/null", O_RDONLY);
    char text[8];
    size_t n;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    assert_int_equal(msg_send(pair[0], "hi", 2, &null, 1), 0);
    assert_int_equal(msg_recv(pair[1], text, sizeof(text), fds, &n), 2);
    assert_int_equal(n, 1);
    assert_int_equal(fcntl(fds[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    close(fds[0]);
    assert_int_equal(msg_send(pair[0], "much too long", 13, &null, 1), 0);
    assert_int_equal(msg_recv(pair[1], text, sizeof(text), fds, &n), -1);
    assert_int_equal(errno, EMSGSIZE);
    close(pair[0]);
    assert_int_equal(msg_recv(pair[1], text, sizeof(text), fds, &n), 0);
    close(pair[1]);
    close(null);
}

struct order {
    struct loop *loop;
    char text[8];
};

static void on_first(void *arg, uint32_t events)
{
    (void)events;
    memcpy(((struct order *)arg)->text, "1", 2);
}

static void on_second(void *arg, uint32_t events)
{
    struct order *o = arg;

    (void)events;
    memcpy(o->text + strlen(o->text), "2", 2);
    loop_stop(o->loop, 7);
}

static void test_loop_runs_timers_in_order(void **state)
{
    struct err e;
    struct order o = {.loop = loop_new(&e)};

    (void)state;
    loop_add_timer(o.loop, 20, on_second, &o);
    loop_add_timer(o.loop, 1, on_first, &o);
    loop_remove(loop_add_timer(o.loop, 2, on_second, &o));
    assert_int_equal(loop_run(o.loop), 7);
    assert_string_equal(o.text, "12");
    loop_free(o.loop);
}

static void test_hash(void **state)
{
    char hex[65];

    (void)state;
    hash_sha256_hex("abc", 3, hex); /* FIPS 180-2, B.1 */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_true(hash_equal(hex, hex));
    assert_false(hash_equal(hex, "ba"));
}

static void test_base64_both_ways(void **state)
{
    /* RFC 4648, section 10 */
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    static const char *const bad[] = {"Z", "Zg=", "Zg", "=", "====", "Z===", "Zg==Zg==", "Zm9\n", "Zm9_", "Zm=v"};

    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct buf text = {0}, back = {0};

        base64_encode(&text, pairs[i][0], strlen(pairs[i][0]));
        assert_string_equal(text.data ? text.data : "", pairs[i][1]);
        assert_int_equal(base64_decode(&back, pairs[i][1], strlen(pairs[i][1])), 0);
        assert_string_equal(back.data ? back.data : "", pairs[i][0]);
        buf_free(&text);
        buf_free(&back);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct buf back = {0};

        assert_int_equal(base64_decode(&back, bad[i], strlen(bad[i])), -1);
        buf_free(&back);
    }
}

static void test_base64url_has_its_own_digits_and_no_padding(void **state)
{
    static const char *const bad[] = {"Zg==", "Zg=", "Z", "-_+/", "Zm9v.", "Zm 9"};
    _cleanup_buf_ struct buf back = {0};

    (void)state;
    assert_int_equal(base64url_decode(&back, "-_-_Zg", 6), 0);
    assert_int_equal(back.len, 4);
    assert_memory_equal(back.data, "\xfb\xff\xbf\x66", 4);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(base64url_decode(&back, bad[i], strlen(bad[i])), -1);
}

static void test_programs_run_clean_and_in_time(void **state)
{
    static const char *const envp[] = {"A=1", NULL};
    struct run_output r;

    (void)state;
    const char *const cat[] = {"sh", "-c", "cat; echo \"$A $(pwd)\" >&2; exit 3", NULL};
    assert_int_equal(run_program("/bin/sh", cat, envp, "input", 10000, &r), 0);
    assert_int_equal(WEXITSTATUS(r.status), 3);
    assert_string_equal(r.out.data, "input");
    assert_string_equal(r.err.data, "1 /\n");
    run_output_free(&r);

    const char *const missing[] = {"x", NULL};
    assert_int_equal(run_program("/no/such/program", missing, envp, "", 10000, &r), 0);
    assert_int_equal(WEXITSTATUS(r.status), 127);
    run_output_free(&r);

    /* A program that does not read what it is given, and one that leaves a child with its output behind. */
    char *large = xcalloc(1 << 20, 1);
    memset(large, 'x', (1 << 20) - 1);
    const char *const leaves[] = {"sh", "-c", "echo out; sleep 5 & exit 0", NULL};
    assert_int_equal(run_program("/bin/sh", leaves, envp, large, 4000, &r), 0);
    assert_string_equal(r.out.data, "out\n");
    run_output_free(&r);
    free(large);

    const char *const hangs[] = {"sh", "-c", "trap '' TERM; while :; do sleep 60; done", NULL};
    assert_int_equal(run_program("/bin/sh", hangs, envp, "", 100, &r), -1);
    assert_int_equal(errno, ETIMEDOUT);
    assert_true(WIFSIGNALED(r.status));
    run_output_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64_both_ways),
        cmocka_unit_test(test_base64url_has_its_own_digits_and_no_padding),
        cmocka_unit_test(test_json_refuses),
        cmocka_unit_test(test_json_duplicate_names_its_place),
        cmocka_unit_test(test_json_depth),
        cmocka_unit_test(test_json_integers_are_exact),
        cmocka_unit_test(test_hcl_reads_the_seeds_blocks),
        cmocka_unit_test(test_hcl_errors_name_the_line),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_ids_and_signals),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_remove_tree_stops_at_bind_mounts),
        cmocka_unit_test(test_messages_carry_fds),
        cmocka_unit_test(test_loop_runs_timers_in_order),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_programs_run_clean_and_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
