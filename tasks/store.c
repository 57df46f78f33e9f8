#include "tasks/store.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"

enum { SCHEMA_VERSION = 1, BUSY_MS = 2000 };

enum statement { ST_INSERT, ST_UPDATE, ST_UPDATE_SPEC, ST_DELETE, ST_EACH, ST_COUNT };

static const char *const SQL[ST_COUNT] = {
    [ST_INSERT] = "INSERT INTO tasks(id, created_at, spec, state, version, status, idempotency_key, body_hash)"
                  " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [ST_UPDATE] = "UPDATE tasks SET state = ?2, version = ?3, status = ?4 WHERE id = ?1",
    [ST_UPDATE_SPEC] = "UPDATE tasks SET spec = ?2, version = ?3 WHERE id = ?1",
    [ST_DELETE] = "DELETE FROM tasks WHERE id = ?1",
    [ST_EACH] = "SELECT id, created_at, spec, state, version, status, idempotency_key, body_hash FROM tasks"
                " ORDER BY created_at, id",
};

static const char SCHEMA[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE tasks(id TEXT PRIMARY KEY, created_at INTEGER NOT NULL, spec TEXT NOT NULL, state INTEGER NOT NULL,"
    " version INTEGER NOT NULL, status BLOB NOT NULL, idempotency_key TEXT UNIQUE, body_hash TEXT) STRICT;"
    "PRAGMA user_version = 1;"
    "COMMIT;";

struct store {
    sqlite3 *db;
    sqlite3_stmt *st[ST_COUNT];
    bool failed; /* the last write did */
};

static int fail(struct store *s, int status, const char *what, struct err *e)
{
    return err_set(e, status, "store", "%s: %s", what, s->db ? sqlite3_errmsg(s->db) : "out of memory");
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

static int prepare(struct store *s, struct err *e)
{
    int version;

    sqlite3_busy_timeout(s->db, BUSY_MS);
    /* FULL: a commit is on the disk when it returns, also in WAL mode (sqlite.org/pragma.html#pragma_synchronous). */
    if (sqlite3_exec(s->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;", NULL, NULL, NULL) != SQLITE_OK ||
        schema_version(s, &version) < 0)
        return fail(s, 500, "cannot read the database", e);
    if (version > SCHEMA_VERSION)
        return err_set(e, 500, "store", "the database has schema %d, this program knows %d: it is too old", version,
                       SCHEMA_VERSION);
    if (version == 0 && sqlite3_exec(s->db, SCHEMA, NULL, NULL, NULL) != SQLITE_OK)
        return fail(s, 500, "cannot create the tables", e);
    for (int i = 0; i < ST_COUNT; i++)
        if (sqlite3_prepare_v3(s->db, SQL[i], -1, SQLITE_PREPARE_PERSISTENT, &s->st[i], NULL) != SQLITE_OK)
            return fail(s, 500, "cannot prepare a statement", e);
    return 0;
}

struct store *store_open(const char *dir, struct err *e)
{
    struct store *s = xcalloc(1, sizeof(*s));
    _cleanup_free_ char *path = xasprintf("%s/cloister.db", dir);

    if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK)
        fail(s, 500, path, e);
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

/* Runs a statement that gives no rows; afterwards it is ready for the next use. */
static int run(struct store *s, enum statement which, const char *what, struct err *e)
{
    sqlite3_stmt *st = s->st[which];
    int rc = sqlite3_step(st) == SQLITE_DONE ? 0 : fail(s, 503, what, e);

    s->failed = rc < 0;
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return rc;
}

static void bind_text(sqlite3_stmt *st, int i, const char *text)
{
    sqlite3_bind_text(st, i, text, -1, SQLITE_STATIC); /* NULL binds NULL */
}

int store_insert(struct store *s, const struct task_row *r, struct err *e)
{
    sqlite3_stmt *st = s->st[ST_INSERT];

    bind_text(st, 1, r->id);
    sqlite3_bind_int64(st, 2, r->created_at);
    bind_text(st, 3, r->spec);
    sqlite3_bind_int(st, 4, r->state);
    sqlite3_bind_int64(st, 5, r->version);
    sqlite3_bind_blob(st, 6, &r->status, sizeof(r->status), SQLITE_STATIC);
    bind_text(st, 7, r->idempotency_key);
    bind_text(st, 8, r->body_hash);
    return run(s, ST_INSERT, "cannot store the task", e);
}

int store_update(struct store *s, const struct task_row *r, struct err *e)
{
    sqlite3_stmt *st = s->st[ST_UPDATE];

    bind_text(st, 1, r->id);
    sqlite3_bind_int(st, 2, r->state);
    sqlite3_bind_int64(st, 3, r->version);
    sqlite3_bind_blob(st, 4, &r->status, sizeof(r->status), SQLITE_STATIC);
    return run(s, ST_UPDATE, "cannot store the task's change", e);
}

int store_update_spec(struct store *s, const char *id, const char *spec, int64_t version, struct err *e)
{
    sqlite3_stmt *st = s->st[ST_UPDATE_SPEC];

    bind_text(st, 1, id);
    bind_text(st, 2, spec);
    sqlite3_bind_int64(st, 3, version);
    return run(s, ST_UPDATE_SPEC, "cannot store the task's change", e);
}

int store_delete(struct store *s, const char *id, struct err *e)
{
    bind_text(s->st[ST_DELETE], 1, id);
    return run(s, ST_DELETE, "cannot delete the task", e);
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
        r.state = sqlite3_column_int(st, 3);
        r.version = sqlite3_column_int64(st, 4);
        /* A status of another size is another version's: the task is still known, only its details are not. */
        if (sqlite3_column_bytes(st, 5) == (int)sizeof(r.status))
            memcpy(&r.status, sqlite3_column_blob(st, 5), sizeof(r.status));
        r.idempotency_key = (const char *)sqlite3_column_text(st, 6);
        r.body_hash = (const char *)sqlite3_column_text(st, 7);
        fn(arg, &r);
    }
    int result = rc == SQLITE_DONE ? 0 : fail(s, 503, "cannot read the tasks", e);
    sqlite3_reset(st);
    return result;
}

bool store_healthy(struct store *s)
{
    if (!s->failed)
        return true;
    /* The last write failed: see whether one would work now. */
    if (sqlite3_exec(s->db, "BEGIN IMMEDIATE; ROLLBACK;", NULL, NULL, NULL) != SQLITE_OK)
        return false;
    s->failed = false;
    return true;
}
