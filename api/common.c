#include "api/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "supervisor/launcher.h"
#include "tasks/events.h"

struct registry *request_registry(const struct request *q)
{
    struct registry *r = unsettled_registry(q);

    registry_settle(r);
    return r;
}

struct registry *unsettled_registry(const struct request *q)
{
    return ((struct api *)request_api(q))->registry;
}

struct task *request_task(struct request *q)
{
    const char *id = request_param(q, 0);
    struct task *t = registry_find(request_registry(q), id);
    struct err e;

    if (t)
        return t;
    err_set(&e, 404, "task_not_found", "there is no task %.64s", id);
    reply_problem(q, &e);
    return NULL;
}

int bad_parameter(struct err *e, const char *name, const char *value)
{
    return err_set(e, 400, "invalid_parameter", "the query parameter %s cannot be \"%.64s\"", name, value);
}

int bad_header(struct err *e, const char *name, const char *value)
{
    return err_set(e, 400, "invalid_header", "the header %s cannot be \"%.64s\"", name, value);
}

int query_bool(const struct request *q, const char *name, bool *out, struct err *e)
{
    const char *v = request_query(q, name, 0);

    *out = v && strcmp(v, "true") == 0;
    return !v || *out || strcmp(v, "false") == 0 ? 0 : bad_parameter(e, name, v);
}

int query_int(const struct request *q, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e)
{
    const char *v = request_query(q, name, 0);

    if (!v)
        return 0;
    if (!*v || strspn(v, "0123456789") != strlen(v) || strlen(v) > 18)
        return bad_parameter(e, name, v);
    int64_t n = strtoll(v, NULL, 10);
    if (n < min || n > max)
        return bad_parameter(e, name, v);
    *out = n;
    return 0;
}

int query_duration(const struct request *q, const char *name, int64_t *out, struct err *e)
{
    const char *v = request_query(q, name, 0);

    if (!v || duration_parse(v, out) == 0)
        return 0;
    if (!*v || strspn(v, "0123456789") != strlen(v) || strlen(v) > 9)
        return bad_parameter(e, name, v);
    *out = strtoll(v, NULL, 10) * 1000; /* whole seconds, as a number is in a body */
    return 0;
}

struct json *body_object(const struct request *q, bool optional, struct err *e)
{
    size_t len;
    const char *text = request_body(q, &len);

    if (len == 0 && optional)
        return json_object();
    struct json *j = json_parse(text, len, e);
    if (j && json_type(j) != JSON_OBJECT) {
        json_free(j);
        err_field(e, "", "the body must be an object");
        return NULL;
    }
    return j;
}

int only_fields(const struct json *j, const char *a, const char *b, struct err *e)
{
    for (const struct json *m = json_first(j); m; m = json_next(m))
        if (!*json_key(m) || (strcmp(json_key(m), a) != 0 && strcmp(json_key(m), b) != 0)) {
            char pointer[RECORD_POINTER];

            record_join(pointer, "", json_key(m));
            return err_field(e, pointer, "unknown field");
        }
    return 0;
}

void tell_event_seq(struct request *q)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)events_last(request_registry(q)));
    reply_header(q, "Cloister-Event-Seq", text);
}

bool not_modified(struct request *q, int64_t version)
{
    char tag[32];
    const char *have = request_header(q, "If-None-Match");

    snprintf(tag, sizeof(tag), "\"%lld\"", (long long)version);
    reply_header(q, "ETag", tag);
    if (!have || (!strstr(have, tag) && strcmp(have, "*") != 0))
        return false;
    reply_empty(q, 304);
    return true;
}

int check_if_match(const struct request *q, int64_t version, struct err *e)
{
    const char *wanted = request_header(q, "If-Match");
    char tag[32];

    snprintf(tag, sizeof(tag), "\"%lld\"", (long long)version);
    if (!wanted || strcmp(wanted, "*") == 0 || strstr(wanted, tag))
        return 0;
    return err_set(e, 412, "precondition_failed", "the task has version %lld by now", (long long)version);
}

void logs_path(struct registry *r, const char *id, char *out, size_t n)
{
    char dir[240];

    task_dir_path(registry_policy(r), id, dir, sizeof(dir));
    snprintf(out, n, "%s/logs", dir);
}
