/* GET /v1/events and GET /v1/tasks/{id}/events: the log of events, as a page or as a stream. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/common.h"
#include "api/feed.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "tasks/events.h"

/* A turn of a follower reads at most PAGE * PAGES rows; a list looks at at most SCAN_MAX, and ends at PAGE_BYTES. */
enum {
    LIMIT_MAX = 1000,
    LIMIT_USUAL = 100,
    PAGE = 128,
    PAGES = 8,
    FILL = 32768,
    SCAN_MAX = 10000,
    PAGE_BYTES = 4 << 20
};

struct reader {
    struct request *q;
    struct registry *registry;
    const char *task;      /* of these only, or NULL */
    bool resumes, started; /* it was told where to go on; it has begun */
    int64_t after, left;   /* the last number seen; how many more are wanted */
    struct buf text;       /* of one event */
    /* where events go */
    struct feed feed;
    struct buf items; /* of a list, separated by commas */
    bool list;
    /* of a stream */
    bool follow, ended;
    int rows; /* of the page at hand */
    struct events_watch *watch;
    struct loop_source *timer;
};

/* --- which ----------------------------------------------------------------------------------------------------------
 */

static bool read_number(const char *text, int64_t *out)
{
    if (!*text || strspn(text, "0123456789") != strlen(text) || strlen(text) > 18)
        return false;
    *out = strtoll(text, NULL, 10);
    return true;
}

/* Where to begin: Last-Event-ID (an EventSource that comes back), after= or cursor=, tail=, else at the oldest. */
static int read_position(struct reader *r, struct err *e)
{
    const char *last = request_header(r->q, "Last-Event-ID"), *after = request_query(r->q, "after", 0);
    const char *cursor = request_query(r->q, "cursor", 0);
    int64_t tail = -1;

    if (query_int(r->q, "tail", 0, 1000000, &tail, e) < 0)
        return -1;
    if ((after != NULL) + (cursor != NULL) + (tail >= 0) > 1)
        return err_set(e, 400, "invalid_parameter", "after, cursor and tail do not go together");
    r->resumes = last || after || cursor;
    if (last)
        return read_number(last, &r->after) ? 0 : bad_header(e, "Last-Event-ID", last);
    if (after)
        return read_number(after, &r->after) ? 0 : bad_parameter(e, "after", after);
    if (cursor)
        return read_number(cursor, &r->after) ? 0 : bad_parameter(e, "cursor", cursor);
    if (tail == 0)
        r->after = events_last(r->registry);
    return tail > 0 ? events_tail(r->registry, r->task, tail, &r->after, e) : 0;
}

static int read_filters(struct reader *r, struct err *e)
{
    const char *v;

    for (size_t i = 0; (v = request_query(r->q, "type", i)); i++)
        if (!event_filter_known(v))
            return bad_parameter(e, "type", v);
    for (size_t i = 0; (v = request_query(r->q, "label", i)); i++)
        if (!strchr(v, '='))
            return bad_parameter(e, "label", v);
    if (!r->task) {
        r->task = request_query(r->q, "task", 0);
        if (r->task && !id_valid(r->task))
            return bad_parameter(e, "task", r->task);
    }
    return query_int(r->q, "limit", 1, LIMIT_MAX, &r->left, e);
}

static bool has_labels(const struct request *q, const char *labels)
{
    struct err e;
    const char *wanted;

    if (!request_query(q, "label", 0))
        return true;
    _cleanup_json_ struct json *j = labels ? json_parse(labels, strlen(labels), &e) : NULL;
    for (size_t i = 0; j && (wanted = request_query(q, "label", i)); i++) {
        _cleanup_free_ char *key = xstrdup(wanted);
        char *value = strchr(key, '=');

        *value++ = '\0';
        const char *have = json_string(json_get(j, key));
        if (!have || strcmp(have, value) != 0)
            return false;
    }
    return j != NULL;
}

static bool matches(const struct reader *r, const struct event_row *v)
{
    const char *filter = request_query(r->q, "type", 0);
    bool type = !filter;

    for (size_t i = 0; !type && (filter = request_query(r->q, "type", i)); i++)
        type = event_type_matches(filter, v->type);
    if (!type || (r->task && (!v->task || strcmp(r->task, v->task) != 0)))
        return false;
    return has_labels(r->q, v->labels);
}

/* --- one event ------------------------------------------------------------------------------------------------------
 */

static void put(struct reader *r, int64_t seq, const char *text)
{
    char id[24];

    snprintf(id, sizeof(id), "%" PRId64, seq);
    if (!r->list) {
        feed_record(&r->feed, id, text);
        return;
    }
    if (r->items.len)
        buf_puts(&r->items, ",");
    buf_puts(&r->items, text);
}

/* Labels and data are JSON already; all other texts are ours, of harmless characters. */
static void put_event(struct reader *r, const struct event_row *v)
{
    char time[CLOCK_TEXT];
    struct buf *b = &r->text;

    clock_format(v->time, time);
    b->len = 0;
    buf_printf(b, "{\"seq\":%" PRId64 ",\"time\":\"%s\",\"type\":\"%s\"", v->seq, time, v->type);
    if (v->task)
        buf_printf(b, ",\"task\":\"%s\",\"name\":\"%s\",\"labels\":%s", v->task, v->name ? v->name : "",
                   v->labels ? v->labels : "{}");
    buf_printf(b, ",\"data\":%s}", v->data);
    put(r, v->seq, b->data);
}

/* What the reader asked for is not there any more, or (a number beyond the newest) never was in this log: it goes on at
 * the oldest, and is told. */
static void check_lost(struct reader *r)
{
    int64_t first = events_first(r->registry), last = events_last(r->registry);
    char time[CLOCK_TEXT];

    if (r->after + 1 >= first && r->after <= last)
        return;
    int64_t asked = r->after;
    r->after = first - 1;
    if (!r->resumes && !r->started)
        return;
    clock_format(clock_real_ns(), time);
    r->text.len = 0;
    buf_printf(&r->text,
               "{\"seq\":%" PRId64 ",\"time\":\"%s\",\"type\":\"lost\",\"data\":{\"after\":%" PRId64
               ",\"next\":%" PRId64 "}}",
               r->after, time, asked, first);
    put(r, r->after, r->text.data);
}

static bool has_room(const struct reader *r)
{
    return r->left > 0 && r->feed.out.len < FILL && r->items.len < PAGE_BYTES;
}

static bool on_row(void *arg, const struct event_row *v)
{
    struct reader *r = arg;

    r->rows++;
    r->after = v->seq;
    if (matches(r, v)) {
        put_event(r, v);
        r->left--;
    }
    return has_room(r);
}

/* Reads on by up to n rows; true when that was all there is. */
static bool read_page(struct reader *r, int n, struct err *e)
{
    int64_t last = events_last(r->registry);

    check_lost(r);
    r->started = true;
    r->rows = 0;
    if (r->after < last && events_read(r->registry, r->task, r->after, n, on_row, r, e) < 0)
        return true;
    if (r->rows == n || !has_room(r))
        return false;
    r->after = last; /* the rest is of other tasks */
    return true;
}

static void reader_free(struct reader *r)
{
    events_unwatch(r->watch);
    loop_remove(r->timer);
    feed_close(&r->feed);
    buf_free(&r->text);
    buf_free(&r->items);
    free(r);
}

/* --- a page ---------------------------------------------------------------------------------------------------------
 */

static void reply_list(struct reader *r)
{
    struct request *q = r->q;
    struct err e = {0};
    struct buf b = {0};
    size_t len;

    r->list = true;
    bool all = read_page(r, SCAN_MAX, &e);
    buf_printf(&b, "{\"items\":[%s]", r->items.len ? r->items.data : "");
    if (!all && r->after < events_last(r->registry))
        buf_printf(&b, ",\"next_cursor\":\"%" PRId64 "\"", r->after);
    buf_puts(&b, "}");
    char *text = buf_take(&b, &len);
    reader_free(r);
    if (e.status) {
        free(text);
        reply_problem(q, &e);
    } else {
        reply_data(q, 200, "application/json", text, len);
    }
}

/* --- a stream -------------------------------------------------------------------------------------------------------
 */

static void on_end(void *arg)
{
    reader_free(arg);
}

static void on_event(void *arg, const struct event_row *v)
{
    struct reader *r = arg;

    if (r->task && v->task && strcmp(v->type, event_type_name(EVENT_TASK_REMOVED)) == 0 &&
        strcmp(v->task, r->task) == 0)
        r->ended = true;
    else if (r->started && r->after == v->seq - 1 && !matches(r, v)) { /* nothing to send: it need not wake */
        r->after = v->seq;
        return;
    }
    request_wake(r->q);
}

static void on_more(void *arg, uint32_t events)
{
    struct reader *r = arg;

    (void)events;
    r->timer = NULL;
    request_wake(r->q);
}

static ssize_t on_read(void *arg, char *out, size_t cap)
{
    struct reader *r = arg;
    struct err e = {0};
    bool all = false;

    for (int i = 0; i < PAGES && r->feed.out.len == 0 && r->left > 0 && !all; i++)
        all = read_page(r, PAGE, &e);
    ssize_t n = feed_read(&r->feed, out, cap);
    if (n > 0)
        return n;
    if (e.status || r->left <= 0 || (all && (!r->follow || r->ended)))
        return -1;
    if (!all && !r->timer) /* others have their turn first */
        r->timer = loop_add_timer(request_loop(r->q), 0, on_more, r);
    return 0;
}

static void reply_events(struct request *q, const char *task)
{
    struct err e = {0};
    enum feed_format format;
    struct reader *r = xcalloc(1, sizeof(*r));

    *r = (struct reader){.q = q, .registry = request_registry(q), .task = task};
    if (feed_options(q, &format, &r->follow, &e) == 0) {
        r->left = format == FEED_JSON ? LIMIT_USUAL : INT64_MAX;
        if (read_filters(r, &e) == 0)
            read_position(r, &e);
    }
    if (e.status) {
        reader_free(r);
        reply_problem(q, &e);
        return;
    }
    if (format == FEED_JSON) {
        reply_list(r);
        return;
    }
    feed_open(&r->feed, q, format);
    request_on_end(q, on_end, r);
    if (r->follow) {
        _cleanup_free_ char *id = xasprintf("%" PRId64, r->after);

        feed_start(&r->feed, id);
        r->watch = events_watch(r->registry, on_event, r);
    }
    feed_reply(&r->feed, (struct stream){.read = on_read, .arg = r});
}

void events_list(struct request *q)
{
    reply_events(q, NULL);
}

void task_events(struct request *q)
{
    if (request_task(q))
        reply_events(q, request_param(q, 0));
}
