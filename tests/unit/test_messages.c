/* Messages of other versions: what is missing is zero, what is unknown is cut, what is no message is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/messages.h"

static struct run_status sample(void)
{
    struct run_status s = {.head = message_head(MSG_RUN_STATUS), .state = RUN_RUNNING, .restarts = 3, .log_lost = 7};

    memcpy(s.waits_for, "x", 2);
    return s;
}

static void set_head(void *message, uint32_t version, enum message_kind kind, size_t size)
{
    struct message_head h = {.version = version, .kind = (uint16_t)kind, .size = (uint16_t)size};

    memcpy(message, &h, sizeof(h));
}

static void test_our_own(void **state)
{
    struct run_status s = sample(), got;

    (void)state;
    assert_int_equal(s.head.size, sizeof(s));
    assert_true(message_open(&s, sizeof(s), MSG_RUN_STATUS, &got));
    assert_memory_equal(&s, &got, sizeof(s));
}

static void test_an_older_one_is_filled_with_zeros(void **state)
{
    struct run_status s = sample(), got;
    size_t old = offsetof(struct run_status, log_lost);

    (void)state;
    memset(&got, 0xff, sizeof(got));
    set_head(&s, PROTOCOL_OLDEST, MSG_RUN_STATUS, old);
    assert_true(message_open(&s, old, MSG_RUN_STATUS, &got));
    assert_int_equal(got.restarts, 3);
    assert_int_equal(got.log_lost, 0);
    assert_string_equal(got.waits_for, "");
    assert_int_equal(got.head.version, PROTOCOL_VERSION);
    assert_int_equal(got.head.size, sizeof(got));
}

static void test_a_newer_one_is_cut(void **state)
{
    struct {
        struct run_status known;
        char unknown[1000];
    } s = {.known = sample()};
    struct run_status got;

    (void)state;
    memset(s.unknown, 'u', sizeof(s.unknown));
    set_head(&s, PROTOCOL_VERSION + 5, MSG_RUN_STATUS, sizeof(s));
    assert_true(message_open(&s, sizeof(s), MSG_RUN_STATUS, &got));
    assert_int_equal(got.log_lost, 7);
    assert_string_equal(got.waits_for, "x");
}

static void test_what_is_none_is_refused(void **state)
{
    struct run_status s = sample(), got;
    struct message_head head = s.head;

    (void)state;
    for (size_t len = 0; len < sizeof(s); len++)
        assert_false(message_open(&s, len, MSG_RUN_STATUS, &got)); /* cut in half at any place */
    assert_false(message_open(&s, sizeof(s), MSG_SUPERVISOR_REPLY, &got));
    set_head(&s, 0, MSG_RUN_STATUS, sizeof(s));
    assert_false(message_open(&s, sizeof(s), MSG_RUN_STATUS, &got));
    set_head(&s, PROTOCOL_OLDEST, MSG_RUN_STATUS, 100);
    assert_false(message_open(&s, 100, MSG_RUN_STATUS, &got)); /* no version was so short */
    assert_false(message_open(&head, sizeof(head), MSG_RUN_STATUS, &got));
}

static void test_it_crosses_a_socket(void **state)
{
    struct run_status s = sample(), got;
    struct message m;
    int pair[2], fds[MSG_FDS_MAX];
    size_t n;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(message_send(pair[0], &s.head, NULL, 0), 0);
    assert_int_equal(message_recv(pair[1], &m, fds, &n), sizeof(s));
    assert_true(message_open(m.raw, m.len, MSG_RUN_STATUS, &got));
    close(pair[0]);
    assert_int_equal(message_recv(pair[1], &m, fds, &n), 0);
    assert_false(message_open(m.raw, m.len, MSG_RUN_STATUS, &got));
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_our_own),
        cmocka_unit_test(test_an_older_one_is_filled_with_zeros),
        cmocka_unit_test(test_a_newer_one_is_cut),
        cmocka_unit_test(test_what_is_none_is_refused),
        cmocka_unit_test(test_it_crosses_a_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
