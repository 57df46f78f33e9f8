/* PATCH /v1/tasks/{id}: a merge patch (RFC 7396) of the spec. What cannot change while the task lives is refused by
 * name. */
#include <stdlib.h>
#include <string.h>

#include "api/common.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "isolation/limits.h"

static const char *const always[] = {"labels", "ttl"};
static const char *const alive[] = {"kill_signal", "kill_timeout", "timeout", "cpu_timeout", "restart"};
static const char *const resources[] = {"cpu",  "cpu_hard_limit", "memory", "memory_max",
                                        "swap", "pids",           "io",     "hugetlb"};
#define HAS(list, key) has(list, sizeof(list) / sizeof((list)[0]), key)

static bool has(const char *const *list, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], key) == 0)
            return true;
    return false;
}

static bool same(const struct json *a, const struct json *b)
{
    if (!a || !b)
        return a == b;
    _cleanup_free_ char *x = json_print(a), *y = json_print(b);
    return strcmp(x, y) == 0;
}

static bool may_change(const char *parent, const char *key, bool ended)
{
    if (*parent)
        return !ended && HAS(resources, key);
    return HAS(always, key) || (!ended && HAS(alive, key));
}

/* The first member that differs and may not, over the names of both. */
static int check_members(const char *parent, const struct json *before, const struct json *after, bool ended,
                         struct err *e)
{
    const struct json *sides[] = {before, after};

    for (size_t i = 0; i < 2; i++)
        for (const struct json *m = json_first(sides[i]); m; m = json_next(m)) {
            const char *key = json_key(m);
            char pointer[RECORD_POINTER];

            if (same(json_get(before, key), json_get(after, key)) || may_change(parent, key, ended))
                continue;
            record_join(pointer, parent, key);
            if (!*parent && strcmp(key, "resources") == 0) {
                if (check_members(pointer, json_get(before, key), json_get(after, key), ended, e) < 0)
                    return -1;
                continue;
            }
            return err_field(e, pointer,
                             ended ? "cannot be changed any more: the task has ended"
                                   : "cannot be changed while the task lives");
        }
    return 0;
}

static int read_patch(const struct request *q, const struct task *t, struct spec *s, struct err *e)
{
    _cleanup_json_ struct json *patch = body_object(q, false, e);

    if (!patch)
        return -1;
    _cleanup_json_ struct json *before = spec_encode(&t->spec);
    _cleanup_json_ struct json *merged = json_merge(before, patch);
    if (spec_decode(merged, s, e) < 0 ||
        limits_apply(&s->resources, &t->spec.resources, &registry_policy(t->registry)->max, e) < 0)
        return -1;
    _cleanup_json_ struct json *after = spec_encode(s); /* in its final form: "60s" and "1m" are the same */
    return check_members("", before, after, task_ended(t), e);
}

struct change {
    struct request *q; /* NULL when the client has left */
    struct registry *registry;
    char id[ID_LEN + 1];
    bool busy;
};

static void on_end(void *arg)
{
    struct change *c = arg;

    c->q = NULL;
    if (!c->busy)
        free(c);
}

static void on_done(void *arg, const struct err *e)
{
    struct change *c = arg;
    struct task *t = registry_find(c->registry, c->id);

    c->busy = false;
    if (!c->q) {
        free(c);
        return;
    }
    if (e->status) {
        reply_problem(c->q, e);
    } else if (!t) {
        reply_empty(c->q, 204);
    } else {
        _cleanup_free_ char *tag = xasprintf("\"%lld\"", (long long)t->version);
        reply_header(c->q, "ETag", tag);
        reply_json(c->q, 200, task_view(t));
    }
}

void task_patch(struct request *q)
{
    struct spec s = {0};
    struct err e = {0};
    struct task *t = request_task(q);

    if (!t)
        return;
    if (check_if_match(q, t->version, &e) < 0 || read_patch(q, t, &s, &e) < 0) {
        spec_free(&s);
        reply_problem(q, &e);
        return;
    }
    struct change *c = xcalloc(1, sizeof(*c));
    *c = (struct change){.q = q, .registry = request_registry(q), .busy = true};
    memcpy(c->id, t->id, sizeof(c->id));
    request_on_end(q, on_end, c);
    registry_update(c->registry, t, &s, on_done, c);
}
