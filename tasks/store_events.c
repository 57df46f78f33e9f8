/* The log of events in the store. */
#include <sqlite3.h>

#include "tasks/store_internal.h"

int store_event_add(struct store *s, struct event_row *v, struct err *e)
{
    sqlite3_bind_int64(s->st[ST_EVENT_ADD], 1, v->time);
    store_bind_text(s, ST_EVENT_ADD, 2, v->type);
    store_bind_text(s, ST_EVENT_ADD, 3, v->task);
    store_bind_text(s, ST_EVENT_ADD, 4, v->name);
    store_bind_text(s, ST_EVENT_ADD, 5, v->labels);
    store_bind_text(s, ST_EVENT_ADD, 6, v->data);
    sqlite3_bind_int64(s->st[ST_EVENT_ADD], 7, v->total);
    if (store_run(s, ST_EVENT_ADD, "cannot store the event", e) < 0)
        return -1;
    v->seq = sqlite3_last_insert_rowid(s->db);
    return 0;
}

int store_events_prune(struct store *s, int64_t below, struct err *e)
{
    sqlite3_bind_int64(s->st[ST_EVENT_PRUNE], 1, below);
    return store_run(s, ST_EVENT_PRUNE, "cannot remove old events", e);
}

int store_events_range(struct store *s, int64_t *first, int64_t *last, struct err *e)
{
    sqlite3_stmt *st = s->st[ST_EVENT_RANGE];
    int rc = -1;

    if (sqlite3_step(st) == SQLITE_ROW) {
        *last = sqlite3_column_int64(st, 1); /* NULL reads as 0 */
        *first = sqlite3_column_type(st, 0) == SQLITE_NULL ? *last + 1 : sqlite3_column_int64(st, 0);
        rc = 0;
    } else {
        store_fail(s, 503, "cannot read the events", e);
    }
    store_reset(s, ST_EVENT_RANGE);
    return rc;
}

/* The one number that the statement gives; *out stays as it is when it gives none. */
static int read_number(struct store *s, enum statement which, int64_t *out, struct err *e)
{
    sqlite3_stmt *st = s->st[which];
    int rc = sqlite3_step(st);

    if (rc == SQLITE_ROW && sqlite3_column_type(st, 0) != SQLITE_NULL)
        *out = sqlite3_column_int64(st, 0);
    int result = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : store_fail(s, 503, "cannot read the events", e);
    store_reset(s, which);
    return result;
}

int store_events_total(struct store *s, int64_t seq, int64_t *total, struct err *e)
{
    *total = 0;
    sqlite3_bind_int64(s->st[ST_EVENT_TOTAL], 1, seq);
    return read_number(s, ST_EVENT_TOTAL, total, e);
}

int store_events_beyond(struct store *s, int64_t from, int64_t to, int64_t above, int64_t *seq, struct err *e)
{
    *seq = to;
    sqlite3_bind_int64(s->st[ST_EVENT_BEYOND], 1, from);
    sqlite3_bind_int64(s->st[ST_EVENT_BEYOND], 2, to);
    sqlite3_bind_int64(s->st[ST_EVENT_BEYOND], 3, above);
    return read_number(s, ST_EVENT_BEYOND, seq, e);
}

static const char *text_at(sqlite3_stmt *st, int i)
{
    return (const char *)sqlite3_column_text(st, i);
}

int store_events_read(struct store *s, const char *task, int64_t after, int limit,
                      bool (*fn)(void *arg, const struct event_row *v), void *arg, struct err *e)
{
    enum statement which = task ? ST_EVENT_PAGE_OF_TASK : ST_EVENT_PAGE;
    sqlite3_stmt *st = s->st[which];
    int rc;

    if (task)
        store_bind_text(s, which, 1, task);
    sqlite3_bind_int64(st, 2, after);
    sqlite3_bind_int(st, 3, limit);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct event_row v = {
            .seq = sqlite3_column_int64(st, 0),
            .time = sqlite3_column_int64(st, 1),
            .type = text_at(st, 2),
            .task = text_at(st, 3),
            .name = text_at(st, 4),
            .labels = text_at(st, 5),
            .data = text_at(st, 6),
        };
        if (!fn(arg, &v)) {
            rc = SQLITE_DONE;
            break;
        }
    }
    int result = rc == SQLITE_DONE ? 0 : store_fail(s, 503, "cannot read the events", e);
    store_reset(s, which);
    return result;
}

int store_events_tail(struct store *s, const char *task, int64_t n, int64_t *before, struct err *e)
{
    enum statement which = task ? ST_EVENT_TAIL_OF_TASK : ST_EVENT_TAIL;

    if (task)
        store_bind_text(s, which, 1, task);
    sqlite3_bind_int64(s->st[which], 2, n);
    *before = 0;
    return read_number(s, which, before, e);
}
