/* GET /v1/node and POST /v1/gc. */
#include <stdlib.h>

#include "api/common.h"
#include "base/buf.h"
#include "base/cleanup.h"

static struct json *amounts(int64_t memory_mib, int64_t cores, int64_t cpu_mhz)
{
    struct json *j = json_object();

    json_set_int(j, "memory", memory_mib);
    json_set_int(j, "cores", cores);
    json_set_int(j, "cpu", cpu_mhz);
    return j;
}

void node_get(struct request *q)
{
    struct registry *r = request_registry(q);
    const struct registry_limits *l = registry_limits(r);
    struct json *j = json_object(), *tasks = json_object();
    struct capacity used;
    size_t counts[TASK_STATES];

    registry_allocated(r, &used);
    registry_counts(r, counts);
    json_set(j, "total", amounts(l->memory_mib, l->cores, l->cpu_mhz));
    json_set(j, "reserved", amounts(l->memory_reserved_mib, 0, l->cpu_reserved_mhz));
    json_set(j, "allocated", amounts(used.memory_mib, used.cores, used.cpu_mhz));
    json_set(j, "free",
             amounts(l->memory_mib - l->memory_reserved_mib - used.memory_mib, l->cores - used.cores,
                     l->cpu_mhz - l->cpu_reserved_mhz - used.cpu_mhz));
    for (int s = TASK_PENDING; s < TASK_STATES; s++)
        json_set_int(tasks, task_state_name((enum task_state)s), (int64_t)counts[s]);
    json_set(j, "tasks", tasks);
    json_set(j, "max_tasks", l->max_tasks ? json_new_int(l->max_tasks) : json_new_null());
    reply_json(q, 200, j);
}

struct waiting {       /* a POST /v1/gc */
    struct request *q; /* NULL when the client has left */
    bool busy;
};

static void on_end(void *arg)
{
    struct waiting *w = arg;

    w->q = NULL;
    if (!w->busy)
        free(w);
}

static void on_collected(void *arg, size_t removed)
{
    struct waiting *w = arg;

    w->busy = false;
    if (!w->q) {
        free(w);
        return;
    }
    struct json *j = json_object();
    json_set_int(j, "removed", (int64_t)removed);
    reply_json(w->q, 200, j);
}

void gc_post(struct request *q)
{
    struct err e = {0};
    _cleanup_json_ struct json *j = body_object(q, true, &e);

    if (!j || only_fields(j, "", "", &e) < 0) {
        reply_problem(q, &e);
        return;
    }
    struct waiting *w = xcalloc(1, sizeof(*w));
    *w = (struct waiting){.q = q, .busy = true};
    request_on_end(q, on_end, w);
    registry_gc(request_registry(q), on_collected, w);
}
