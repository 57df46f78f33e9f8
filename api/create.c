/* POST /v1/tasks: the spec is decoded, the task stored and launched; the answer waits for what the caller asked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/common.h"
#include "api/output.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/hash.h"

struct options {
    bool wait_exited, output, dry_run;
    int64_t timeout_ms;
};

struct creation {      /* a POST that waits */
    struct request *q; /* NULL when the client has left */
    struct registry *registry;
    char id[ID_LEN + 1];
    struct options options;
    bool busy; /* the registry will call back */
    struct err failure;
    struct subscription *subscription;
    struct loop_source *timer;
};

static void stop_waiting(struct creation *c)
{
    registry_unsubscribe(c->subscription);
    c->subscription = NULL;
    loop_remove(c->timer);
    c->timer = NULL;
}

static void on_end(void *arg)
{
    struct creation *c = arg;

    stop_waiting(c);
    c->q = NULL;
    if (!c->busy)
        free(c);
}

static void reply_task(struct request *q, struct task *t, bool output)
{
    _cleanup_free_ char *location = xasprintf("/v1/tasks/%s", t->id);
    struct json *j = task_view(t);

    if (output && t->state == TASK_EXITED)
        json_set(j, "output", output_view(request_registry(q), t));
    reply_header(q, "Location", location);
    reply_json(q, 201, j);
}

static void on_failed_removed(void *arg, const struct err *result)
{
    struct creation *c = arg;

    (void)result; /* what could not be removed is in the launcher's log; the caller asked why the start failed */
    c->busy = false;
    if (c->q)
        reply_problem(c->q, &c->failure);
    else
        free(c);
}

/* A failed start leaves nothing: not even a row. */
static void fail(struct creation *c, struct task *t)
{
    c->failure = t->status.err;
    if (c->failure.status == 0)
        err_set(&c->failure, 500, "launch_failed", "the task did not start");
    c->busy = true;
    stop_waiting(c);
    registry_remove(c->registry, t, on_failed_removed, c);
}

/* Answers when t is what the caller waits for. One that is being removed, by whomever, is the last that there is to
 * tell. */
static void on_change(void *arg, struct task *t)
{
    struct creation *c = arg;

    if (strcmp(t->id, c->id) != 0)
        return;
    if (t->state == TASK_FAILED && t->status.restarts == 0) {
        fail(c, t);
    } else if (task_ended(t) || (!c->options.wait_exited && t->state != TASK_STARTING && t->state != TASK_PENDING)) {
        stop_waiting(c);
        reply_task(c->q, t, c->options.output);
    }
}

static void on_timeout(void *arg, uint32_t events)
{
    struct creation *c = arg;

    (void)events;
    c->timer = NULL;
    stop_waiting(c);
    registry_settle(c->registry);
    struct task *t = registry_find(c->registry, c->id);
    if (t)
        reply_task(c->q, t, false);
}

static int read_options(const struct request *q, struct options *o, struct err *e)
{
    const char *wait = request_query(q, "wait", 0);

    o->timeout_ms = -1;
    o->wait_exited = wait && strcmp(wait, "exited") == 0;
    if (wait && !o->wait_exited && strcmp(wait, "running") != 0)
        return bad_parameter(e, "wait", wait);
    if (query_bool(q, "output", &o->output, e) < 0 || query_bool(q, "dry_run", &o->dry_run, e) < 0 ||
        query_duration(q, "timeout", &o->timeout_ms, e) < 0)
        return -1;
    if (o->output && !o->wait_exited)
        return err_set(e, 400, "invalid_parameter", "output=true goes with wait=exited");
    return 0;
}

/* One that is found is waited for: it is stored, or refused and gone, afterwards. */
static struct task *find_key(const struct request *q, const char *key)
{
    return registry_find_key(unsettled_registry(q), key) ? registry_find_key(request_registry(q), key) : NULL;
}

static struct creation *creation_new(struct request *q, struct options o)
{
    struct creation *c = xcalloc(1, sizeof(*c));

    *c = (struct creation){.q = q, .registry = unsettled_registry(q), .options = o};
    request_on_end(q, on_end, c);
    return c;
}

/* The caller is answered at once or later. */
static void wait_for(struct creation *c, struct task *t)
{
    memcpy(c->id, t->id, sizeof(c->id));
    c->subscription = registry_subscribe(c->registry, on_change, c);
    if (c->options.timeout_ms >= 0)
        c->timer = loop_add_timer(request_loop(c->q), c->options.timeout_ms, on_timeout, c);
    on_change(c, t);
}

/* The same key and body give the answer of the first request, who waits for the same. 1: it is taken care of. */
static int replay(struct request *q, const char *key, const char *hash, struct options o, struct err *e)
{
    if (!*key || strlen(key) > 255)
        return err_set(e, 400, "invalid_header", "Idempotency-Key must have 1 to 255 characters");
    struct task *t = find_key(q, key);
    if (!t)
        return 0;
    if (!t->body_hash || !hash_equal(t->body_hash, hash))
        return err_set(e, 422, "idempotency_key_reused", "the Idempotency-Key came with another body before");
    reply_header(q, "Idempotency-Replayed", "true");
    wait_for(creation_new(q, o), t);
    return 1;
}

/* It is stored and launched; or refused. */
static void on_created(void *arg, struct task *t, const struct err *e)
{
    struct creation *c = arg;

    c->busy = false;
    if (!c->q) {
        free(c);
        return;
    }
    if (!t) {
        reply_problem(c->q, e);
        return;
    }
    wait_for(c, t);
}

static int create(struct request *q, struct err *e)
{
    _cleanup_spec_ struct spec spec = {0};
    struct options o = {0};
    size_t len;
    const char *body = request_body(q, &len), *key = request_header(q, "Idempotency-Key");
    char hash[65];

    if (read_options(q, &o, e) < 0)
        return -1;
    hash_sha256_hex(body, len, hash);
    int replayed = key && !o.dry_run ? replay(q, key, hash, o, e) : 0;
    if (replayed != 0)
        return replayed < 0 ? -1 : 0;
    _cleanup_json_ struct json *j = body_object(q, false, e);
    if (!j || spec_decode(j, &spec, e) < 0)
        return -1;
    if (o.dry_run) {
        if (registry_check(request_registry(q), &spec, e) < 0)
            return -1;
        struct json *plan = json_object();

        json_set(plan, "spec", spec_encode(&spec));
        reply_json(q, 200, plan);
        return 0;
    }
    struct creation *c = creation_new(q, o);
    c->busy = true;
    int rc = registry_create(c->registry, &spec, key, key ? hash : NULL, on_created, c, e);
    if (rc < 0)
        c->busy = false; /* freed as the problem is replied */
    return rc;
}

void tasks_create(struct request *q)
{
    struct err e = {0};

    if (create(q, &e) < 0)
        reply_problem(q, &e);
}
