/* Strict JSON (RFC 8259) over cJSON: the only file that includes cJSON is json.c. */
#ifndef CLOISTER_BASE_JSON_H
#define CLOISTER_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct json; /* a value; opaque */
enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* The strict pre-scan alone: UTF-8 validity, grammar, depth <= 32, at most 10,000 values, no duplicate keys in an
 * object, no \u0000, no control characters, no lone surrogates. Status 400, code "malformed_json", or 422 code
 * "duplicate_key" with the pointer of the second one. The detail names the byte offset. */
int json_check(const char *text, size_t len, struct err *e);
/* json_check, then a tree that the caller frees with json_free. NULL on error. */
struct json *json_parse(const char *text, size_t len, struct err *e);
void json_free(struct json *j);
void json_freep(struct json **j);
#define _cleanup_json_ __attribute__((cleanup(json_freep)))

enum json_type json_type(const struct json *j);
const char *json_type_name(enum json_type t); /* "string", "object", ... */
/* Member by exact name, or NULL. The tree keeps ownership (so for all getters below). */
struct json *json_get(const struct json *object, const char *key);
struct json *json_first(const struct json *container); /* first member or element, or NULL */
struct json *json_next(const struct json *j);
const char *json_key(const struct json *member);
size_t json_count(const struct json *container);
const char *json_string(const struct json *j); /* NULL when it is no string */
bool json_bool(const struct json *j);
/* True and *out set when j is a number without fraction within +-2^53. */
bool json_int(const struct json *j, int64_t *out);

struct json *json_object(void);
struct json *json_array(void);
struct json *json_new_string(const char *s);
struct json *json_new_int(int64_t v); /* printed exactly, whatever its size */
struct json *json_new_bool(bool v);
struct json *json_new_double(double v);
struct json *json_new_null(void);
/* Adds v, which the container then owns. key is copied. */
void json_set(struct json *object, const char *key, struct json *v);
void json_push(struct json *array, struct json *v);
/* Shorthands for json_set(object, key, json_new_*(v)). A NULL string becomes null. */
void json_set_string(struct json *object, const char *key, const char *v);
/* A time of CLOCK_REALTIME in ns as clock_format writes it; null for one that is not known (0). */
void json_set_time(struct json *object, const char *key, int64_t ns);
void json_set_int(struct json *object, const char *key, int64_t v);
void json_set_bool(struct json *object, const char *key, bool v);
struct json *json_dup(const struct json *j); /* deep; caller frees */
/* target changed by a JSON merge patch (RFC 7396); both stay the caller's, who frees the result. */
struct json *json_merge(const struct json *target, const struct json *patch);
/* Compact text; the caller frees it. */
char *json_print(const struct json *j);

#endif
