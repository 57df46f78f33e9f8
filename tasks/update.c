/* A task's new spec: stored, then applied. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "tasks/registry_internal.h"

struct update {
    struct registry *registry;
    char id[ID_LEN + 1];
    struct spec before;
    registry_done done;
    void *arg;
};

static int store_spec(struct registry *r, struct task *t, const struct spec *s, struct err *e)
{
    _cleanup_json_ struct json *j = spec_encode(s);
    _cleanup_free_ char *text = json_print(j);

    return store_update_spec(r->store, t->id, text, t->version, e);
}

/* The supervisor did not take it: what it has is the old one. */
static void take_back(struct registry *r, struct task *t, struct spec *before)
{
    struct err e = {0};

    spec_free(&t->spec);
    t->spec = *before;
    *before = (struct spec){0};
    if (store_spec(r, t, &t->spec, &e) < 0)
        log_error("task %s: the change that failed stays stored: %s", t->id, e.detail);
}

static void commit(struct registry *r, struct task *t)
{
    struct json *data = json_object();

    json_set_int(data, "version", t->version + 1); /* which registry_commit gives it */
    events_emit(r, EVENT_TASK_UPDATED, t, data);
    registry_commit(r, t);
    registry_settle(r);
}

static void on_applied(void *arg, const struct err *e)
{
    struct update *u = arg;
    struct task *t = registry_find(u->registry, u->id);

    if (t) {
        t->updating = false;
        if (e->status)
            take_back(u->registry, t, &u->before);
        else
            commit(u->registry, t);
        admission_pump(u->registry); /* it may fit now, or leave room */
    }
    u->done(u->arg, e);
    spec_free(&u->before);
    free(u);
}

static void apply(struct task *t, registry_done done, void *arg)
{
    struct err e = {0};
    _cleanup_json_ struct json *j = spec_encode(&t->spec);
    _cleanup_free_ char *text = json_print(j);
    _cleanup_close_ int fd = link_spec_memfd(text);

    if (fd >= 0) {
        link_request(t, &(struct supervisor_request){.op = SUP_UPDATE}, fd, done, arg);
        return;
    }
    err_set(&e, 503, "no_resources", "cannot hand the spec over: %s", strerror(errno));
    done(arg, &e);
}

void registry_update(struct registry *r, struct task *t, struct spec *s, registry_done done, void *arg)
{
    struct err e = {0};

    if (t->updating)
        err_set(&e, 409, "update_in_progress", "another change of this task is being applied");
    else if (admission_change(r, t, s, &e) == 0)
        store_spec(r, t, s, &e);
    if (e.status) {
        spec_free(s);
        done(arg, &e);
        return;
    }
    struct update *u = xcalloc(1, sizeof(*u));
    *u = (struct update){.registry = r, .before = t->spec, .done = done, .arg = arg};
    memcpy(u->id, t->id, sizeof(u->id));
    t->spec = *s;
    *s = (struct spec){0};
    if (!task_live(t)) { /* nobody to tell */
        on_applied(u, &e);
        return;
    }
    t->updating = true;
    t->memory_before = u->before.resources.memory;
    apply(t, on_applied, u);
}

static void on_applied_again(void *arg, const struct err *e)
{
    (void)arg;
    if (e->status && e->status != 409)
        log_warn("a supervisor did not take its task's spec: %s", e->detail);
}

void update_again(struct task *t)
{
    apply(t, on_applied_again, NULL);
}
