/* Private to metrics.c and metrics_sources.c: one scrape of GET /metrics. */
#ifndef CLOISTER_API_METRICS_H
#define CLOISTER_API_METRICS_H

#include "api/api.h"
#include "base/buf.h"
#include "base/histogram.h"
#include "tasks/events.h"

struct task_sample { /* a task that runs */
    const struct task *task;
    struct cgroup_usage usage;
};

struct scrape { /* what the values are taken from */
    struct buf out;
    const struct api *api;
    const struct http_counters *http;
    const struct event_counters *events;
    const struct histogram *turns, *commits;
    bool names; /* who asks may know tasks by name */
    size_t states[TASK_STATES];
    struct task_sample *tasks; /* the newest that run */
    size_t ntasks, omitted;
    struct cgroup_usage all;                                              /* of all tasks together */
    double cpu_seconds, resident_bytes, virtual_bytes, open_fds, max_fds; /* of this process; -1 unknown */
};

/* metrics_sources.c: fills all but out; released by scrape_free. */
void scrape_fill(struct scrape *s, struct request *q);
void scrape_free(struct scrape *s);

#endif
