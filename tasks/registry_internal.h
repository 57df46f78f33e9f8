/* Private to tasks/: what the registry holds, and the calls between its files. */
#ifndef CLOISTER_TASKS_REGISTRY_INTERNAL_H
#define CLOISTER_TASKS_REGISTRY_INTERNAL_H

#include "base/map.h"
#include "tasks/events.h"
#include "tasks/registry.h"
#include "tasks/store.h"

enum { LAUNCHES_AT_ONCE = 64 /* after one commit: they wait in the launcher's socket, each with two fds */ };

struct subscription {
    struct registry *registry;
    registry_changed fn; /* NULL: unsubscribed while a change was being announced */
    void *arg;
    struct subscription *next;
};

struct removal { /* somebody waits for the launcher to have removed a task; several may wait for the same */
    char id[ID_LEN + 1];
    registry_done done;
    void *arg;
    struct removal *next;
};

struct event_range {      /* what is kept */
    int64_t first, last;  /* numbers: oldest, newest */
    int64_t below, total; /* bytes, since the log began: of all before the oldest, about; of all */
};

struct event_log {
    struct event_range range;
    struct event *pending, *last_pending;
    int64_t pending_bytes;
    bool failed; /* the last try to write */
    struct events_watch *watches;
    unsigned int telling; /* depth */
    struct event_counters counters;
};

struct registry {
    struct registry_config config;
    struct store *store;
    struct task *first, *last;
    struct map by_id, by_key;
    struct event_log events;
    int64_t version;
    uint64_t starts;
    struct subscription *subscriptions;
    unsigned int announcing; /* depth */
    struct removal *removals;
    struct unsettled *unsettled, *last_unsettled; /* oldest change first */
    struct creation *creations, *last_creation;
    size_t ncreations;
    struct loop_source *settling, *retry; /* at the end of this turn; after the store has failed */
    struct loop_source *launcher_source;
    struct loop_source *pump; /* admission: tasks that wait are looked at in the next turn */
    struct gc *gc;
    struct map unknown; /* ids of rows that are not understood and left alone; the keys are ours */
    char boot_id[40];
    bool launcher_gone, shutting_down;
};

/* registry.c */
void registry_append(struct registry *r, struct task *t);
void registry_unlink(struct registry *r, struct task *t);
/* Calls the subscribers. */
void registry_announce(struct registry *r, struct task *t);
void task_free(struct task *t);
/* For registry_transaction: deletes the row of this id. */
int registry_delete_row(struct registry *r, const void *id, struct err *e);

/* settle.c */
/* The row of t is written, or deleted when its files are gone, at the end of this turn. Nobody is told of it. */
void registry_mark(struct registry *r, struct task *t);
/* t has changed: as registry_mark, with the event that tells it; then the subscribers are told. While the store takes
 * nothing they are told all the same, and the change waits. */
void registry_commit(struct registry *r, struct task *t);
/* Writes all that has changed since the last time, and by `change` (may be NULL), in one transaction; then launches
 * what was created and tells whoever waits. -1 with e (503): nothing is written, all of it waits and is tried again. */
int registry_transaction(struct registry *r, int (*change)(struct registry *r, const void *arg, struct err *e),
                         const void *arg, struct err *e);
/* At the end of this turn. */
void registry_settle_later(struct registry *r);
/* As registry_settle; -1 with e when the store does not take it: new tasks and ends of removals are refused, the rest
 * waits. */
int registry_settle_now(struct registry *r, struct err *e);
void settle_free(struct registry *r);

/* creation.c */
/* Inserts the rows of all new tasks; one that the store can never take is marked, and refused afterwards. */
int creation_write(struct registry *r, struct err *e);
/* Takes all new tasks out of the list. */
struct creation *creation_take(struct registry *r);
/* They are stored: launches those that have room, and answers; frees them. */
void creation_launch_all(struct registry *r, struct creation *c);
/* They are not. */
void creation_refuse_all(struct registry *r, const struct err *e);

/* sweep.c: asks for the removal of directories that belong to no row. -1 with e when the rows are missing instead. */
int sweep_directories(struct registry *r, struct err *e);
/* removal.c: t, which has ended, and its files go. */
void removal_begin(struct registry *r, struct task *t);
/* What settle.c has marked is stored: the next step. */
void removal_stored(struct registry *r, struct task *t);
/* It is not. */
void removal_refused(struct registry *r, struct task *t, const struct err *e);
/* The launcher's answer to REMOVE_TASK; and at the end of the registry. */
void removal_reply(struct registry *r, const char *id, const struct err *e);
void removal_fail_all(struct registry *r, const struct err *e);

/* admission.c */
/* 422 by field when the host could never hold it. */
int admission_check(const struct registry *r, const struct spec *s, struct err *e);
/* The state in which a new task begins: starting or pending; -1 with e (as admission_check; 503: not now). */
int admission_decide(const struct registry *r, const struct spec *s, enum task_state *state, struct err *e);
/* Whether t may have s instead of its spec: 422 as admission_check, 503 when it lives and there is no room for more. */
int admission_change(const struct registry *r, const struct task *t, const struct spec *s, struct err *e);
/* Room may have come free: starts who waits, in the loop's next turn. */
void admission_pump(struct registry *r);
/* A pending task will never start; -1 with e (503) when that cannot be stored: then it waits on. */
int admission_cancel(struct registry *r, struct task *t, struct err *e);

/* gc.c */
void gc_start(struct registry *r);
void gc_stop(struct registry *r);
void gc_ended(struct registry *r, const struct task *t);
/* events.c */
int events_open(struct registry *r, struct err *e);
void events_close(struct registry *r);
/* Within a transaction: writes all events that wait, and removes old ones; *g becomes what is kept then. */
int events_write(struct registry *r, struct event_range *g, struct err *e);
/* It is durable: they have numbers and are told. */
void events_written(struct registry *r, const struct event_range *g);
/* Drops what waits about this task (EVENT_TYPES: of any type): the change that it tells is refused. */
void events_forget(struct registry *r, const char *task, enum event_type type);
/* Of this task, those that are not yet in the store; as events_read, but without numbers. */
void events_pending(struct registry *r, const char *task, bool (*fn)(void *arg, const struct event_row *v), void *arg);
/* transitions.c: emits what t has become since the last time. */
void events_transition(struct registry *r, struct task *t);
/* step, code, detail and errno, as parts of an event's data. */
void events_put_failure(struct json *j, const struct err *e);

/* exec.c: a status that another process has sent or recorded; its texts are made to have an end. False when it is not
 * of this session. */
bool exec_status_accept(struct session_status *s, const char *id);
/* exec_events.c: the events of exec sessions. */
struct exec_told; /* what the scan of a task's sessions has told: its supervisor may say it once more */
/* The supervisor says that a session of t runs or has ended. told: of this connection, or NULL. */
void exec_events_apply(struct registry *r, const struct task *t, struct exec_told *told,
                       const struct session_status *s);
/* Emits what the sessions of t on disk have become and the log does not hold yet. over: its supervisor is gone, so
 * those that have no end are lost; t itself has not been told to have ended. The log is not read when there are no
 * sessions. The caller frees the result. */
struct exec_told *exec_events_recover(struct registry *r, const struct task *t, bool over);
void exec_told_free(struct exec_told *told); /* NULL allowed */

/* link.c: the supervisors. */
/* op: LAUNCH_TASK or LAUNCH_AGAIN. */
int link_launch(struct registry *r, struct task *t, enum launcher_op op, const char *spec_json, struct err *e);

/* -1 with errno: ECONNREFUSED or ENOENT when there is no supervisor, others when that cannot be told now. */
int link_adopt(struct registry *r, struct task *t);
/* Calls every pending done with e. */
void link_close(struct task *t, const struct err *e);
/* fd goes along and stays the caller's; -1: none. */
void link_request(struct task *t, struct supervisor_request *q, int fd, registry_done done, void *arg);
/* As link_request, with an fd on which the answer comes. 0, or -1 with e when the supervisor cannot be asked. */
int link_send(struct task *t, struct supervisor_request *q, int fd, struct err *e);
/* As link_request, for an exec session; the first awaits no reply: what becomes of it is told over the channel that is
 * among the fds. */
int link_send_session(struct task *t, struct session_request *q, const int *fds, size_t n, struct err *e);
void link_request_session(struct task *t, struct session_request *q, registry_done done, void *arg);
/* The spec in memory that nobody can change any more: the supervisor reads it with all power. fd or -1. */
int link_spec_memfd(const char *text);

/* launcher.c: the launcher. */
int launcher_watch(struct registry *r, struct err *e);
int launcher_ask(struct registry *r, enum launcher_op op, const char *id, const int *fds, size_t n, struct err *e);

/* update.c: sends the stored spec to a supervisor that has just been found again: the server may have died between
 * storing a change and telling it. */
void update_again(struct task *t);

/* recover.c */
/* t (live) has no link: its supervisor is found again; or it is gone, and its record decides, or the launcher cleans up
 * first; or neither can be told now, and it is tried again in a moment. */
void recover_link(struct registry *r, struct task *t);
/* The supervisor of t, which has ended, is gone: a socket that it did not live to remove is. */
void recover_socket(struct registry *r, const struct task *t);
/* Whether t has run, or was about to, in an earlier boot of the host, and not in this one. */
bool recover_rebooted(const struct registry *r, const struct task *t);
/* t never ran, and never will: it has failed, for the reason e; to be committed by the caller. */
void recover_fail(struct registry *r, struct task *t, const struct err *e);
/* How t ended is not known. It is lost, for this reason; to be committed by the caller. */
void recover_lose(struct registry *r, struct task *t, const char *reason);
/* The launcher's answer to CLEAN_TASK. */
void recover_cleaned(struct registry *r, struct task *t, const struct err *e);
/* Takes a status over into t, without storing it; false when it changes nothing or is not t's. */
bool recover_apply(struct task *t, const struct run_status *s);
/* Fills the registry from the store, then finds the supervisors again. */
int recover_all(struct registry *r, struct err *e);

#endif
