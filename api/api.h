/* What every handler needs, and the route table. */
#ifndef CLOISTER_API_API_H
#define CLOISTER_API_API_H

#include "server/router.h"
#include "tasks/logwatch.h"
#include "tasks/registry.h"

struct api {
    struct registry *registry;
    struct logwatch *logwatch; /* tells who follows a log that it has grown */
    struct json *config;       /* for GET /v1/config */
    struct embedded {
        const char *text;
        size_t len;
    } openapi_yaml, openapi_json; /* the contract */
    const char *version;
    int64_t started_at;        /* ns */
    int64_t metrics_tasks_max; /* how many tasks GET /metrics tells one by one */
};

extern const struct route api_routes[]; /* api/routes.c */

/* One file a resource. */
void root_get(struct request *q);
void tasks_create(struct request *q);
void tasks_list(struct request *q);
void tasks_get(struct request *q);
void tasks_delete(struct request *q);
void task_signal(struct request *q);
void task_stop(struct request *q);
void task_restart(struct request *q);
void task_pause(struct request *q);
void task_resume(struct request *q);
void task_patch(struct request *q);
void task_logs(struct request *q);
void task_exec(struct request *q);
void task_exec_open(struct request *q);
void execs_attach(struct request *q);
void execs_list(struct request *q);
void execs_get(struct request *q);
void execs_logs(struct request *q);
void execs_signal(struct request *q);
void stdin_write(struct request *q);
void files_read(struct request *q);
void files_write(struct request *q);
void files_remove(struct request *q);
void task_events(struct request *q);
void task_stats(struct request *q);
void events_list(struct request *q);
void attributes_list(struct request *q);
void attributes_get(struct request *q);
void driver_get(struct request *q);
void node_get(struct request *q);
void gc_post(struct request *q);
void config_get(struct request *q);
void health_live(struct request *q);
void health_ready(struct request *q);
void metrics_get(struct request *q);
void openapi_yaml(struct request *q);
void openapi_json(struct request *q);

struct json *task_view(const struct task *t); /* api/views.c: task to JSON */

#endif
