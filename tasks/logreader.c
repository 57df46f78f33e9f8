#include "tasks/logreader.h"

const char *const log_stream_names[LOG_STREAMS] = {"stdout", "stderr"};

void logreader_init(struct logreader *r, const char *dir, unsigned int streams)
{
    r->n = 0;
    r->timed = false;
    for (int i = 0; i < LOG_STREAMS; i++)
        if (streams & 1U << i) {
            r->stream[r->n] = i;
            logfile_init(&r->file[r->n++], dir, log_stream_names[i]);
        }
}

void logreader_close(struct logreader *r)
{
    for (size_t i = 0; i < r->n; i++)
        logfile_close(&r->file[i]);
}

void logreader_watched(struct logreader *r, bool watched)
{
    for (size_t i = 0; i < r->n; i++)
        r->file[i].watched = watched;
}

void logreader_changed(struct logreader *r)
{
    for (size_t i = 0; i < r->n; i++)
        logfile_changed(&r->file[i]);
}

static void peek_one(struct logreader *r, size_t i, struct logpiece *p)
{
    struct logfile *f = &r->file[i];

    *p = (struct logpiece){.file = f, .stream = r->stream[i]};
    p->state = logfile_peek(f, &p->to);
    if (p->state == LOG_DATA && (r->timed || r->n > 1)) /* after the bytes: a mark is written before what it tells of */
        p->time = logfile_time(f, &p->to);
}

/* Gaps and errors first: they have no time. */
static bool comes_first(const struct logpiece *a, const struct logpiece *b)
{
    static const int rank[] = {[LOG_NOTHING] = 0, [LOG_DATA] = 1, [LOG_GAP] = 2, [LOG_ERROR] = 3};

    if (rank[a->state] != rank[b->state])
        return rank[a->state] > rank[b->state];
    return a->time <= b->time;
}

void logreader_peek(struct logreader *r, struct logpiece *p)
{
    struct logpiece other;

    peek_one(r, 0, p);
    if (r->n == 1)
        return;
    peek_one(r, 1, &other);
    /* Both are written by one process, in the order of their times: whatever comes before what the second has was there
     * when that was seen, but the first may have been looked at earlier. */
    if (p->state == LOG_NOTHING && other.state == LOG_DATA)
        peek_one(r, 0, p);
    if (!comes_first(p, &other))
        *p = other;
}
