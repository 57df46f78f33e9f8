/* From JSON to structs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/record.h"
#include "base/signals.h"

enum { ITEM_MAX = 131071 }; /* MAX_ARG_STRLEN less the NUL, execve(2) */

static const enum json_type types[] = {
    [RECORD_STRING] = JSON_STRING,     [RECORD_STRINGS] = JSON_ARRAY,   [RECORD_PAIRS] = JSON_OBJECT,
    [RECORD_ENUM] = JSON_STRING,       [RECORD_BOOL] = JSON_BOOL,       [RECORD_INT] = JSON_NUMBER,
    [RECORD_SIGNAL] = JSON_STRING,     [RECORD_DURATION] = JSON_STRING, [RECORD_OBJECT] = JSON_OBJECT,
    [RECORD_OBJECT_LIST] = JSON_ARRAY,
};

void record_join(char out[RECORD_POINTER], const char *base, const char *key)
{
    size_t n = (size_t)snprintf(out, RECORD_POINTER, "%s/", base);

    if (n >= RECORD_POINTER)
        return;
    for (; *key && n + 2 < RECORD_POINTER; key++) {
        if (*key == '~' || *key == '/') {
            out[n++] = '~';
            out[n++] = *key == '~' ? '0' : '1';
        } else {
            out[n++] = *key;
        }
    }
    out[n] = '\0';
}

static int wrong_type(const char *pointer, const char *expected, const struct json *j, struct err *e)
{
    return err_field(e, pointer, "expected %s, got %s", expected, json_type_name(json_type(j)));
}

static int check_length(const struct record_field *f, const char *pointer, size_t len, struct err *e)
{
    const char *unit = f->kind == RECORD_STRING ? "bytes" : "members";

    if (len == 0 && f->min == 1)
        return err_field(e, pointer, "must not be empty");
    if ((int64_t)len > f->max)
        return err_field(e, pointer, "must have at most %lld %s", (long long)f->max, unit);
    return 0;
}

static int decode_string(const struct record_field *f, const struct json *j, const char *pointer, char **out,
                         struct err *e)
{
    const char *text = json_string(j);

    if (check_length(f, pointer, strlen(text), e) < 0 || (f->check && f->check(pointer, text, e) < 0))
        return -1;
    free(*out);
    *out = xstrdup(text);
    return 0;
}

/* A string inside a list or object; NULL with e set when it is none. */
static const char *decode_item(const struct json *j, const char *pointer, struct err *e)
{
    const char *text = json_string(j);

    if (!text)
        wrong_type(pointer, "string", j, e);
    else if (strlen(text) > ITEM_MAX)
        err_field(e, pointer, "must have at most %d bytes", ITEM_MAX);
    else
        return text;
    return NULL;
}

static void join_index(char out[RECORD_POINTER], const char *base, size_t i)
{
    char index[24];

    snprintf(index, sizeof(index), "%zu", i);
    record_join(out, base, index);
}

static int decode_strings(const struct record_field *f, const struct json *j, const char *pointer, struct strings *out,
                          struct err *e)
{
    size_t n = json_count(j);

    if (check_length(f, pointer, n, e) < 0)
        return -1;
    out->v = xcalloc(n + 1, sizeof(*out->v));
    for (const struct json *item = json_first(j); item; item = json_next(item)) {
        char at[RECORD_POINTER];
        join_index(at, pointer, out->n);
        const char *text = decode_item(item, at, e);
        if (!text || (f->check && f->check(at, text, e) < 0))
            return -1;
        out->v[out->n++] = xstrdup(text);
    }
    return 0;
}

static int decode_pairs(const struct record_field *f, const struct json *j, const char *pointer, struct pairs *out,
                        struct err *e)
{
    size_t n = json_count(j);

    if (check_length(f, pointer, n, e) < 0)
        return -1;
    out->v = xcalloc(n + 1, sizeof(*out->v));
    for (const struct json *item = json_first(j); item; item = json_next(item)) {
        char at[RECORD_POINTER];
        record_join(at, pointer, json_key(item));
        if (f->check && f->check(at, json_key(item), e) < 0)
            return -1;
        const char *text = decode_item(item, at, e);
        if (!text)
            return -1;
        out->v[out->n++] = (struct pair){xstrdup(json_key(item)), xstrdup(text)};
    }
    return 0;
}

static int decode_enum(const struct record_field *f, const struct json *j, const char *pointer, int *out, struct err *e)
{
    char list[160] = "";
    size_t len = 0;

    for (int i = 1; f->names[i]; i++) {
        const char *before = i == 1 ? "" : !f->names[i + 1] ? " or " : ", ";

        if (strcmp(json_string(j), f->names[i]) == 0) {
            *out = i;
            return 0;
        }
        if (len < sizeof(list))
            len += (size_t)snprintf(list + len, sizeof(list) - len, "%s\"%s\"", before, f->names[i]);
    }
    return err_field(e, pointer, "must be %s", list);
}

static int decode_int(const struct record_field *f, const struct json *j, const char *pointer, int64_t *out,
                      struct err *e)
{
    if (!json_int(j, out))
        return err_field(e, pointer, "expected integer, got number with a fraction or beyond 2^53");
    if (*out < f->min || *out > f->max)
        return err_field(e, pointer, "must be from %lld to %lld", (long long)f->min, (long long)f->max);
    return 0;
}

static int decode_signal(const struct json *j, const char *pointer, int64_t *out, struct err *e)
{
    int64_t number = 0;
    char text[24];
    const char *name = json_string(j);

    if (!name) {
        if (!json_int(j, &number))
            return err_field(e, pointer, "must be a signal's name or number");
        snprintf(text, sizeof(text), "%lld", (long long)number);
        name = text;
    }
    int signum = signal_parse(name);
    if (signum < 1)
        return err_field(e, pointer, "must be a signal's name or number");
    *out = signum;
    return 0;
}

static int decode_duration(const struct record_field *f, const struct json *j, const char *pointer, int64_t *out,
                           struct err *e)
{
    int64_t ms = 0;
    char low[CLOCK_TEXT], high[CLOCK_TEXT];
    bool valid = json_string(j) ? duration_parse(json_string(j), &ms) == 0 : json_int(j, &ms);

    if (!valid)
        return err_field(e, pointer, "must be a duration such as \"5s\" or \"1m30s\", or whole seconds");
    if (!json_string(j)) /* beyond the range already when beyond it in seconds; no overflow */
        ms = ms > f->max ? f->max + 1 : ms < 0 ? -1 : ms * 1000;
    if (ms < f->min || ms > f->max) {
        duration_format(f->min, low);
        duration_format(f->max, high);
        return err_field(e, pointer, "must be from %s to %s", f->min ? low : "0", high);
    }
    *out = ms;
    return 0;
}

static int decode_list(const struct record_field *f, const struct json *j, const char *pointer, struct records *out,
                       struct err *e)
{
    size_t n = json_count(j), size = f->table->size;

    if (check_length(f, pointer, n, e) < 0)
        return -1;
    out->v = xcalloc(n + 1, size);
    for (const struct json *item = json_first(j); item; item = json_next(item)) {
        char at[RECORD_POINTER];
        void *member = (char *)out->v + out->n * size;

        join_index(at, pointer, out->n++);
        if (f->table->defaults)
            f->table->defaults(member);
        if (record_decode(f->table, item, at, member, e) < 0)
            return -1;
    }
    return 0;
}

static int check_type(const struct record_field *f, const struct json *j, const char *pointer, struct err *e)
{
    enum json_type t = json_type(j);
    bool either = f->kind == RECORD_SIGNAL || f->kind == RECORD_DURATION;

    if (f->kind == RECORD_CUSTOM || t == types[f->kind] || (either && t == JSON_NUMBER))
        return 0;
    const char *name = f->kind == RECORD_INT ? "integer" : json_type_name(types[f->kind]);
    return wrong_type(pointer, either ? "string or integer" : name, j, e);
}

static int decode_field(const struct record_field *f, const struct json *j, const char *pointer, void *at,
                        struct err *e)
{
    if (check_type(f, j, pointer, e) < 0)
        return -1;
    switch (f->kind) {
    case RECORD_STRING:
        return decode_string(f, j, pointer, at, e);
    case RECORD_STRINGS:
        return decode_strings(f, j, pointer, at, e);
    case RECORD_PAIRS:
        return decode_pairs(f, j, pointer, at, e);
    case RECORD_ENUM:
        return decode_enum(f, j, pointer, at, e);
    case RECORD_BOOL:
        *(bool *)at = json_bool(j);
        return 0;
    case RECORD_INT:
        return decode_int(f, j, pointer, at, e);
    case RECORD_SIGNAL:
        return decode_signal(j, pointer, at, e);
    case RECORD_DURATION:
        return decode_duration(f, j, pointer, at, e);
    case RECORD_OBJECT:
        return record_decode(f->table, j, pointer, at, e);
    case RECORD_OBJECT_LIST:
        return decode_list(f, j, pointer, at, e);
    case RECORD_CUSTOM:
        return f->codec->decode(j, pointer, at, e);
    }
    return 0;
}

int record_decode(const struct record_table *t, const struct json *j, const char *base, void *at, struct err *e)
{
    char pointer[RECORD_POINTER];

    if (json_type(j) != JSON_OBJECT)
        return wrong_type(base, "object", j, e);
    for (const struct json *member = json_first(j); member; member = json_next(member)) {
        const struct record_field *f = NULL;

        record_join(pointer, base, json_key(member));
        for (size_t i = 0; !f && i < t->n; i++)
            if (strcmp(t->fields[i].name, json_key(member)) == 0)
                f = &t->fields[i];
        if (!f)
            return err_field(e, pointer, "unknown field");
        if (decode_field(f, member, pointer, (char *)at + f->offset, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < t->n; i++) {
        if (!t->fields[i].required || json_get(j, t->fields[i].name))
            continue;
        record_join(pointer, base, t->fields[i].name);
        return err_field(e, pointer, "is required");
    }
    return t->whole ? t->whole(j, base, at, e) : 0;
}
