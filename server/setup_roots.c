#include "server/setup_roots.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/record.h"

static int by_destination(const void *a, const void *b)
{
    return strcmp(((const struct pair *)a)->value, ((const struct pair *)b)->value);
}

static struct chroot *add_chroot(struct policy *p, const char *name)
{
    p->chroots = xrealloc(p->chroots, (p->nchroots + 1) * sizeof(*p->chroots));
    p->chroots[p->nchroots] = (struct chroot){.name = xstrdup(name)};
    return &p->chroots[p->nchroots++];
}

static int add_source(struct chroot *r, const char *source, const char *inside, struct err *e)
{
    _cleanup_free_ char *from = file_clean_path(source);
    char *to = inside ? file_clean_path(inside) : NULL;

    if (!from || !to) {
        free(to);
        return err_set(e, 400, "config", "chroot \"%s\": \"%s\" needs absolute paths without \"..\"", r->name, source);
    }
    r->map.v = xrealloc(r->map.v, (r->map.n + 1) * sizeof(*r->map.v));
    r->map.v[r->map.n++] = (struct pair){xstrdup(from), to};
    return 0;
}

static int finish_chroot(struct chroot *r, struct err *e)
{
    if (r->map.n == 0)
        return err_set(e, 400, "config", "chroot \"%s\" is empty", r->name);
    qsort(r->map.v, r->map.n, sizeof(*r->map.v), by_destination);
    for (size_t i = 1; i < r->map.n; i++)
        if (strcmp(r->map.v[i - 1].value, r->map.v[i].value) == 0)
            return err_set(e, 400, "config", "chroot \"%s\": two sources for %s", r->name, r->map.v[i].value);
    return 0;
}

static int setup_chroots(const struct config *c, struct policy *p, struct err *e)
{
    struct chroot *r = add_chroot(p, "default");

    for (size_t i = 0; i < c->chroot_env.n; i++)
        if (add_source(r, c->chroot_env.key[i], c->chroot_env.value[i], e) < 0)
            return -1;
    if (finish_chroot(r, e) < 0)
        return -1;
    for (const struct json *j = json_first(c->chroot); j; j = json_next(j)) {
        if (policy_chroot(p, json_key(j)))
            return err_set(e, 400, "config", "chroot \"default\" is what chroot_env tells");
        r = add_chroot(p, json_key(j));
        for (const struct json *m = json_first(j); m; m = json_next(m))
            if (add_source(r, json_key(m), json_string(m), e) < 0)
                return -1;
        if (finish_chroot(r, e) < 0)
            return -1;
    }
    return 0;
}

static const struct record_field volume_fields[] = {
    {"path", RECORD_STRING, .offset = offsetof(struct volume, path), .min = 1, .max = 4095, .required = true},
    {"read_only", RECORD_BOOL, .offset = offsetof(struct volume, read_only)},
    {"allow_bidirectional", RECORD_BOOL, .offset = offsetof(struct volume, allow_bidirectional)},
};
static const struct record_table volume_table = {
    .fields = volume_fields, .n = sizeof(volume_fields) / sizeof(volume_fields[0]), .size = sizeof(struct volume)};

static int setup_volumes(const struct config *c, struct policy *p, struct err *e)
{
    for (const struct json *j = json_first(c->host_volume); j; j = json_next(j)) {
        struct err why = {0};

        p->volumes = xrealloc(p->volumes, (p->nvolumes + 1) * sizeof(*p->volumes));
        struct volume *v = &p->volumes[p->nvolumes++];
        *v = (struct volume){.name = xstrdup(json_key(j))};
        if (record_decode(&volume_table, j, "", v, &why) < 0)
            return err_set(e, 400, "config", "host_volume \"%s\": %s %s", v->name, why.pointer, why.detail);
        if (v->path[0] != '/')
            return err_set(e, 400, "config", "host_volume \"%s\": the path must be absolute", v->name);
        char *real = realpath(v->path, NULL);
        if (real) {
            free(v->path);
            v->path = real;
        }
    }
    return 0;
}

int setup_roots(const struct config *c, struct policy *p, struct err *e)
{
    return setup_chroots(c, p, e) < 0 ? -1 : setup_volumes(c, p, e);
}

void setup_roots_free(struct policy *p)
{
    for (size_t i = 0; i < p->nchroots; i++) {
        struct chroot *r = &p->chroots[i];

        for (size_t k = 0; k < r->map.n; k++) {
            free(r->map.v[k].key);
            free(r->map.v[k].value);
        }
        free(r->map.v);
        free(r->name);
    }
    free(p->chroots);
    for (size_t i = 0; i < p->nvolumes; i++) {
        free(p->volumes[i].name);
        free(p->volumes[i].path);
    }
    free(p->volumes);
}
