/* The log of events: durable, numbered, written in the transaction of the change that it tells. */
#ifndef CLOISTER_TASKS_EVENTS_H
#define CLOISTER_TASKS_EVENTS_H

#include "base/json.h"
#include "tasks/store.h"
#include "tasks/task.h"

struct registry;

enum event_type { /* a new one needs its row in events.c, and its name in openapi.yaml */
                  EVENT_SERVER_STARTED,
                  EVENT_SERVER_RECOVERED,
                  EVENT_TASK_CREATED,
                  EVENT_TASK_PENDING,
                  EVENT_TASK_STARTING,
                  EVENT_TASK_RUNNING,
                  EVENT_TASK_PAUSED,
                  EVENT_TASK_RESUMED,
                  EVENT_TASK_STOPPING,
                  EVENT_TASK_RESTARTING,
                  EVENT_TASK_EXITED,
                  EVENT_TASK_FAILED,
                  EVENT_TASK_LOST,
                  EVENT_TASK_OOM,
                  EVENT_TASK_SIGNALED,
                  EVENT_TASK_UPDATED,
                  EVENT_TASK_REMOVED,
                  EVENT_EXEC_STARTED,
                  EVENT_EXEC_EXITED,
                  EVENT_EXEC_FAILED,
                  EVENT_EXEC_LOST,
                  EVENT_TASK_PROGRESS,
                  EVENT_TYPES,
};

const char *event_type_name(enum event_type t); /* "task.created" */
/* Whether `filter`, a whole name or a beginning that ends with a dot ("task."), selects the type of that name. */
bool event_type_matches(const char *filter, const char *name);
/* Whether it selects any type at all. */
bool event_filter_known(const char *filter);

/* Queues an event about t (NULL: about no task) with these data (taken; NULL: none). It is written with the changes of
 * this turn of the loop. */
void events_emit(struct registry *r, enum event_type type, const struct task *t, struct json *data);

/* Numbers of the oldest event that is kept (last + 1 when none is) and of the newest. Whoever has read the state of all
 * tasks and then reads events after `last` misses nothing. */
int64_t events_first(const struct registry *r);
int64_t events_last(const struct registry *r);
/* As store_events_read and store_events_tail. */
int events_read(struct registry *r, const char *task, int64_t after, int limit,
                bool (*fn)(void *arg, const struct event_row *v), void *arg, struct err *e);
int events_tail(struct registry *r, const char *task, int64_t n, int64_t *before, struct err *e);

/* fn runs for each event once it is durable, in order, until unwatched. */
struct events_watch;
struct events_watch *events_watch(struct registry *r, void (*fn)(void *arg, const struct event_row *v), void *arg);
void events_unwatch(struct events_watch *w); /* safe within fn; NULL allowed */

enum { EVENT_STEPS = 32, EVENT_STEP_NAME = 32 };

struct event_counters { /* since this process began */
    uint64_t by_type[EVENT_TYPES];
    uint64_t oom_kills, log_bytes[2]; /* processes; output of tasks, of stdout and stderr */
    struct {
        char step[EVENT_STEP_NAME];
        uint64_t n;
    } failures[EVENT_STEPS]; /* by isolation step, in order of appearance; the last takes the rest as "other" */
    size_t nfailures, watchers;
};
const struct event_counters *events_counters(const struct registry *r);

#endif
