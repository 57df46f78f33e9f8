/* The store: what was written is there after it was closed and opened again. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "tasks/store.h"

static int setup(void **state)
{
    char dir[] = "/tmp/cloister-store-XXXXXX";

    *state = mkdtemp(dir) ? strdup(dir) : NULL;
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = file_remove_tree(tmp, strrchr(*state, '/') + 1);

    close(tmp);
    free(*state);
    return rc;
}

static struct task_row row(const char *id, int64_t created, const char *key)
{
    struct task_row r = {.created_at = created,
                         .spec = "{\"command\":\"/bin/true\"}",
                         .state = 1,
                         .version = 1,
                         .idempotency_key = key,
                         .status.head = message_head(MSG_RUN_STATUS)};

    snprintf(r.id, sizeof(r.id), "%s", id);
    return r;
}

struct seen {
    size_t n;
    char ids[4][ID_LEN + 1];
    int state;
    int64_t version;
    int32_t pid;
};

static void see(void *arg, const struct task_row *r)
{
    struct seen *s = arg;

    assert_true(s->n < 4);
    memcpy(s->ids[s->n++], r->id, sizeof(r->id));
    s->state = r->state;
    s->version = r->version;
    s->pid = r->status.pid;
    assert_string_equal(r->spec, "{\"command\":\"/bin/true\"}");
}

static struct seen all(struct store *s)
{
    struct seen seen = {0};
    struct err e = {0};

    assert_int_equal(store_each(s, see, &seen, &e), 0);
    return seen;
}

static void test_rows_survive_reopening(void **state)
{
    struct err e = {0};
    struct store *s = store_open(*state, &e);
    struct task_row a = row("a", 2, NULL), b = row("b", 1, NULL);

    assert_non_null(s);
    assert_int_equal(store_insert(s, &a, &e), 0);
    assert_int_equal(store_insert(s, &b, &e), 0);
    a.state = 2;
    a.version = 7;
    a.status.pid = 42;
    assert_int_equal(store_update(s, &a, &e), 0);
    store_close(s);
    s = store_open(*state, &e);
    assert_non_null(s);
    struct seen seen = all(s);
    assert_int_equal(seen.n, 2);
    assert_string_equal(seen.ids[0], "b"); /* oldest first */
    assert_string_equal(seen.ids[1], "a");
    assert_int_equal(seen.state, 2);
    assert_int_equal(seen.version, 7);
    assert_int_equal(seen.pid, 42);
    assert_int_equal(store_delete(s, "a", &e), 0);
    assert_int_equal(all(s).n, 1);
    store_close(s);
}

static void test_duplicates_are_refused(void **state)
{
    struct err e = {0};
    struct store *s = store_open(*state, &e);
    struct task_row a = row("a", 1, "key"), same_id = row("a", 2, NULL), same_key = row("b", 3, "key");

    assert_int_equal(store_insert(s, &a, &e), 0);
    assert_int_equal(store_insert(s, &same_id, &e), -1);
    assert_int_equal(e.status, 409);
    assert_string_equal(e.code, STORE_CONFLICT);
    assert_int_equal(store_insert(s, &same_key, &e), -1);
    assert_string_equal(e.code, STORE_CONFLICT);
    assert_int_equal(store_probe(s, &e), 0);
    assert_int_equal(all(s).n, 1);
    store_close(s);
}

struct told {
    size_t n, stop;
    int64_t seq[8];
};

static bool tell(void *arg, const struct event_row *v)
{
    struct told *t = arg;

    assert_string_equal(v->data, "{}");
    assert_true(t->n < 8);
    t->seq[t->n++] = v->seq;
    return t->n != t->stop;
}

static struct told read_events(struct store *s, const char *task, int64_t after, int limit, size_t stop)
{
    struct told t = {.stop = stop};
    struct err e = {0};

    assert_int_equal(store_events_read(s, task, after, limit, tell, &t, &e), 0);
    return t;
}

static int64_t add(struct store *s, const char *task)
{
    struct event_row v = {.time = 1, .type = "task.created", .task = task, .data = "{}"};
    struct err e = {0};

    assert_int_equal(store_event_add(s, &v, &e), 0);
    return v.seq;
}

static void test_events_are_numbered_for_ever(void **state)
{
    struct err e = {0};
    struct store *s = store_open(*state, &e);
    int64_t first, last;

    assert_int_equal(store_events_range(s, &first, &last, &e), 0);
    assert_true(first == 1 && last == 0);
    for (int i = 1; i <= 5; i++)
        assert_int_equal(add(s, i % 2 ? "a" : NULL), i);
    struct told t = read_events(s, "a", 1, 8, 0);
    assert_true(t.n == 2 && t.seq[0] == 3 && t.seq[1] == 5);
    assert_int_equal(read_events(s, NULL, 0, 3, 0).n, 3);
    assert_int_equal(read_events(s, NULL, 0, 8, 2).n, 2);
    assert_int_equal(store_events_tail(s, NULL, 2, &first, &e), 0);
    assert_int_equal(first, 3);
    assert_int_equal(store_events_tail(s, "a", 2, &first, &e), 0);
    assert_int_equal(first, 1);
    assert_int_equal(store_events_tail(s, NULL, 5, &first, &e), 0);
    assert_int_equal(first, 0);
    assert_int_equal(store_events_prune(s, 6, &e), 0);
    store_close(s);
    s = store_open(*state, &e);
    assert_int_equal(store_events_range(s, &first, &last, &e), 0);
    assert_true(first == 6 && last == 5);
    assert_int_equal(add(s, NULL), 6); /* not 1 again */
    store_close(s);
}

static void test_events_have_a_size(void **state)
{
    struct err e = {0};
    struct store *s = store_open(*state, &e);
    int64_t n;

    for (int i = 1; i <= 5; i++) {
        struct event_row v = {.type = "task.created", .data = "{}", .total = i * 10};

        assert_int_equal(store_event_add(s, &v, &e), 0);
    }
    assert_int_equal(store_events_total(s, 3, &n, &e), 0);
    assert_int_equal(n, 30);
    assert_int_equal(store_events_total(s, 6, &n, &e), 0);
    assert_int_equal(n, 0);
    assert_int_equal(store_events_beyond(s, 1, 5, 20, &n, &e), 0);
    assert_int_equal(n, 3);
    assert_int_equal(store_events_beyond(s, 1, 3, 20, &n, &e), 0);
    assert_int_equal(n, 3); /* none of these: the end */
    store_close(s);
}

static void test_a_change_and_its_events_are_one(void **state)
{
    struct err e = {0};
    struct store *s = store_open(*state, &e);
    struct task_row a = row("a", 1, NULL), again = row("a", 2, NULL);

    assert_int_equal(store_begin(s, &e), 0);
    assert_int_equal(store_insert(s, &a, &e), 0);
    assert_int_equal(add(s, "a"), 1);
    store_rollback(s);
    assert_int_equal(all(s).n, 0);
    assert_int_equal(read_events(s, NULL, 0, 8, 0).n, 0);
    assert_int_equal(store_begin(s, &e), 0);
    assert_int_equal(store_insert(s, &a, &e), 0);
    assert_int_equal(add(s, "a"), 1); /* a number that nobody has seen */
    assert_int_equal(store_commit(s, &e), 0);
    assert_int_equal(store_begin(s, &e), 0);
    assert_int_equal(add(s, "a"), 2);
    assert_int_equal(store_insert(s, &again, &e), -1);
    store_rollback(s);
    store_close(s);
    s = store_open(*state, &e);
    assert_int_equal(all(s).n, 1);
    assert_int_equal(read_events(s, NULL, 0, 8, 0).n, 1);
    store_close(s);
}

/* The header of a database file holds user_version big-endian at byte 60 (sqlite.org/fileformat.html). */
static void test_newer_schema_is_refused(void **state)
{
    struct err e = {0};
    struct store *s = store_open(*state, &e);
    char path[128];

    assert_non_null(s);
    store_close(s);
    snprintf(path, sizeof(path), "%s/cloister.db", (char *)*state);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, 63, SEEK_SET), 0);
    assert_int_equal(fputc(99, f), 99);
    fclose(f);
    assert_null(store_open(*state, &e));
    assert_int_equal(e.status, 500);
    assert_string_equal(e.code, STORE_DAMAGED);
    assert_non_null(strstr(e.detail, "schema 99"));
}

static void test_missing_directory(void **state)
{
    struct err e = {0};

    (void)state;
    assert_null(store_open("/nonexistent/cloister", &e));
    assert_int_equal(e.status, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rows_survive_reopening, setup, teardown),
        cmocka_unit_test_setup_teardown(test_duplicates_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_events_are_numbered_for_ever, setup, teardown),
        cmocka_unit_test_setup_teardown(test_events_have_a_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_change_and_its_events_are_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newer_schema_is_refused, setup, teardown),
        cmocka_unit_test(test_missing_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
