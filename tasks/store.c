#include "tasks/store.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "tasks/store_internal.h"

enum { BUSY_MS = 2000, REMOVING = 0x100 /* added to the column "state" */ };

#define EVENT_COLUMNS "seq, time, type, task, name, labels, data"

static const char *const SQL[ST_COUNT] = {
    [ST_BEGIN] = "BEGIN IMMEDIATE",
    [ST_COMMIT] = "COMMIT",
    [ST_ROLLBACK] = "ROLLBACK",
    [ST_INSERT] = "INSERT INTO tasks(id, created_at, spec, state, version, status, idempotency_key, body_hash)"
                  " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [ST_UPDATE] = "UPDATE tasks SET state = ?2, version = ?3, status = ?4 WHERE id = ?1",
    [ST_UPDATE_SPEC] = "UPDATE tasks SET spec = ?2, version = ?3 WHERE id = ?1",
    [ST_DELETE] = "DELETE FROM tasks WHERE id = ?1",
    [ST_EACH] = "SELECT id, created_at, spec, state, version, status, idempotency_key, body_hash FROM tasks"
                " ORDER BY created_at, id",
    [ST_EVENT_ADD] = "INSERT INTO events(time, type, task, name, labels, data, total)"
                     " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [ST_EVENT_PRUNE] = "DELETE FROM events WHERE seq < ?1",
    [ST_EVENT_RANGE] = "SELECT (SELECT min(seq) FROM events), (SELECT seq FROM sqlite_sequence WHERE name = 'events')",
    [ST_EVENT_TOTAL] = "SELECT total FROM events WHERE seq = ?1",
    [ST_EVENT_BEYOND] = "SELECT min(seq) FROM events WHERE seq >= ?1 AND seq < ?2 AND total > ?3",
    [ST_EVENT_PAGE] = "SELECT " EVENT_COLUMNS " FROM events WHERE seq > ?2 ORDER BY seq LIMIT ?3",
    [ST_EVENT_PAGE_OF_TASK] = "SELECT " EVENT_COLUMNS " FROM events WHERE task = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    [ST_EVENT_TAIL] = "SELECT seq FROM events ORDER BY seq DESC LIMIT 1 OFFSET ?2",
    [ST_EVENT_TAIL_OF_TASK] = "SELECT seq FROM events WHERE task = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2",
};

/* The n-th leads from schema n to n + 1; a new file has schema 0. */
static const char *const migrations[] = {
    "CREATE TABLE tasks(id TEXT PRIMARY KEY, created_at INTEGER NOT NULL, spec TEXT NOT NULL, state INTEGER NOT NULL,"
    " version INTEGER NOT NULL, status BLOB NOT NULL, idempotency_key TEXT UNIQUE, body_hash TEXT) STRICT;",
    /* AUTOINCREMENT: a number is never given twice, also when the newest row is gone (sqlite.org/autoinc.html). */
    "CREATE TABLE events(seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, type TEXT NOT NULL, task TEXT,"
    " name TEXT, labels TEXT, data TEXT NOT NULL) STRICT;"
    "CREATE INDEX events_by_task ON events(task, seq) WHERE task IS NOT NULL;",
    "ALTER TABLE events ADD COLUMN total INTEGER NOT NULL DEFAULT 0;",
};
enum { SCHEMA_VERSION = sizeof(migrations) / sizeof(migrations[0]) };

int store_fail(struct store *s, int status, const char *what, struct err *e)
{
    int rc = s->db ? sqlite3_errcode(s->db) & 0xff : SQLITE_NOMEM;
    bool damaged = rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB, conflict = rc == SQLITE_CONSTRAINT;

    return err_set(e, conflict ? 409 : status,
                   damaged    ? STORE_DAMAGED
                   : conflict ? STORE_CONFLICT
                              : "store",
                   "%s: %s", what, s->db ? sqlite3_errmsg(s->db) : "out of memory");
}

static int schema_version(struct store *s, int *version)
{
    sqlite3_stmt *st = NULL;
    int rc = -1;

    if (sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW) {
        *version = sqlite3_column_int(st, 0);
        rc = 0;
    }
    sqlite3_finalize(st);
    return rc;
}

/* The structure of all tables, which no query would show in full (sqlite.org/pragma.html#pragma_quick_check). */
static int check(struct store *s, struct err *e)
{
    _cleanup_free_ char *result = NULL;
    sqlite3_stmt *st = NULL;

    if (sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        result = xstrdup((const char *)sqlite3_column_text(st, 0));
    int rc = result ? 0 : store_fail(s, 500, "cannot check the database", e);
    sqlite3_finalize(st);
    if (result && strcmp(result, "ok") != 0)
        rc = err_set(e, 500, STORE_DAMAGED, "the database is damaged: %.160s", result);
    return rc;
}

/* Step by step, each whole or not at all. */
static int migrate(struct store *s, int version, struct err *e)
{
    for (; version < SCHEMA_VERSION; version++) {
        _cleanup_free_ char *sql =
            xasprintf("BEGIN IMMEDIATE; %s PRAGMA user_version = %d; COMMIT;", migrations[version], version + 1);

        if (sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK)
            return store_fail(s, 500, "cannot create the tables", e);
    }
    return 0;
}

static int prepare(struct store *s, struct err *e)
{
    int version;

    sqlite3_busy_timeout(s->db, BUSY_MS);
    /* FULL: a commit is on the disk when it returns, also in WAL mode (sqlite.org/pragma.html#pragma_synchronous). */
    if (sqlite3_exec(s->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;", NULL, NULL, NULL) != SQLITE_OK ||
        schema_version(s, &version) < 0)
        return store_fail(s, 500, "cannot read the database", e);
    s->is_new = version == 0;
    if (version > SCHEMA_VERSION)
        return err_set(e, 500, STORE_DAMAGED, "the database has schema %d, this program knows %d: it is too old",
                       version, SCHEMA_VERSION);
    if (check(s, e) < 0 || migrate(s, version, e) < 0)
        return -1;
    for (int i = 0; i < ST_COUNT; i++)
        if (sqlite3_prepare_v3(s->db, SQL[i], -1, SQLITE_PREPARE_PERSISTENT, &s->st[i], NULL) != SQLITE_OK)
            return store_fail(s, 500, "cannot prepare a statement", e);
    return 0;
}

struct store *store_open(const char *dir, struct err *e)
{
    struct store *s = xcalloc(1, sizeof(*s));
    _cleanup_free_ char *path = xasprintf("%s/cloister.db", dir);

    if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK)
        store_fail(s, 500, path, e);
    else if (prepare(s, e) == 0)
        return s;
    store_close(s);
    return NULL;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    for (int i = 0; i < ST_COUNT; i++)
        sqlite3_finalize(s->st[i]);
    sqlite3_close(s->db);
    free(s);
}

int store_run(struct store *s, enum statement which, const char *what, struct err *e)
{
    bool commits = which == ST_COMMIT || sqlite3_get_autocommit(s->db);
    int64_t began = clock_mono_ns();
    int rc = sqlite3_step(s->st[which]) == SQLITE_DONE ? 0 : store_fail(s, 503, what, e);

    if (commits && which != ST_BEGIN)
        histogram_add(&s->commits, clock_mono_ns() - began);
    store_reset(s, which);
    return rc;
}

void store_reset(struct store *s, enum statement which)
{
    sqlite3_reset(s->st[which]);
    sqlite3_clear_bindings(s->st[which]);
}

void store_bind_text(struct store *s, enum statement which, int i, const char *text)
{
    sqlite3_bind_text(s->st[which], i, text, -1, SQLITE_STATIC);
}

int store_begin(struct store *s, struct err *e)
{
    return store_run(s, ST_BEGIN, "cannot begin a change", e);
}

int store_commit(struct store *s, struct err *e)
{
    if (store_run(s, ST_COMMIT, "cannot store the change", e) == 0)
        return 0;
    store_rollback(s);
    return -1;
}

void store_rollback(struct store *s)
{
    /* A failure may have rolled back by itself (sqlite.org/lang_transaction.html, 3). */
    if (!sqlite3_get_autocommit(s->db))
        sqlite3_step(s->st[ST_ROLLBACK]);
    store_reset(s, ST_ROLLBACK);
}

const struct histogram *store_commits(const struct store *s)
{
    return &s->commits;
}

int store_insert(struct store *s, const struct task_row *r, struct err *e)
{
    sqlite3_stmt *st = s->st[ST_INSERT];

    store_bind_text(s, ST_INSERT, 1, r->id);
    sqlite3_bind_int64(st, 2, r->created_at);
    store_bind_text(s, ST_INSERT, 3, r->spec);
    sqlite3_bind_int(st, 4, r->state);
    sqlite3_bind_int64(st, 5, r->version);
    sqlite3_bind_blob(st, 6, &r->status, r->status.head.size, SQLITE_STATIC);
    store_bind_text(s, ST_INSERT, 7, r->idempotency_key);
    store_bind_text(s, ST_INSERT, 8, r->body_hash);
    return store_run(s, ST_INSERT, "cannot store the task", e);
}

int store_update(struct store *s, const struct task_row *r, struct err *e)
{
    sqlite3_stmt *st = s->st[ST_UPDATE];

    store_bind_text(s, ST_UPDATE, 1, r->id);
    sqlite3_bind_int(st, 2, r->state | (r->removing ? REMOVING : 0));
    sqlite3_bind_int64(st, 3, r->version);
    sqlite3_bind_blob(st, 4, &r->status, r->status.head.size, SQLITE_STATIC);
    return store_run(s, ST_UPDATE, "cannot store the task's change", e);
}

int store_update_spec(struct store *s, const char *id, const char *spec, int64_t version, struct err *e)
{
    sqlite3_stmt *st = s->st[ST_UPDATE_SPEC];

    store_bind_text(s, ST_UPDATE_SPEC, 1, id);
    store_bind_text(s, ST_UPDATE_SPEC, 2, spec);
    sqlite3_bind_int64(st, 3, version);
    return store_run(s, ST_UPDATE_SPEC, "cannot store the task's change", e);
}

int store_delete(struct store *s, const char *id, struct err *e)
{
    store_bind_text(s, ST_DELETE, 1, id);
    return store_run(s, ST_DELETE, "cannot delete the task", e);
}

int store_each(struct store *s, void (*fn)(void *arg, const struct task_row *r), void *arg, struct err *e)
{
    sqlite3_stmt *st = s->st[ST_EACH];
    int rc;

    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct task_row r = {0};
        const unsigned char *id = sqlite3_column_text(st, 0);

        snprintf(r.id, sizeof(r.id), "%s", id ? (const char *)id : "");
        r.created_at = sqlite3_column_int64(st, 1);
        r.spec = (const char *)sqlite3_column_text(st, 2);
        r.state = sqlite3_column_int(st, 3) & ~REMOVING;
        r.removing = sqlite3_column_int(st, 3) & REMOVING;
        r.version = sqlite3_column_int64(st, 4);
        /* Without a status that can be read the task is still known, only its details are not. */
        const void *status = sqlite3_column_blob(st, 5);
        if (!status || !message_open(status, (size_t)sqlite3_column_bytes(st, 5), MSG_RUN_STATUS, &r.status))
            r.status = (struct run_status){.head = message_head(MSG_RUN_STATUS)};
        r.idempotency_key = (const char *)sqlite3_column_text(st, 6);
        r.body_hash = (const char *)sqlite3_column_text(st, 7);
        fn(arg, &r);
    }
    int result = rc == SQLITE_DONE ? 0 : store_fail(s, 503, "cannot read the tasks", e);
    sqlite3_reset(st);
    return result;
}

int store_probe(struct store *s, struct err *e)
{
    /* Its page is written whatever the value was. */
    _cleanup_free_ char *sql = xasprintf("PRAGMA user_version = %d", SCHEMA_VERSION);

    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0
                                                                   : store_fail(s, 503, "cannot write the database", e);
}

bool store_is_new(const struct store *s)
{
    return s->is_new;
}
