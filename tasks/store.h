/* The durable store: SQLite, WAL, synchronous=FULL. The only file that includes sqlite3.h is store.c. */
#ifndef CLOISTER_TASKS_STORE_H
#define CLOISTER_TASKS_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
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
    const char *body_hash;       /* hex, of the request body that came with the key; or NULL */
};

/* Opens or creates <dir>/cloister.db; refuses a newer schema. NULL on error (status 500, code "store"). */
struct store *store_open(const char *dir, struct err *e);
void store_close(struct store *s);
/* Each is durable when it returns 0. On failure 503, code "store". */
int store_insert(struct store *s, const struct task_row *r, struct err *e);
int store_update(struct store *s, const struct task_row *r, struct err *e); /* state, version, status */
int store_update_spec(struct store *s, const char *id, const char *spec, int64_t version, struct err *e);
int store_delete(struct store *s, const char *id, struct err *e);
/* All rows, oldest first. */
int store_each(struct store *s, void (*fn)(void *arg, const struct task_row *r), void *arg, struct err *e);
bool store_healthy(struct store *s); /* can write now */

#endif
