#include "base/json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* struct json is cJSON under another name, so that no other file depends on the library. */
static cJSON *in(const struct json *j)
{
    return (cJSON *)(size_t)j;
}

static struct json *out(cJSON *c)
{
    return (struct json *)c;
}

static struct json *made(cJSON *c)
{
    if (!c)
        abort(); /* memory is out, as in buf.h */
    return out(c);
}

/* cJSON prints a number that is within one part in 2^52 of it: large integers would lose their last digit. They become
 * raw text, as those of json_new_int. json_check has bounded the depth. */
static void keep_integers_exact(cJSON *c)
{
    char text[24];

    for (; c; c = c->next) {
        double d = c->valuedouble;

        if (cJSON_IsNumber(c) && fabs(d) >= 1e15 && fabs(d) <= 9007199254740992.0 && d == floor(d)) {
            snprintf(text, sizeof(text), "%.0f", d);
            cJSON_free(c->valuestring);
            c->valuestring = cJSON_malloc(sizeof(text));
            if (!c->valuestring)
                abort();
            memcpy(c->valuestring, text, sizeof(text));
            c->type = cJSON_Raw | (c->type & ~0xff);
        }
        keep_integers_exact(c->child);
    }
}

struct json *json_parse(const char *text, size_t len, struct err *e)
{
    if (json_check(text, len, e) < 0)
        return NULL;
    cJSON *c = cJSON_ParseWithLength(text, len);
    if (!c)
        err_set(e, 400, "malformed_json", "the document cannot be read");
    keep_integers_exact(c);
    return out(c);
}

void json_free(struct json *j)
{
    cJSON_Delete(in(j));
}

void json_freep(struct json **j)
{
    json_free(*j);
}

enum json_type json_type(const struct json *j)
{
    switch (in(j)->type & 0xff) {
    case cJSON_False:
    case cJSON_True:
        return JSON_BOOL;
    case cJSON_Number:
    case cJSON_Raw: /* json_new_int */
        return JSON_NUMBER;
    case cJSON_String:
        return JSON_STRING;
    case cJSON_Array:
        return JSON_ARRAY;
    case cJSON_Object:
        return JSON_OBJECT;
    default:
        return JSON_NULL;
    }
}

const char *json_type_name(enum json_type t)
{
    static const char *const names[] = {"null", "boolean", "number", "string", "array", "object"};

    return names[t];
}

struct json *json_get(const struct json *object, const char *key)
{
    return out(cJSON_GetObjectItemCaseSensitive(in(object), key));
}

struct json *json_first(const struct json *container)
{
    return out(in(container)->child);
}

struct json *json_next(const struct json *j)
{
    return out(in(j)->next);
}

const char *json_key(const struct json *member)
{
    return in(member)->string;
}

size_t json_count(const struct json *container)
{
    return (size_t)cJSON_GetArraySize(in(container));
}

const char *json_string(const struct json *j)
{
    return j ? cJSON_GetStringValue(in(j)) : NULL;
}

bool json_bool(const struct json *j)
{
    return j && cJSON_IsTrue(in(j));
}

bool json_int(const struct json *j, int64_t *value)
{
    if (!j || json_type(j) != JSON_NUMBER)
        return false;
    if (cJSON_IsRaw(in(j))) {
        *value = strtoll(in(j)->valuestring, NULL, 10);
        return true;
    }
    double d = in(j)->valuedouble;
    if (!(fabs(d) <= 9007199254740992.0) || d != floor(d))
        return false;
    *value = (int64_t)d;
    return true;
}

struct json *json_object(void)
{
    return made(cJSON_CreateObject());
}

struct json *json_array(void)
{
    return made(cJSON_CreateArray());
}

struct json *json_new_string(const char *s)
{
    return s ? made(cJSON_CreateString(s)) : json_new_null();
}

struct json *json_new_int(int64_t v)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)v); /* cJSON's doubles would lose digits beyond 2^53 */
    return made(cJSON_CreateRaw(text));
}

struct json *json_new_bool(bool v)
{
    return made(cJSON_CreateBool(v));
}

struct json *json_new_double(double v)
{
    return made(cJSON_CreateNumber(v));
}

struct json *json_new_null(void)
{
    return made(cJSON_CreateNull());
}

void json_set(struct json *object, const char *key, struct json *v)
{
    if (!cJSON_AddItemToObject(in(object), key, in(v)))
        abort();
}

void json_push(struct json *array, struct json *v)
{
    if (!cJSON_AddItemToArray(in(array), in(v)))
        abort();
}

void json_set_string(struct json *object, const char *key, const char *v)
{
    json_set(object, key, json_new_string(v));
}

void json_set_time(struct json *object, const char *key, int64_t ns)
{
    char text[CLOCK_TEXT];

    clock_format(ns, text);
    json_set_string(object, key, ns > 0 ? text : NULL);
}

void json_set_int(struct json *object, const char *key, int64_t v)
{
    json_set(object, key, json_new_int(v));
}

void json_set_bool(struct json *object, const char *key, bool v)
{
    json_set(object, key, json_new_bool(v));
}

struct json *json_dup(const struct json *j)
{
    return made(cJSON_Duplicate(in(j), true));
}

/* The members of target that the patch leaves, changed where it says so; then those that are new. */
struct json *json_merge(const struct json *target, const struct json *patch)
{
    if (json_type(patch) != JSON_OBJECT)
        return json_dup(patch);
    struct json *out = json_object();
    bool is_object = target && json_type(target) == JSON_OBJECT;
    for (const struct json *m = is_object ? json_first(target) : NULL; m; m = json_next(m)) {
        const struct json *change = json_get(patch, json_key(m));

        if (!change)
            json_set(out, json_key(m), json_dup(m));
        else if (json_type(change) != JSON_NULL)
            json_set(out, json_key(m), json_merge(m, change));
    }
    for (const struct json *m = json_first(patch); m; m = json_next(m))
        if (json_type(m) != JSON_NULL && !(is_object && json_get(target, json_key(m))))
            json_set(out, json_key(m), json_merge(NULL, m));
    return out;
}

char *json_print(const struct json *j)
{
    char *text = cJSON_PrintUnformatted(in(j));

    if (!text)
        abort();
    return text;
}
