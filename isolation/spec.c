/* The codec of the task spec: one table of fields drives decoding, encoding and the contract test. */
#include "isolation/spec.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/signals.h"

enum {
    POINTER_MAX = 96, /* as in struct err */
    NAME_MAX_LEN = 128,
    PATH_MAX_LEN = 4095,
    ARG_MAX_LEN = 131071, /* MAX_ARG_STRLEN less the NUL, execve(2) */
    INPUT_MAX_LEN = 16 * 1024 * 1024,
    ITEMS_MAX = 10000,
    DAY_MS = 24 * 60 * 60 * 1000
};

enum kind { K_STRING, K_STRINGS, K_PAIRS, K_MODE, K_BOOL, K_INT, K_SIGNAL, K_DURATION, K_OBJECT };

typedef int (*check_fn)(const char *pointer, const char *text, struct err *e);

struct row {
    const char *pointer;
    enum json_type type; /* the usual one; signals and durations may also be integers */
    size_t offset;
    enum kind kind;
    int64_t min, max; /* value of an integer, bytes of a string, members of a container, ms of a duration */
    bool required;
    check_fn check; /* form of a string, or of each key */
};

static bool is_name(const char *s, const char *more)
{
    if (!isalnum((unsigned char)s[0]))
        return false;
    size_t n = 0;
    for (; s[n]; n++) {
        if (!isalnum((unsigned char)s[n]) && !strchr("_.-", s[n]) && !strchr(more, s[n]))
            return false;
    }
    return n <= NAME_MAX_LEN;
}

static int check_name(const char *pointer, const char *text, struct err *e)
{
    if (is_name(text, ""))
        return 0;
    return err_field(e, pointer, "must match ^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$");
}

static int check_label(const char *pointer, const char *text, struct err *e)
{
    if (is_name(text, "/"))
        return 0;
    return err_field(e, pointer, "a label's key must match ^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}$");
}

static int check_env(const char *pointer, const char *text, struct err *e)
{
    if (*text && !strchr(text, '='))
        return 0;
    return err_field(e, pointer, "a variable's name must not be empty nor contain '='");
}

static int check_work_dir(const char *pointer, const char *text, struct err *e)
{
    if (text[0] != '/')
        return err_field(e, pointer, "must be an absolute path");
    for (const char *p = strstr(text, "/.."); p; p = strstr(p + 1, "/..")) {
        if (p[3] == '/' || p[3] == '\0')
            return err_field(e, pointer, "must not have a \"..\" component");
    }
    return 0;
}

/* RFC 1123 section 2.1: labels of letters, digits and inner hyphens, joined by dots. */
static int check_hostname(const char *pointer, const char *text, struct err *e)
{
    char before = '.';
    for (const char *p = text;; p++) {
        bool edge = before == '.' || before == '-';
        bool end = *p == '.' || *p == '\0';
        bool good = end ? !edge : *p == '-' ? before != '.' : isalnum((unsigned char)*p) != 0;
        if (!good)
            return err_field(e, pointer, "must be a host name as in RFC 1123");
        if (*p == '\0')
            return 0;
        before = *p;
    }
}

#define AT(member) offsetof(struct spec, member)

static const struct row rows[] = {
    {"/command", JSON_STRING, AT(command), K_STRING, 1, PATH_MAX_LEN, true, NULL},
    {"/args", JSON_ARRAY, AT(args), K_STRINGS, 0, ITEMS_MAX, false, NULL},
    {"/name", JSON_STRING, AT(name), K_STRING, 1, NAME_MAX_LEN, false, check_name},
    {"/labels", JSON_OBJECT, AT(labels), K_PAIRS, 0, ITEMS_MAX, false, check_label},
    {"/user", JSON_STRING, AT(user), K_STRING, 1, 255, false, NULL},
    {"/env", JSON_OBJECT, AT(env), K_PAIRS, 0, ITEMS_MAX, false, check_env},
    {"/work_dir", JSON_STRING, AT(work_dir), K_STRING, 1, PATH_MAX_LEN, false, check_work_dir},
    {"/stdin", JSON_STRING, AT(input), K_STRING, 0, INPUT_MAX_LEN, false, NULL},
    {"/pid_mode", JSON_STRING, AT(pid_mode), K_MODE, 0, 0, false, NULL},
    {"/ipc_mode", JSON_STRING, AT(ipc_mode), K_MODE, 0, 0, false, NULL},
    {"/hostname", JSON_STRING, AT(hostname), K_STRING, 1, 63, false, check_hostname},
    {"/cap_add", JSON_ARRAY, AT(cap_add), K_STRINGS, 0, ITEMS_MAX, false, NULL},
    {"/cap_drop", JSON_ARRAY, AT(cap_drop), K_STRINGS, 0, ITEMS_MAX, false, NULL},
    {"/no_new_privs", JSON_BOOL, AT(no_new_privs), K_BOOL, 0, 0, false, NULL},
    {"/resources", JSON_OBJECT, AT(resources), K_OBJECT, 0, 0, false, NULL},
    {"/resources/cpu", JSON_NUMBER, AT(resources.cpu), K_INT, 1, 1000000, false, NULL},
    {"/resources/memory", JSON_NUMBER, AT(resources.memory), K_INT, 4, 16777216, false, NULL},
    {"/resources/memory_max", JSON_NUMBER, AT(resources.memory_max), K_INT, -1, 16777216, false, NULL},
    {"/resources/pids", JSON_NUMBER, AT(resources.pids), K_INT, 1, 4194304, false, NULL},
    {"/logs", JSON_OBJECT, AT(logs), K_OBJECT, 0, 0, false, NULL},
    {"/logs/max_files", JSON_NUMBER, AT(logs.max_files), K_INT, 1, 1000, false, NULL},
    {"/logs/max_file_size", JSON_NUMBER, AT(logs.max_file_size), K_INT, 1, 10240, false, NULL},
    {"/logs/disabled", JSON_BOOL, AT(logs.disabled), K_BOOL, 0, 0, false, NULL},
    {"/kill_signal", JSON_STRING, AT(kill_signal), K_SIGNAL, 0, 0, false, NULL},
    {"/kill_timeout", JSON_STRING, AT(kill_timeout_ms), K_DURATION, 0, DAY_MS, false, NULL},
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static const char *const mode_names[] = {[NS_PRIVATE] = "private", [NS_HOST] = "host"};

const char *spec_field_pointer(size_t i)
{
    return i < ROWS ? rows[i].pointer : NULL;
}

/* Appends "/key" to base, escaped as RFC 6901 section 3 says; too long a pointer is cut. */
static void pointer_join(char out[POINTER_MAX], const char *base, const char *key)
{
    size_t n = (size_t)snprintf(out, POINTER_MAX, "%s/", base);
    for (; *key && n + 2 < POINTER_MAX; key++) {
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

static int check_length(const struct row *r, const char *pointer, size_t len, int64_t max, struct err *e)
{
    const char *unit = r->type == JSON_STRING ? "bytes" : "members";
    if ((int64_t)len < r->min && r->min == 1)
        return err_field(e, pointer, "must not be empty");
    if ((int64_t)len > max)
        return err_field(e, pointer, "must have at most %lld %s", (long long)max, unit);
    return 0;
}

static int decode_string(const struct row *r, const struct json *j, char **out, struct err *e)
{
    const char *text = json_string(j);
    if (check_length(r, r->pointer, strlen(text), r->max, e) < 0)
        return -1;
    if (r->check && r->check(r->pointer, text, e) < 0)
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
    else if (strlen(text) > ARG_MAX_LEN)
        err_field(e, pointer, "must have at most %d bytes", ARG_MAX_LEN);
    else
        return text;
    return NULL;
}

static int decode_strings(const struct row *r, const struct json *j, struct strings *out, struct err *e)
{
    size_t n = json_count(j);
    if (check_length(r, r->pointer, n, r->max, e) < 0)
        return -1;
    out->v = xcalloc(n + 1, sizeof(*out->v));
    for (const struct json *item = json_first(j); item; item = json_next(item)) {
        char pointer[POINTER_MAX];
        snprintf(pointer, sizeof(pointer), "%s/%zu", r->pointer, out->n);
        const char *text = decode_item(item, pointer, e);
        if (!text)
            return -1;
        out->v[out->n++] = xstrdup(text);
    }
    return 0;
}

static int decode_pairs(const struct row *r, const struct json *j, struct pairs *out, struct err *e)
{
    size_t n = json_count(j);
    if (check_length(r, r->pointer, n, r->max, e) < 0)
        return -1;
    out->v = xcalloc(n + 1, sizeof(*out->v));
    for (const struct json *item = json_first(j); item; item = json_next(item)) {
        char pointer[POINTER_MAX];
        pointer_join(pointer, r->pointer, json_key(item));
        if (r->check(pointer, json_key(item), e) < 0)
            return -1;
        const char *text = decode_item(item, pointer, e);
        if (!text)
            return -1;
        struct pair *p = &out->v[out->n++];
        p->key = xstrdup(json_key(item));
        p->value = xstrdup(text);
    }
    return 0;
}

static int decode_mode(const struct row *r, const struct json *j, enum ns_mode *out, struct err *e)
{
    for (int m = NS_PRIVATE; m <= NS_HOST; m++) {
        if (!strcmp(json_string(j), mode_names[m])) {
            *out = (enum ns_mode)m;
            return 0;
        }
    }
    return err_field(e, r->pointer, "must be \"private\" or \"host\"");
}

static int decode_int(const struct row *r, const struct json *j, int64_t *out, struct err *e)
{
    if (!json_int(j, out))
        return err_field(e, r->pointer, "expected integer, got number with a fraction or beyond 2^53");
    if (*out < r->min || *out > r->max)
        return err_field(e, r->pointer, "must be from %lld to %lld", (long long)r->min, (long long)r->max);
    return 0;
}

static int decode_signal(const struct row *r, const struct json *j, int64_t *out, struct err *e)
{
    int64_t number = 0;
    char text[24];
    const char *name = json_string(j);
    if (!name) {
        if (!json_int(j, &number))
            return err_field(e, r->pointer, "must be a signal's name or number");
        snprintf(text, sizeof(text), "%lld", (long long)number);
        name = text;
    }
    int signum = signal_parse(name);
    if (signum < 1)
        return err_field(e, r->pointer, "must be a signal's name or number");
    *out = signum;
    return 0;
}

static int decode_duration(const struct row *r, const struct json *j, int64_t *out, struct err *e)
{
    int64_t ms = 0;
    if (json_string(j)) {
        if (duration_parse(json_string(j), &ms) < 0)
            return err_field(e, r->pointer, "must be a duration such as \"5s\" or \"1m30s\", or whole seconds");
    } else if (!json_int(j, &ms)) {
        return err_field(e, r->pointer, "must be a duration such as \"5s\" or \"1m30s\", or whole seconds");
    } else { /* beyond the range already when beyond it in seconds; no overflow */
        ms = ms > r->max ? r->max + 1 : ms < 0 ? -1 : ms * 1000;
    }
    if (ms < r->min || ms > r->max)
        return err_field(e, r->pointer, "must be from 0 to 24h");
    *out = ms;
    return 0;
}

static bool type_fits(const struct row *r, enum json_type t)
{
    return t == r->type || (t == JSON_NUMBER && (r->kind == K_SIGNAL || r->kind == K_DURATION));
}

static int decode_object(const char *base, const struct json *object, struct spec *s, struct err *e);

static int decode_field(const struct row *r, const struct json *j, struct spec *s, struct err *e)
{
    void *at = (char *)s + r->offset;
    if (!type_fits(r, json_type(j))) {
        bool either = r->kind == K_SIGNAL || r->kind == K_DURATION;
        const char *name = r->kind == K_INT ? "integer" : json_type_name(r->type);
        return wrong_type(r->pointer, either ? "string or integer" : name, j, e);
    }
    switch (r->kind) {
    case K_STRING:
        return decode_string(r, j, at, e);
    case K_STRINGS:
        return decode_strings(r, j, at, e);
    case K_PAIRS:
        return decode_pairs(r, j, at, e);
    case K_MODE:
        return decode_mode(r, j, at, e);
    case K_BOOL:
        *(bool *)at = json_bool(j);
        return 0;
    case K_INT:
        return decode_int(r, j, at, e);
    case K_SIGNAL:
        return decode_signal(r, j, at, e);
    case K_DURATION:
        return decode_duration(r, j, at, e);
    case K_OBJECT:
        return decode_object(r->pointer, j, s, e);
    }
    return 0;
}

static int decode_object(const char *base, const struct json *object, struct spec *s, struct err *e)
{
    for (const struct json *j = json_first(object); j; j = json_next(j)) {
        char pointer[POINTER_MAX];
        pointer_join(pointer, base, json_key(j));
        size_t i = 0;
        while (i < ROWS && strcmp(rows[i].pointer, pointer) != 0)
            i++;
        if (i == ROWS)
            return err_field(e, pointer, "unknown field");
        if (decode_field(&rows[i], j, s, e) < 0)
            return -1;
    }
    return 0;
}

/* The base name of the command with what a name may not have replaced. */
static char *default_name(const char *command)
{
    const char *slash = strrchr(command, '/');
    const char *from = slash ? slash + 1 : command;
    while (*from && !isalnum((unsigned char)*from))
        from++;
    char *name = xstrdup(*from ? from : "task");
    if (strlen(name) > NAME_MAX_LEN)
        name[NAME_MAX_LEN] = '\0';
    for (char *p = name; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("_.-", *p))
            *p = '_';
    }
    return name;
}

/* What concerns more than one field. */
static int check_whole(const struct json *j, const struct spec *s, struct err *e)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].required && !json_get(j, rows[i].pointer + 1))
            return err_field(e, rows[i].pointer, "is required");
    }
    const struct json *resources = json_get(j, "resources");
    if (!resources || !json_get(resources, "memory_max"))
        return 0;
    int64_t max = s->resources.memory_max;
    if (max != -1 && (max < 4 || max < s->resources.memory))
        return err_field(e, "/resources/memory_max", "must be -1 (unlimited), or at least 4 and not below memory");
    return 0;
}

int spec_decode(const struct json *j, struct spec *s, struct err *e)
{
    *s = (struct spec){.no_new_privs = true, .kill_signal = SIGINT, .kill_timeout_ms = 5000};
    s->logs.max_files = 10;
    s->logs.max_file_size = 10;
    if (json_type(j) != JSON_OBJECT)
        return wrong_type("", "object", j, e);
    if (decode_object("", j, s, e) < 0 || check_whole(j, s, e) < 0)
        return -1;
    if (!s->name)
        s->name = default_name(s->command);
    if (!s->user)
        s->user = xstrdup("nobody");
    if (!s->work_dir)
        s->work_dir = xstrdup("/");
    return 0;
}

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

/* NULL for what is not set: it has no form of its own. */
static struct json *encode_field(const struct row *r, const struct spec *s)
{
    const void *at = (const char *)s + r->offset;
    char text[CLOCK_TEXT];
    switch (r->kind) {
    case K_STRING:
        return *(char *const *)at ? json_new_string(*(char *const *)at) : NULL;
    case K_STRINGS:
        return encode_strings(at);
    case K_PAIRS:
        return encode_pairs(at);
    case K_MODE: { /* NS_DEFAULT is the operator's choice at launch, so it is not written down */
        enum ns_mode mode = *(const enum ns_mode *)at;
        return mode == NS_DEFAULT ? NULL : json_new_string(mode_names[mode]);
    }
    case K_BOOL:
        return json_new_bool(*(const bool *)at);
    case K_INT:
        return *(const int64_t *)at ? json_new_int(*(const int64_t *)at) : NULL;
    case K_SIGNAL: {
        int signum = (int)*(const int64_t *)at;
        const char *name = signal_name(signum);
        return signal_parse(name) == signum ? json_new_string(name) : json_new_int(signum);
    }
    case K_DURATION:
        duration_format(*(const int64_t *)at, text);
        return json_new_string(text);
    case K_OBJECT:
        return json_object();
    }
    return NULL;
}

struct json *spec_encode(const struct spec *s)
{
    struct json *root = json_object(), *object = NULL;
    for (size_t i = 0; i < ROWS; i++) {
        struct json *j = encode_field(&rows[i], s);
        if (!j)
            continue;
        const char *key = strrchr(rows[i].pointer, '/') + 1; /* an inner field follows its object in the table */
        json_set(key == rows[i].pointer + 1 ? root : object, key, j);
        if (rows[i].kind == K_OBJECT)
            object = j;
    }
    return root;
}

static void free_field(const struct row *r, struct spec *s)
{
    void *at = (char *)s + r->offset;
    if (r->kind == K_STRING) {
        free(*(char **)at);
    } else if (r->kind == K_STRINGS) {
        struct strings *list = at;
        for (size_t i = 0; i < list->n; i++)
            free(list->v[i]);
        free(list->v);
    } else if (r->kind == K_PAIRS) {
        struct pairs *map = at;
        for (size_t i = 0; i < map->n; i++) {
            free(map->v[i].key);
            free(map->v[i].value);
        }
        free(map->v);
    }
}

void spec_free(struct spec *s)
{
    for (size_t i = 0; i < ROWS; i++)
        free_field(&rows[i], s);
    *s = (struct spec){0};
}
