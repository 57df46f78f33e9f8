#include "isolation/rlimits.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "isolation/caps.h"

static const struct {
    const char *name;
    int resource;
} names[] = {
    {"as", RLIMIT_AS},
    {"core", RLIMIT_CORE},
    {"cpu", RLIMIT_CPU}, /* seconds */
    {"data", RLIMIT_DATA},
    {"fsize", RLIMIT_FSIZE},
    {"locks", RLIMIT_LOCKS},
    {"memlock", RLIMIT_MEMLOCK},
    {"msgqueue", RLIMIT_MSGQUEUE},
    {"nice", RLIMIT_NICE},
    {"nofile", RLIMIT_NOFILE},
    {"nproc", RLIMIT_NPROC},
    {"rss", RLIMIT_RSS},
    {"rtprio", RLIMIT_RTPRIO},
    {"rttime", RLIMIT_RTTIME}, /* us */
    {"sigpending", RLIMIT_SIGPENDING},
    {"stack", RLIMIT_STACK},
};
enum { NAMES = sizeof(names) / sizeof(names[0]) };
_Static_assert(NAMES == sizeof(((struct rlimits *)0)->v) / sizeof(((struct rlimits *)0)->v[0]), "room for each once");

static const char *name_of(int resource)
{
    size_t i = 0;

    while (i < NAMES && names[i].resource != resource)
        i++;
    return i < NAMES ? names[i].name : "?";
}

static int decode_value(const struct json *j, const char *pointer, int64_t *out, struct err *e)
{
    if (json_string(j) && strcmp(json_string(j), "unlimited") == 0)
        *out = -1;
    else if (json_type(j) != JSON_NUMBER || !json_int(j, out) || *out < 0)
        return err_field(e, pointer, "must be a whole number from 0, \"unlimited\", or [soft, hard] of these");
    return 0;
}

static bool above(int64_t a, int64_t b)
{
    return b != -1 && (a == -1 || a > b);
}

static int decode_limit(const struct json *j, const char *pointer, struct rlimit_value *v, struct err *e)
{
    if (json_type(j) != JSON_ARRAY) {
        if (decode_value(j, pointer, &v->hard, e) < 0)
            return -1;
        v->soft = v->hard;
        return 0;
    }
    if (json_count(j) != 2)
        return err_field(e, pointer, "must be [soft, hard]");
    const struct json *soft = json_first(j);
    if (decode_value(soft, pointer, &v->soft, e) < 0 || decode_value(json_next(soft), pointer, &v->hard, e) < 0)
        return -1;
    return above(v->soft, v->hard) ? err_field(e, pointer, "the soft limit must not be above the hard one") : 0;
}

static int decode(const struct json *j, const char *pointer, void *at, struct err *e)
{
    struct rlimits *r = at;

    if (json_type(j) != JSON_OBJECT)
        return err_field(e, pointer, "expected object, got %s", json_type_name(json_type(j)));
    for (const struct json *m = json_first(j); m; m = json_next(m)) {
        char field[RECORD_POINTER];
        size_t i = 0;

        record_join(field, pointer, json_key(m));
        while (i < NAMES && strcmp(names[i].name, json_key(m)) != 0)
            i++;
        if (i == NAMES)
            return err_field(e, field, "unknown field");
        struct rlimit_value *v = &r->v[r->n++]; /* no key comes twice: the parser refuses that */
        v->resource = names[i].resource;
        if (decode_limit(m, field, v, e) < 0)
            return -1;
    }
    return 0;
}

static struct json *encode_value(int64_t v)
{
    return v == -1 ? json_new_string("unlimited") : json_new_int(v);
}

static struct json *encode(const void *at)
{
    const struct rlimits *r = at;
    struct json *o = json_object();

    for (size_t i = 0; i < r->n; i++) {
        struct json *pair = json_array();

        json_push(pair, encode_value(r->v[i].soft));
        json_push(pair, encode_value(r->v[i].hard));
        json_set(o, name_of(r->v[i].resource), pair);
    }
    return o;
}

const struct record_codec rlimits_codec = {.decode = decode, .encode = encode};

static rlim_t kernel_value(int64_t v)
{
    return v == -1 ? RLIM_INFINITY : (rlim_t)v;
}

int rlimits_check(const struct rlimits *r, struct err *e)
{
    bool may_raise = r->n == 0 || caps_held() & (uint64_t)1 << CAP_SYS_RESOURCE;

    for (size_t i = 0; i < r->n && !may_raise; i++) {
        char pointer[RECORD_POINTER];
        struct rlimit own;

        if (getrlimit((__rlimit_resource_t)r->v[i].resource, &own) < 0 || kernel_value(r->v[i].hard) <= own.rlim_max)
            continue;
        record_join(pointer, "/resources/rlimits", name_of(r->v[i].resource));
        return err_field(e, pointer, "this host cannot raise the hard limit beyond %llu (it lacks CAP_SYS_RESOURCE)",
                         (unsigned long long)own.rlim_max);
    }
    return 0;
}

static int apply(int resource, struct rlimit want, struct err *e)
{
    struct rlimit is;

    if (setrlimit((__rlimit_resource_t)resource, &want) < 0 || getrlimit((__rlimit_resource_t)resource, &is) < 0)
        return err_step(e, "rlimits", errno, "cannot set %s", name_of(resource));
    if (is.rlim_cur != want.rlim_cur || is.rlim_max != want.rlim_max)
        return err_step(e, "rlimits", EINVAL, "%s was not taken", name_of(resource));
    return 0;
}

int rlimits_apply(const struct rlimits *r, struct err *e)
{
    bool core = false;

    for (size_t i = 0; i < r->n; i++)
        core = core || r->v[i].resource == RLIMIT_CORE;
    if (!core && apply(RLIMIT_CORE, (struct rlimit){0, 0}, e) < 0)
        return -1;
    for (size_t i = 0; i < r->n; i++) {
        struct rlimit want = {kernel_value(r->v[i].soft), kernel_value(r->v[i].hard)};

        if (apply(r->v[i].resource, want, e) < 0)
            return -1;
    }
    return 0;
}
