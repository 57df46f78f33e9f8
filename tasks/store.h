/* The durable store: SQLite, WAL, synchronous=FULL. Only store.c and store_events.c include sqlite3.h. */
#ifndef CLOISTER_TASKS_STORE_H
#define CLOISTER_TASKS_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/histogram.h"
#include "base/id.h"
#include "supervisor/messages.h"

struct store;

struct task_row {
    char id[ID_LEN + 1];
    int64_t created_at;          /* ns */
    const char *spec;            /* JSON text; borrowed during the callback */
    int state;                   /* enum task_state */
    int64_t version;             /* grows with each change */
    struct run_status status;    /* last known; zeroed when none */
    const char *idempotency_key; /* or NULL */
    bool removing;               /* its removal was begun: the next start goes on with it */
    const char *body_hash;       /* hex, of the request body that came with the key; or NULL */
};

/* The code of errors that will not go away by themselves. */
#define STORE_DAMAGED "store_damaged"
/* The code (409) when an id or an idempotency key is stored already. Other rows of the transaction are not touched. */
#define STORE_CONFLICT "store_conflict"

/* Opens or creates <dir>/cloister.db. NULL on error: status 500, code "store"; STORE_DAMAGED for what is no database,
 * fails its check or has a newer schema: it is left as it is, for the operator to decide. */
struct store *store_open(const char *dir, struct err *e);
void store_close(struct store *s);
/* What is written between these two is written together or not at all. Without them each write stands for itself.
 * On failure 503, code "store", and nothing of it is kept. */
int store_begin(struct store *s, struct err *e);
int store_commit(struct store *s, struct err *e);
void store_rollback(struct store *s);
/* Each is durable when it, or the commit that follows, returns 0. On failure 503, code "store". */
int store_insert(struct store *s, const struct task_row *r, struct err *e);
int store_update(struct store *s, const struct task_row *r, struct err *e); /* state, version, status, removing */
int store_update_spec(struct store *s, const char *id, const char *spec, int64_t version, struct err *e);
int store_delete(struct store *s, const char *id, struct err *e);
/* All rows, oldest first. */
int store_each(struct store *s, void (*fn)(void *arg, const struct task_row *r), void *arg, struct err *e);
/* Writes something that changes nothing. */
int store_probe(struct store *s, struct err *e);
/* The tables were made by this store_open. */
bool store_is_new(const struct store *s);
/* How long commits took. */
const struct histogram *store_commits(const struct store *s);

/* --- the log of events ---------------------------------------------------------------------------------------------
 */

struct event_row { /* texts are borrowed; those of JSON are objects */
    int64_t seq;   /* 1, 2, 3 ...: in the order of writing, without a gap, never used again */
    int64_t time;  /* CLOCK_REALTIME, ns */
    const char *type;
    const char *task, *name, *labels; /* id, name and labels (JSON) of the task; NULL: of no task */
    const char *data;                 /* JSON */
    int64_t total;                    /* bytes of all events up to this one; 0 in those of an older schema */
};

/* Appends and sets v->seq. */
int store_event_add(struct store *s, struct event_row *v, struct err *e);
/* Removes all events with numbers below `below`. */
int store_events_prune(struct store *s, int64_t below, struct err *e);
/* Numbers of the oldest that is kept and of the newest ever written; when none is kept first is last + 1. */
int store_events_range(struct store *s, int64_t *first, int64_t *last, struct err *e);
/* The total of the event with this number; 0 when there is none. */
int store_events_total(struct store *s, int64_t seq, int64_t *total, struct err *e);
/* The number of the first event in [from, to) whose total is above `above`, or `to`. */
int store_events_beyond(struct store *s, int64_t from, int64_t to, int64_t above, int64_t *seq, struct err *e);
/* At most limit events after number `after`, oldest first; of one task when task is not NULL. fn returns false to end
 * it; it must not write to the store. */
int store_events_read(struct store *s, const char *task, int64_t after, int limit,
                      bool (*fn)(void *arg, const struct event_row *v), void *arg, struct err *e);
/* The number before the last n events (of the task, when not NULL); 0 when there are no more than n. */
int store_events_tail(struct store *s, const char *task, int64_t n, int64_t *before, struct err *e);

#endif
