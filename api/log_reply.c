#include "api/log_reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/common.h"
#include "api/log_position.h"
#include "api/log_record.h"
#include "api/sse.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/signals.h"

/* POLL_MS is for a log that cannot be watched (yet); HOLD_MS how long a part of a character waits for the rest;
 * SEARCH_MS how long one turn may search for the begin; FILL bytes of records are made at once. */
enum { POLL_MS = 200, HOLD_MS = 500, SEARCH_MS = 2, FILL = 8192 };

struct log_reply { /* what one client has been promised; nothing grows with how slow it is */
    struct request *q;
    struct log_source source;
    struct log_end end;
    enum log_format format;
    struct logreader reader;
    struct log_position position;
    bool positioned, started, follow, ended, end_told;
    uint64_t length;      /* of the reply, when known */
    struct feed feed;     /* of records */
    struct logfile *held; /* where a part of a character waits */
    uint64_t held_at;
    int64_t held_since;
    struct logwatcher *watcher;
    struct loop_source *timer;
};

static void reply_free(struct log_reply *f)
{
    logwatch_remove(f->watcher);
    loop_remove(f->timer);
    feed_close(&f->feed);
    logreader_close(&f->reader);
    f->source.close(f->source.arg);
    free(f);
}

static void on_end(void *arg)
{
    reply_free(arg);
}

/* --- what wakes it ------------------------------------------------------------------------------------------------ */

void log_reply_ended(struct log_reply *f, const struct log_end *end)
{
    f->end = *end;
    f->ended = true;
    if (f->follow)
        request_wake(f->q);
}

static void on_news(void *arg, bool names)
{
    struct log_reply *f = arg;

    if (names)
        logreader_changed(&f->reader);
    if (f->follow)
        request_wake(f->q);
}

static void watch(struct log_reply *f)
{
    struct api *api = request_api(f->q);

    f->watcher = logwatch_add(api->logwatch, f->source.dir, on_news, f);
    logreader_watched(&f->reader, f->watcher != NULL);
    logreader_changed(&f->reader);
}

static void on_timer(void *arg, uint32_t events)
{
    struct log_reply *f = arg;

    (void)events;
    f->timer = NULL;
    if (!f->watcher)
        watch(f);
    request_wake(f->q);
}

static void wake_after(struct log_reply *f, int64_t ms)
{
    if (!f->timer)
        f->timer = loop_add_timer(request_loop(f->q), ms, on_timer, f);
}

/* --- what it gets ------------------------------------------------------------------------------------------------- */

/* Bytes; what is not there is left out, but not from a reply of which the length has been told. -1: cannot go on. */
static ssize_t read_text(struct log_reply *f, char *out, size_t cap)
{
    struct logpiece p;
    size_t used = 0;

    while (used < cap) {
        logreader_peek(&f->reader, &p);
        if (p.state == LOG_NOTHING)
            break;
        if (p.state == LOG_GAP && f->length == 0) {
            p.file->cursor = p.to;
            continue;
        }
        uint64_t there = p.to - p.file->cursor;
        size_t want = there < cap - used ? (size_t)there : cap - used;
        ssize_t n = p.state == LOG_DATA ? logfile_copy(p.file, out + used, want) : -1;
        if (n <= 0)
            return used > 0 ? (ssize_t)used : -1;
        p.file->cursor += (uint64_t)n;
        used += (size_t)n;
    }
    return (ssize_t)used;
}

/* Whether what the piece holds is all that comes, or has waited long enough for more. */
static bool is_whole(struct log_reply *f, const struct logpiece *p, bool ended)
{
    int64_t now = clock_mono_ms();

    if (f->held != p->file || f->held_at != p->file->cursor) {
        f->held = p->file;
        f->held_at = p->file->cursor;
        f->held_since = now;
    }
    return ended || now - f->held_since >= HOLD_MS;
}

static void put_end(struct log_reply *f)
{
    struct json *j = json_object(), *end = json_object();
    char id[LOG_ID];

    log_id(&f->reader, id);
    json_set_string(end, "state", f->end.state);
    if (f->end.exited) {
        json_set(end, "code", f->end.code < 0 ? json_new_null() : json_new_int(f->end.code));
        json_set_string(end, "signal", f->end.signum > 0 ? signal_name(f->end.signum) : NULL);
    }
    json_set(j, "end", end);
    json_set_string(j, "next", id);
    _cleanup_free_ char *text = json_print(j);
    json_free(j);
    if (f->format == LOG_SSE)
        sse_record(&f->feed.out, id, "end", text);
    else
        feed_record(&f->feed, id, text);
    f->end_told = true;
}

static ssize_t read_records(struct log_reply *f, bool ended, char *out, size_t cap)
{
    struct logpiece p;
    int rc = 1;

    while (f->feed.out.len < FILL && rc > 0) {
        logreader_peek(&f->reader, &p);
        if (p.state == LOG_NOTHING)
            break;
        rc = p.state == LOG_ERROR ? -1 : log_record(&f->feed, &f->reader, &p, is_whole(f, &p, ended));
    }
    if (rc == 0)
        wake_after(f, HOLD_MS);
    else if (f->feed.out.len == 0 && ended && f->follow && !f->end_told && rc > 0)
        put_end(f);
    ssize_t n = feed_read(&f->feed, out, cap);
    return n == 0 && rc < 0 ? -1 : n;
}

/* False while the search for the begin goes on: others have their turn. */
static bool find_begin(struct log_reply *f)
{
    int64_t until = clock_mono_ms() + SEARCH_MS;

    while (!f->positioned && clock_mono_ms() <= until)
        f->positioned = log_position_step(&f->position);
    if (!f->positioned) {
        wake_after(f, 0);
        return false;
    }
    if (!f->started && f->follow && f->format == LOG_SSE) {
        char id[LOG_ID];

        log_id(&f->reader, id);
        feed_start(&f->feed, id);
    }
    f->started = true;
    return true;
}

static ssize_t on_read(void *arg, char *out, size_t cap)
{
    struct log_reply *f = arg;
    bool ended =
        f->ended || !f->follow; /* asked before the files are read: what came before the end is then read too */

    if (!find_begin(f))
        return 0;
    ssize_t n = f->format == LOG_TEXT ? read_text(f, out, cap) : read_records(f, ended, out, cap);
    if (n != 0)
        return n;
    if (ended)
        return -1;
    if (!f->watcher)
        wake_after(f, POLL_MS);
    buf_free(&f->feed.out); /* who waits holds no buffer */
    return 0;
}

/* --- the reply ---------------------------------------------------------------------------------------------------- */

/* One stream as text is a representation with lengths and parts. Content-Length, and 206 with its headers. */
static int prepare_parts(struct log_reply *f, int *status, struct err *e)
{
    struct logfile *file = &f->reader.file[0];
    uint64_t first, end;
    struct log_range part;
    char text[80];

    reply_header(f->q, "Accept-Ranges", "bytes");
    logfile_range(file, &first, &end);
    int rc = log_range(f->q, first, end, NULL, &part, e);
    if (rc > 0) {
        uint64_t there = logfile_extent(file, part.first);

        part.last = part.last < there ? part.last : there - 1;
        if (there <= part.first)
            rc = err_set(e, 416, "range_not_satisfiable", "these bytes were lost");
    }
    if (rc < 0) {
        snprintf(text, sizeof(text), "bytes */%" PRIu64, end);
        reply_header(f->q, "Content-Range", text);
        return -1;
    }
    if (rc > 0) {
        *status = 206;
        f->length = part.last + 1 - part.first;
        logfile_seek(file, part.first);
        file->limit = part.last + 1;
        int n = snprintf(text, sizeof(text), "bytes %" PRIu64 "-%" PRIu64 "/", part.first, part.last);
        if (f->ended)
            snprintf(text + n, sizeof(text) - (size_t)n, "%" PRIu64, end);
        else /* it still grows */
            snprintf(text + n, sizeof(text) - (size_t)n, "*");
        reply_header(f->q, "Content-Range", text);
    } else if (f->ended && f->position.tail < 0 && logfile_extent(file, file->cursor) >= end && end > file->cursor) {
        f->length = end - file->cursor;
    }
    return 0;
}

static int prepare(struct log_reply *f, int *status, struct err *e)
{
    unsigned int streams;
    bool said = request_query(f->q, "follow", 0) != NULL;

    if (log_format(f->q, &f->format, e) < 0 || query_bool(f->q, "follow", &f->follow, e) < 0 ||
        log_streams(f->q, &streams, e) < 0)
        return -1;
    f->follow = f->follow || (f->format == LOG_SSE && !said);
    logreader_init(&f->reader, f->source.dir, streams);
    f->reader.timed = f->format != LOG_TEXT;
    watch(f); /* before anything is looked at: what comes after it is told */
    if (log_position_begin(&f->position, f->q, &f->reader, f->format == LOG_SSE, e) < 0)
        return -1;
    for (size_t i = 0; i < f->reader.n && !f->follow; i++) { /* what is there now, though a writer may be faster */
        uint64_t first, end;

        logfile_range(&f->reader.file[i], &first, &end);
        f->reader.file[i].limit = end;
    }
    return f->format == LOG_TEXT && f->reader.n == 1 && !f->follow ? prepare_parts(f, status, e) : 0;
}

struct log_reply *log_reply(struct request *q, const struct log_source *source)
{
    struct err e = {0};
    int status = 200;
    struct log_reply *f = xcalloc(1, sizeof(*f));

    f->q = q;
    f->source = *source;
    if (source->end) {
        f->end = *source->end;
        f->ended = true;
    }
    if (prepare(f, &status, &e) < 0) {
        reply_free(f);
        reply_problem(q, &e);
        return NULL;
    }
    request_on_end(q, on_end, f);
    struct stream s = {on_read, f};
    reply_length(q, f->length);
    if (f->format == LOG_TEXT) {
        reply_stream(q, status, "text/plain; charset=utf-8", s);
        return f;
    }
    feed_open(&f->feed, q, f->format == LOG_SSE ? FEED_SSE : FEED_NDJSON);
    feed_reply(&f->feed, s);
    return f;
}
