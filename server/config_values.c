/* Values of options: from text and JSON, and back to JSON. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "server/config_internal.h"

static void list_add(struct config_list *l, const char *text)
{
    l->v = xrealloc(l->v, (l->n + 2) * sizeof(*l->v));
    l->v[l->n++] = xstrdup(text);
    l->v[l->n] = NULL;
}

static void map_add(struct config_map *m, const char *key, const char *value)
{
    m->key = xrealloc(m->key, (m->n + 1) * sizeof(*m->key));
    m->value = xrealloc(m->value, (m->n + 1) * sizeof(*m->value));
    m->key[m->n] = xstrdup(key);
    m->value[m->n++] = xstrdup(value);
}

static void clear(const struct option *o, void *at)
{
    if (o->kind == K_STRING) {
        free(*(char **)at);
        *(char **)at = NULL;
    } else if (o->kind == K_LIST) {
        struct config_list *l = at;

        for (size_t i = 0; i < l->n; i++)
            free(l->v[i]);
        free(l->v);
        *l = (struct config_list){.v = xcalloc(1, sizeof(char *))};
    } else if (o->kind == K_MAP) {
        struct config_map *m = at;

        for (size_t i = 0; i < m->n; i++) {
            free(m->key[i]);
            free(m->value[i]);
        }
        free(m->key);
        free(m->value);
        *m = (struct config_map){0};
    } else if (o->kind == K_BLOCKS) {
        json_free(*(struct json **)at);
        *(struct json **)at = NULL;
    }
}

static bool is_choice(const char *choices, const char *text)
{
    size_t len = strlen(text);

    for (const char *p = choices; p && *p; p += strcspn(p, " "), p += *p == ' ')
        if (strncmp(p, text, len) == 0 && (p[len] == ' ' || !p[len]) && len > 0)
            return true;
    return false;
}

static int set_int(const struct option *o, void *at, const char *text, struct err *e)
{
    char *end;

    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || end == text || *end || v < o->min || v > o->max)
        return err_set(e, 400, "config", "%s%s%s: \"%s\" is no whole number from %lld to %lld", o->block,
                       *o->block ? "." : "", o->name, text, (long long)o->min, (long long)o->max);
    *(int64_t *)at = v;
    return 0;
}

int option_set_text(const struct option *o, void *at, const char *text, struct err *e)
{
    if (o->kind == K_INT)
        return set_int(o, at, text, e);
    if (o->kind == K_DURATION) {
        if (duration_parse(text, at) < 0 || *(int64_t *)at < o->min || *(int64_t *)at > o->max)
            return err_set(e, 400, "config", "%s: \"%s\" is no duration as \"30s\", or out of range", o->name, text);
        return 0;
    }
    if (o->kind == K_BOOL) {
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return err_set(e, 400, "config", "%s: \"%s\" is neither true nor false", o->name, text);
        *(bool *)at = text[0] == 't';
        return 0;
    }
    if (o->kind == K_BLOCKS) {
        _cleanup_json_ struct json *v = json_parse(text, strlen(text), e);
        return v ? option_set_json(o, at, v, e) : err_set(e, 400, "config", "%s: no JSON object", o->name);
    }
    clear(o, at);
    if (o->kind == K_STRING) {
        if (o->choices && !is_choice(o->choices, text))
            return err_set(e, 400, "config", "%s: \"%s\" is none of: %s", o->name, text, o->choices);
        *(char **)at = xstrdup(text);
        return 0;
    }
    _cleanup_free_ char *copy = xstrdup(text);
    char *save = NULL;
    for (char *part = strtok_r(copy, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
        char *equals = strchr(part, '=');

        if (o->kind == K_LIST) {
            list_add(at, part);
            continue;
        }
        if (!equals)
            return err_set(e, 400, "config", "%s: \"%s\" is no source=destination", o->name, part);
        *equals = '\0';
        map_add(at, part, equals + 1);
    }
    return 0;
}

static int wrong_type(const struct option *o, const char *want, struct err *e)
{
    return err_set(e, 400, "config", "%s%s%s must be %s", o->block, *o->block ? "." : "", o->name, want);
}

/* Labelled blocks: what each may hold is known to whoever uses them. */
static int set_blocks(const struct option *o, void *at, const struct json *v, struct err *e)
{
    if (json_type(v) != JSON_OBJECT)
        return wrong_type(o, "blocks with a name each", e);
    for (const struct json *m = json_first(v); m; m = json_next(m))
        if (json_type(m) != JSON_OBJECT)
            return wrong_type(o, "blocks with a name each", e);
    _cleanup_free_ char *text = json_print(v);
    clear(o, at);
    *(struct json **)at = json_parse(text, strlen(text), e);
    return *(struct json **)at ? 0 : -1;
}

/* A value of the file. */
int option_set_json(const struct option *o, void *at, const struct json *v, struct err *e)
{
    int64_t number;
    char text[32];

    switch (o->kind) {
    case K_STRING:
    case K_DURATION:
        return json_string(v) ? option_set_text(o, at, json_string(v), e) : wrong_type(o, "a string", e);
    case K_INT:
        if (!json_int(v, &number))
            return wrong_type(o, "a whole number", e);
        snprintf(text, sizeof(text), "%lld", (long long)number);
        return set_int(o, at, text, e);
    case K_BOOL:
        if (json_type(v) != JSON_BOOL)
            return wrong_type(o, "true or false", e);
        *(bool *)at = json_bool(v);
        return 0;
    case K_LIST:
    case K_MAP:
        if (json_type(v) != (o->kind == K_LIST ? JSON_ARRAY : JSON_OBJECT))
            return wrong_type(o, o->kind == K_LIST ? "a list of strings" : "a block of strings", e);
        clear(o, at);
        for (const struct json *m = json_first(v); m; m = json_next(m)) {
            if (!json_string(m))
                return wrong_type(o, "made of strings", e);
            if (o->kind == K_LIST)
                list_add(at, json_string(m));
            else
                map_add(at, json_key(m), json_string(m));
        }
        return 0;
    case K_BLOCKS:
        return set_blocks(o, at, v, e);
    }
    return 0;
}

struct json *option_json(const struct option *o, const void *at)
{
    struct json *v = NULL;
    char text[CLOCK_TEXT];

    switch (o->kind) {
    case K_STRING:
        return json_new_string(*(char *const *)at);
    case K_INT:
        return json_new_int(*(const int64_t *)at);
    case K_DURATION:
        duration_format(*(const int64_t *)at, text);
        return json_new_string(text);
    case K_BOOL:
        return json_new_bool(*(const bool *)at);
    case K_LIST:
        v = json_array();
        for (size_t i = 0; i < ((const struct config_list *)at)->n; i++)
            json_push(v, json_new_string(((const struct config_list *)at)->v[i]));
        break;
    case K_MAP:
        v = json_object();
        for (size_t i = 0; i < ((const struct config_map *)at)->n; i++)
            json_set_string(v, ((const struct config_map *)at)->key[i], ((const struct config_map *)at)->value[i]);
        break;
    case K_BLOCKS: {
        struct err ignored = {0};
        _cleanup_free_ char *copy = json_print(*(struct json *const *)at);
        v = json_parse(copy, strlen(copy), &ignored);
    }
    }
    return v;
}

void option_free(const struct option *o, void *at)
{
    clear(o, at);
    if (o->kind == K_LIST)
        free(((struct config_list *)at)->v);
}
