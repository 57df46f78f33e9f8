/* A task as the server knows it, and its state machine. */
#ifndef CLOISTER_TASKS_TASK_H
#define CLOISTER_TASKS_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "isolation/spec.h"
#include "supervisor/messages.h"

enum task_state {
    TASK_PENDING,
    TASK_STARTING,
    TASK_RUNNING,
    TASK_STOPPING,
    TASK_EXITED,
    TASK_FAILED,
    TASK_LOST,
    TASK_RESTARTING, /* between two runs */
    TASK_PAUSED,
    TASK_STATES,
};

enum task_removal {
    REMOVAL_NONE,
    REMOVAL_WANTED,
    REMOVAL_ASKED, /* of the launcher: the row said so first, lest a task without its files is found after a crash */
    REMOVAL_FILES, /* are gone: the row goes next */
};

struct registry;
struct link; /* connection to its supervisor */
struct unsettled;
struct loop_source;

struct task {
    char id[ID_LEN + 1];
    struct spec spec;
    enum task_state state;
    int64_t version, created_at;
    struct run_status status;
    char *idempotency_key, *body_hash;
    enum task_removal removal;
    bool updating;          /* its supervisor has been sent another spec and has not answered; */
    int64_t memory_before;  /* and until then it may have as much as this, MiB */
    bool collect;           /* by registry_gc */
    bool collected;         /* its removal is the garbage collection's */
    int64_t gc_retry_at_ms; /* CLOCK_BOOTTIME; after a removal that failed */
    bool feeding;           /* somebody writes into its standard input */
    /* private to the registry */
    struct registry *registry;
    struct link *link;
    struct unsettled *unsettled;    /* its last change is not stored yet */
    struct loop_source *relink;     /* looks for its supervisor again */
    struct task *prev, *next;       /* by creation */
    enum task_state told;           /* what events have told: state (TASK_STATES: nothing), */
    int64_t told_start;             /* started_at, */
    int64_t told_oom;               /* oom_kills, */
    int64_t told_end;               /* the last end, */
    int64_t told_files, told_bytes; /* and how far the copy of its root is: */
    bool from_row;                  /* its supervisor has not been heard since the server began */
    bool told_progress;             /* at least once in this start */
};

const char *task_state_name(enum task_state s); /* "running" */
int task_state_parse(const char *name);         /* -1 unknown */
bool task_ended(const struct task *t);          /* exited, failed, lost */
bool task_live(const struct task *t);           /* neither ended nor pending: it takes room */

/* code and signal, of which one is null, as in exit_info. */
void exit_put(struct json *j, int32_t code, int32_t signum);
/* How its last run ended: code, signal, oom_killed, reason, started_at, finished_at. The caller frees it. */
struct json *task_exit_json(const struct task *t);

#endif
