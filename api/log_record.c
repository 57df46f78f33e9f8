#include "api/log_record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"

enum { SEQUENCE_MAX = 4 };

/* --- ids --------------------------------------------------------------------------------------------------------- */

void log_id(const struct logreader *r, char out[LOG_ID])
{
    if (r->n == 1)
        snprintf(out, LOG_ID, "%" PRIu64, r->file[0].cursor);
    else
        snprintf(out, LOG_ID, "o%" PRIu64 ",e%" PRIu64, r->file[0].cursor, r->file[1].cursor);
}

static const char *parse_number(const char *p, uint64_t *out)
{
    size_t n = strspn(p, "0123456789");

    if (n == 0 || n > 18)
        return NULL;
    *out = strtoull(p, NULL, 10);
    return p + n;
}

int log_id_parse(struct logreader *r, const char *text)
{
    uint64_t at[LOG_STREAMS] = {0};
    const char *p = text;

    for (size_t i = 0; i < r->n; i++) {
        if (r->n > 1 && *p++ != (i == 0 ? 'o' : 'e'))
            return -1;
        p = parse_number(p, &at[i]);
        if (!p || (i + 1 < r->n && *p++ != ','))
            return -1;
    }
    if (*p)
        return -1;
    for (size_t i = 0; i < r->n; i++)
        logfile_seek(&r->file[i], at[i]);
    return 0;
}

/* --- text or not -------------------------------------------------------------------------------------------------- */

/* Bytes from the begin on that are valid UTF-8 without NUL. */
static size_t text_length(const char *s, size_t n)
{
    size_t at = 0, part;

    while (at < n && s[at] && (part = utf8_sequence((const unsigned char *)s + at, n - at)) > 0)
        at += part;
    return at;
}

/* Whether these few bytes could begin a character of which the rest has not come. */
static bool may_begin(const char *s, size_t n)
{
    static const char *const rest[] = {"\x80\x80\x80", "\xa0\x80\x80", "\x90\x80\x80"}; /* what may follow any begin */

    for (size_t i = 0; n > 0 && n < SEQUENCE_MAX && i < sizeof(rest) / sizeof(rest[0]); i++)
        for (size_t more = 1; n + more <= SEQUENCE_MAX; more++) {
            char whole[SEQUENCE_MAX];

            memcpy(whole, s, n);
            memcpy(whole + n, rest[i], more);
            if (utf8_sequence((const unsigned char *)whole, n + more) == n + more)
                return true;
        }
    return false;
}

/* How many of the n bytes make the next record, and whether they are text: up to the first that is none, cut after the
 * line before it if there is one; else all, as binary; but bytes that only end a character, whose begin somebody has
 * got before, are a record of their own. */
static size_t cut(const char *s, size_t n, bool *text)
{
    size_t good = text_length(s, n);

    *text = good > 0;
    if (good == n || (good > 0 && may_begin(s + good, n - good)))
        return good;
    const char *line = memrchr(s, '\n', good);
    if (line)
        return (size_t)(line + 1 - s);
    *text = false;
    size_t tail = 0;
    while (tail < n && tail < SEQUENCE_MAX - 1 && (s[tail] & 0xc0) == 0x80)
        tail++;
    return good == 0 && tail > 0 && tail < n && text_length(s + tail, n - tail) > 0 ? tail : n;
}

/* --- records ------------------------------------------------------------------------------------------------------ */

static void emit(struct feed *f, const struct logreader *r, struct json *j)
{
    char id[LOG_ID];

    log_id(r, id);
    json_set_string(j, "next", id);
    _cleanup_free_ char *text = json_print(j);
    json_free(j);
    feed_record(f, id, text);
}

static void emit_gap(struct feed *f, const struct logreader *r, const struct logpiece *p)
{
    struct json *j = json_object(), *gap = json_object();

    json_set_string(gap, "stream", log_stream_names[p->stream]);
    json_set_int(gap, "from", (int64_t)p->file->cursor);
    json_set_int(gap, "to", (int64_t)p->to);
    json_set(j, "gap", gap);
    p->file->cursor = p->to;
    emit(f, r, j);
}

static void emit_data(struct feed *f, const struct logreader *r, const struct logpiece *p, char *data, size_t n,
                      bool text)
{
    struct json *j = json_object();
    char time[CLOCK_TEXT];

    clock_format(p->time, time);
    json_set_string(j, "time", p->time > 0 ? time : NULL);
    json_set_string(j, "stream", log_stream_names[p->stream]);
    json_set_int(j, "cursor", (int64_t)p->file->cursor);
    if (text) {
        data[n] = '\0';
        json_set_string(j, "data", data);
    } else {
        struct buf b = {0};

        base64_encode(&b, data, n);
        json_set_string(j, "data_base64", b.data);
        buf_free(&b);
    }
    if (p->file->cursor + n > p->to) /* into the next segment */
        logfile_seek(p->file, p->file->cursor + n);
    else
        p->file->cursor += n;
    emit(f, r, j);
}

int log_record(struct feed *f, const struct logreader *r, const struct logpiece *p, bool whole)
{
    char data[LOG_RECORD_MAX + 1];
    uint64_t there = p->to - p->file->cursor;
    bool text;

    if (p->state == LOG_GAP) {
        emit_gap(f, r, p);
        return 1;
    }
    ssize_t n = logfile_copy(p->file, data, there < LOG_RECORD_MAX ? (size_t)there : LOG_RECORD_MAX);
    if (n <= 0)
        return -1;
    if (may_begin(data, (size_t)n)) { /* the rest of the character may have come later, or be in the next segment */
        ssize_t more = logfile_look(p->file, data, SEQUENCE_MAX);
        size_t one = more > n ? utf8_sequence((const unsigned char *)data, (size_t)more) : 0;

        if (one == 0 && !whole && more > 0 && may_begin(data, (size_t)more))
            return 0;
        n = one > 0 ? (ssize_t)one : n;
    }
    size_t used = cut(data, (size_t)n, &text);
    emit_data(f, r, p, data, used, text);
    return 1;
}
