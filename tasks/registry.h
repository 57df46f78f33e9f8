/* All tasks of this server: creation, the connections to launcher and supervisors, recovery at start. */
#ifndef CLOISTER_TASKS_REGISTRY_H
#define CLOISTER_TASKS_REGISTRY_H

#include "base/histogram.h"
#include "base/loop.h"
#include "isolation/policy.h"
#include "isolation/probe.h"
#include "tasks/task.h"

struct registry_limits {
    int64_t memory_mib, memory_reserved_mib; /* of the host, and of it not for tasks */
    int64_t cores;                           /* that tasks may have for themselves */
    int64_t cpu_mhz, cpu_reserved_mhz;
    int64_t max_tasks, max_queued;                                      /* 0: no bound */
    int64_t gc_interval_ms, gc_min_age_ms, gc_max_age_ms, gc_max_tasks; /* 0 of the last two: no bound */
    int64_t gc_disk_percent, gc_inode_percent, gc_parallel;
};

struct registry_config {
    struct loop *loop;
    const struct policy *policy; /* state_dir, run_dir; and to answer well */
    const struct cgroup_host *cgroups;
    const struct attributes *attributes;
    struct registry_limits limits;
    int launcher_fd;                      /* SOCK_SEQPACKET */
    int64_t events_max, events_max_bytes; /* how many events are kept, and how much of them */
};

/* Opens <state_dir>/server/, reads all rows, adopts live supervisors, reads records of dead ones, asks the launcher to
 * clean up after those that left neither (failed when it never ran, else lost). NULL on error. */
struct registry *registry_open(const struct registry_config *c, struct err *e);
/* Closes connections and store; tasks go on. */
void registry_close(struct registry *r);

/* What creation refuses for good: 403 and 422, by field. s gets the bounds that the operator has set
 * (isolation/limits.h). */
int registry_check(const struct registry *r, struct spec *s, struct err *e);
/* A new task is stored, and its launch asked for (t), or it is refused (t NULL, e), and nothing of it is kept. */
typedef void (*registry_created)(void *arg, struct task *t, const struct err *e);
/* Takes over *s (moved): the task is starting, or pending when there is no room and it may wait. It is stored with all
 * else that changes in this turn of the loop, and launched after that; then done runs, once: with 503 when the store or
 * the launcher cannot take it. key and hash may be NULL. -1 with e, and done never runs: 503 when there is no room
 * ("no_capacity"); 403/422 by field when policy is plainly against it or the host could never hold it. */
int registry_create(struct registry *r, struct spec *s, const char *key, const char *hash, registry_created done,
                    void *arg, struct err *e);
/* Makes durable what has changed in this turn of the loop, before its end: what is read of tasks after it does not go
 * back when the server is killed. */
void registry_settle(struct registry *r);
struct task *registry_find(struct registry *r, const char *id);
struct task *registry_find_key(struct registry *r, const char *idempotency_key);
struct task *registry_first(struct registry *r); /* oldest; then task->next */
struct task *registry_last(struct registry *r);  /* newest; then task->prev */
/* How many tasks are in each state. */
void registry_counts(const struct registry *r, size_t out[TASK_STATES]);
int64_t registry_version(struct registry *r);       /* grows with any change, also over restarts */
uint64_t registry_starts(const struct registry *r); /* tasks taken since this process began */

/* Asks the supervisor. done(arg, err) runs once, later or at once; err->status 0 = done. 409 when it has ended. */
typedef void (*registry_done)(void *arg, const struct err *e);
void registry_signal(struct registry *r, struct task *t, int signum, bool all, registry_done done, void *arg);
/* signum 0 and timeout -1 take the spec's. Done when the supervisor took it (the end comes as a state change). */
void registry_stop(struct registry *r, struct task *t, int signum, int64_t timeout_ms, registry_done done, void *arg);
/* Ends the run (timeout -1: the spec's kill_timeout) and starts the next at once; done when it was taken. */
void registry_restart(struct registry *r, struct task *t, int64_t timeout_ms, registry_done done, void *arg);
/* Freezes or thaws the task; done when it is. */
void registry_pause(struct registry *r, struct task *t, bool paused, registry_done done, void *arg);
/* Takes over *s (moved) as the task's spec: stored first, then applied by its supervisor when it lives. When that fails
 * the old one is stored again. 409 while another change is under way; 422 and 503 as for a new task when it needs more
 * than the host has, or has room for. */
void registry_update(struct registry *r, struct task *t, struct spec *s, registry_done done, void *arg);
/* Removes an ended task and its files; *t is freed before done runs. 409 when it has not ended. */
void registry_remove(struct registry *r, struct task *t, registry_done done, void *arg);

struct capacity {
    int64_t memory_mib, cores, cpu_mhz, tasks;
};
/* What live tasks have been promised. */
void registry_allocated(const struct registry *r, struct capacity *c);
const struct registry_limits *registry_limits(const struct registry *r);

/* Tells the launcher, and through it the service manager, that this process serves. */
void registry_alive(struct registry *r);
/* Takes no more tasks, and stops those that live: the lowest priority first, each by its kill_signal and kill_timeout;
 * those of the next when these have ended. done runs when none lives. */
void registry_shutdown(struct registry *r, void (*done)(void *arg), void *arg);

/* Removes every task that has ended by now, in small steps; done(arg, count) runs once. */
typedef void (*registry_collected)(void *arg, size_t removed);
void registry_gc(struct registry *r, registry_collected done, void *arg);

/* fn runs at every change of any task (also of removal: t->removal), until unsubscribed. */
struct subscription;
typedef void (*registry_changed)(void *arg, struct task *t);
struct subscription *registry_subscribe(struct registry *r, registry_changed fn, void *arg);
void registry_unsubscribe(struct subscription *s); /* safe within fn; NULL allowed */

const struct attributes *registry_attributes(const struct registry *r);
/* 0, or -1 with e (503) telling why new tasks cannot be taken: store, launcher. */
int registry_ready(struct registry *r, struct err *e);
const struct policy *registry_policy(const struct registry *r);
const struct cgroup_host *registry_cgroups(const struct registry *r);
const struct histogram *registry_commits(const struct registry *r); /* how long the store's commits took */

#endif
