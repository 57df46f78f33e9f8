/* Private to the files of the store. */
#ifndef CLOISTER_TASKS_STORE_INTERNAL_H
#define CLOISTER_TASKS_STORE_INTERNAL_H

#include "tasks/store.h"

struct sqlite3;
struct sqlite3_stmt;

enum statement {
    ST_BEGIN,
    ST_COMMIT,
    ST_ROLLBACK,
    ST_INSERT,
    ST_UPDATE,
    ST_UPDATE_SPEC,
    ST_DELETE,
    ST_EACH,
    ST_EVENT_ADD,
    ST_EVENT_PRUNE,
    ST_EVENT_RANGE,
    ST_EVENT_TOTAL,
    ST_EVENT_BEYOND,
    ST_EVENT_PAGE,
    ST_EVENT_PAGE_OF_TASK,
    ST_EVENT_TAIL,
    ST_EVENT_TAIL_OF_TASK,
    ST_COUNT
};

struct store {
    struct sqlite3 *db;
    struct sqlite3_stmt *st[ST_COUNT];
    bool is_new;
    struct histogram commits;
};

/* err_set with what SQLite says. */
int store_fail(struct store *s, int status, const char *what, struct err *e);
/* Runs a statement that gives no rows; afterwards it is ready for the next use. 503 when it fails. */
int store_run(struct store *s, enum statement which, const char *what, struct err *e);
/* text is borrowed until the statement has run; NULL binds NULL. */
void store_bind_text(struct store *s, enum statement which, int i, const char *text);
/* Ready for the next use. */
void store_reset(struct store *s, enum statement which);

#endif
