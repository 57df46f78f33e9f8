/* From structs to JSON; their release; and the list of their fields. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/record.h"
#include "base/signals.h"

static struct json *encode_strings(const struct strings *list)
{
    struct json *a = json_array();

    for (size_t i = 0; i < list->n; i++)
        json_push(a, json_new_string(list->v[i]));
    return a;
}

static struct json *encode_pairs(const struct pairs *map)
{
    struct json *o = json_object();

    for (size_t i = 0; i < map->n; i++)
        json_set_string(o, map->v[i].key, map->v[i].value);
    return o;
}

static struct json *encode_signal(int signum)
{
    const char *name = signal_name(signum);

    return signal_parse(name) == signum ? json_new_string(name) : json_new_int(signum);
}

static struct json *encode_list(const struct record_table *t, const struct records *list)
{
    struct json *a = json_array();

    for (size_t i = 0; i < list->n; i++)
        json_push(a, record_encode(t, (const char *)list->v + i * t->size));
    return a;
}

/* NULL for what is not said: it has no form of its own. */
static struct json *encode_field(const struct record_field *f, const void *at)
{
    char text[CLOCK_TEXT];

    switch (f->kind) {
    case RECORD_STRING:
        return *(char *const *)at ? json_new_string(*(char *const *)at) : NULL;
    case RECORD_STRINGS:
        return encode_strings(at);
    case RECORD_PAIRS:
        return encode_pairs(at);
    case RECORD_ENUM:
        return *(const int *)at ? json_new_string(f->names[*(const int *)at]) : NULL;
    case RECORD_BOOL:
        return json_new_bool(*(const bool *)at);
    case RECORD_INT:
        return *(const int64_t *)at ? json_new_int(*(const int64_t *)at) : NULL;
    case RECORD_SIGNAL:
        return encode_signal((int)*(const int64_t *)at);
    case RECORD_DURATION:
        duration_format(*(const int64_t *)at, text);
        return json_new_string(text);
    case RECORD_OBJECT:
        return record_encode(f->table, at);
    case RECORD_OBJECT_LIST:
        return encode_list(f->table, at);
    case RECORD_CUSTOM:
        return f->codec->encode(at);
    }
    return NULL;
}

struct json *record_encode(const struct record_table *t, const void *at)
{
    struct json *o = json_object();

    for (size_t i = 0; i < t->n; i++) {
        struct json *j = encode_field(&t->fields[i], (const char *)at + t->fields[i].offset);

        if (j)
            json_set(o, t->fields[i].name, j);
    }
    return o;
}

static void free_strings(struct strings *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->v[i]);
    free(list->v);
}

static void free_pairs(struct pairs *map)
{
    for (size_t i = 0; i < map->n; i++) {
        free(map->v[i].key);
        free(map->v[i].value);
    }
    free(map->v);
}

static void free_list(const struct record_table *t, struct records *list)
{
    for (size_t i = 0; i < list->n; i++)
        record_free(t, (char *)list->v + i * t->size);
    free(list->v);
}

void record_free(const struct record_table *t, void *at)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct record_field *f = &t->fields[i];
        void *field = (char *)at + f->offset;

        if (f->kind == RECORD_STRING)
            free(*(char **)field);
        else if (f->kind == RECORD_STRINGS)
            free_strings(field);
        else if (f->kind == RECORD_PAIRS)
            free_pairs(field);
        else if (f->kind == RECORD_OBJECT)
            record_free(f->table, field);
        else if (f->kind == RECORD_OBJECT_LIST)
            free_list(f->table, field);
        else if (f->kind == RECORD_CUSTOM && f->codec->release)
            f->codec->release(field);
    }
    memset(at, 0, t->size);
}
