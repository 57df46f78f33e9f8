#include "api/log_position.h"

#include <stdlib.h>
#include <string.h>

#include "api/accept.h"
#include "api/common.h"
#include "api/log_record.h"
#include "api/sse.h"
#include "base/clock.h"

enum { COUNT_MAX = 16384 };

int log_format(const struct request *q, enum log_format *format, struct err *e)
{
    static const char *const names[] = {[LOG_TEXT] = "text", [LOG_NDJSON] = "ndjson", [LOG_SSE] = "sse", NULL};
    static const char *const media[] = {
        [LOG_TEXT] = "text/plain", [LOG_NDJSON] = MEDIA_NDJSON, [LOG_SSE] = MEDIA_SSE, NULL};
    const char *name = request_query(q, "format", 0);
    int picked = -1;

    for (int i = 0; name && names[i]; i++)
        if (strcmp(name, names[i]) == 0)
            picked = i;
    if (name && picked < 0)
        return bad_parameter(e, "format", name);
    if (!name)
        picked = accept_pick(request_header(q, "Accept"), media);
    if (picked < 0)
        return err_set(e, 406, "not_acceptable", "a log is text/plain, " MEDIA_NDJSON " or " MEDIA_SSE);
    *format = (enum log_format)picked;
    return 0;
}

int log_streams(const struct request *q, unsigned int *streams, struct err *e)
{
    const char *list = request_query(q, "stream", 0);

    *streams = list ? 0 : 3;
    for (const char *at = list; at; at = *at ? at + 1 : NULL) {
        size_t n = strcspn(at, ",");
        unsigned int bit = 0;

        for (int i = 0; i < LOG_STREAMS; i++)
            if (strlen(log_stream_names[i]) == n && memcmp(log_stream_names[i], at, n) == 0)
                bit = 1U << i;
        if (bit == 0 || *streams & bit)
            return bad_parameter(e, "stream", list);
        *streams |= bit;
        at += n;
    }
    return 0;
}

/* --- where it begins ---------------------------------------------------------------------------------------------- */

static int read_since(const struct request *q, int64_t *ns, struct err *e)
{
    const char *text = request_query(q, "since", 0);
    int64_t ago;

    if (!text || clock_parse(text, ns) == 0)
        return 0;
    if (duration_parse(text, &ago) < 0)
        return bad_parameter(e, "since", text);
    *ns = clock_real_ns() - ago * 1000000;
    return 0;
}

int log_position_begin(struct log_position *p, const struct request *q, struct logreader *r, bool sse, struct err *e)
{
    const char *last = sse ? request_header(q, "Last-Event-ID") : NULL, *cursor = request_query(q, "cursor", 0);
    int64_t since = -1, tail = -1;

    *p = (struct log_position){.reader = r, .tail = -1, .searching = r->n};
    if (query_int(q, "tail", 0, 1000000, &tail, e) < 0 || read_since(q, &since, e) < 0)
        return -1;
    if (cursor && (tail >= 0 || since >= 0))
        return err_set(e, 400, "invalid_parameter", "cursor goes neither with tail nor with since");
    if (cursor && log_id_parse(r, cursor) < 0)
        return bad_parameter(e, "cursor", cursor);
    if (last && log_id_parse(r, last) < 0)
        return bad_header(e, "Last-Event-ID", last);
    if (last || cursor)
        return 0;
    for (size_t i = 0; i < r->n; i++) {
        struct logfile *f = &r->file[i];
        uint64_t first, end;

        if (since >= 0)
            logfile_since(f, since);
        logfile_range(f, &first, &end);
        logfile_seek(f, f->cursor > first ? f->cursor : first);
        logtail_begin(&p->back[i], f->cursor, end > f->cursor ? end : f->cursor, tail > 0 ? (uint64_t)tail : 0);
    }
    p->tail = tail;
    p->searching = tail >= 0 ? 0 : r->n;
    return 0;
}

/* Each file is at its own last lines: together these are too many by surplus. */
static void begin_merge(struct log_position *p)
{
    uint64_t lines = 0;

    for (size_t i = 0; i < p->reader->n; i++)
        lines += p->back[i].lines;
    p->merging = lines > (uint64_t)p->tail;
    p->surplus = p->merging ? lines - (uint64_t)p->tail : 0;
    for (size_t i = 0; i < p->reader->n && p->merging; i++) {
        p->line[i] = p->reader->file[i].cursor;
        p->limit[i] = p->reader->file[i].limit;
        p->reader->file[i].limit = p->back[i].end;
    }
}

/* The file with the piece in it is moved behind its lines, as many of them as are left out. */
static void leave_out(struct log_position *p, struct logfile *f, const char *data, size_t n)
{
    uint64_t *line = &p->line[f - p->reader->file];
    const char *at = data;

    for (const char *end; p->surplus > 0 && (end = memchr(at, '\n', (size_t)(data + n - at))); at = end + 1) {
        *line = f->cursor + (uint64_t)(end + 1 - data);
        p->surplus--;
    }
    f->cursor += n;
}

/* Which lines come first is told by their ends: one that is not ended yet is the last. */
static bool merge_step(struct log_position *p)
{
    char data[COUNT_MAX];
    struct logpiece piece;

    logreader_peek(p->reader, &piece);
    if (piece.state == LOG_GAP) {
        p->line[piece.file - p->reader->file] = piece.file->cursor = piece.to;
        return false;
    }
    if (p->surplus > 0 && piece.state == LOG_DATA) {
        uint64_t there = piece.to - piece.file->cursor;
        ssize_t n = logfile_copy(piece.file, data, there < COUNT_MAX ? (size_t)there : COUNT_MAX);

        if (n > 0) {
            leave_out(p, piece.file, data, (size_t)n);
            return false;
        }
    }
    for (size_t i = 0; i < p->reader->n; i++) {
        p->reader->file[i].limit = p->limit[i];
        logfile_seek(&p->reader->file[i], p->line[i]);
    }
    p->merging = false;
    return true;
}

bool log_position_step(struct log_position *p)
{
    if (p->merging)
        return merge_step(p);
    if (p->searching == p->reader->n)
        return true;
    if (logtail_step(&p->back[p->searching], &p->reader->file[p->searching]))
        p->searching++;
    if (p->searching == p->reader->n && p->reader->n > 1)
        begin_merge(p);
    return false;
}

/* --- parts -------------------------------------------------------------------------------------------------------- */

/* "bytes=0-99", "bytes=100-", "bytes=-50". Several parts, and what is not understood, are ignored. */
static bool parse_range(const char *text, uint64_t end, struct log_range *r)
{
    if (!text || strncmp(text, "bytes=", 6) != 0)
        return false;
    const char *p = text + 6;
    size_t n = strspn(p, "0123456789"), m = p[n] == '-' ? strspn(p + n + 1, "0123456789") : 0;
    if (p[n] != '-' || p[n + 1 + m] || n > 18 || m > 18 || n + m == 0)
        return false;
    r->first = n > 0 ? strtoull(p, NULL, 10) : 0;
    r->last = m > 0 ? strtoull(p + n + 1, NULL, 10) : UINT64_MAX - 1;
    if (n > 0)
        return r->last >= r->first;
    r->first = r->last < end ? end - r->last : 0; /* the last so many bytes */
    if (r->last == 0)
        r->first = UINT64_MAX; /* of none of which there is one */
    r->last = UINT64_MAX - 1;
    return true;
}

int log_range(const struct request *q, uint64_t first, uint64_t end, const char *etag, struct log_range *out,
              struct err *e)
{
    static const char *const others[] = {"follow", "tail", "since", "cursor"};
    const char *condition = request_header(q, "If-Range");

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (request_query(q, others[i], 0))
            return 0;
    if (condition && (!etag || strcmp(condition, etag) != 0)) /* RFC 9110, 13.1.5: the whole */
        return 0;
    if (!parse_range(request_header(q, "Range"), end, out))
        return 0;
    out->first = out->first > first ? out->first : first;
    out->last = out->last < end ? out->last : end - 1;
    if (end == 0 || out->first >= end || out->last < out->first)
        return err_set(e, 416, "range_not_satisfiable", "none of these bytes is there");
    return 1;
}
