/* A task's standard input, in its two forms: a text, or an object that says it stays open. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "isolation/spec.h"
#include "isolation/spec_checks.h"

enum { TEXT_MAX = 16 << 20 };

static const struct record_field fields[] = {
    {"open", RECORD_BOOL, offsetof(struct input_spec, open), .required = true},
};
static const struct record_table table = {.fields = fields, .n = 1, .size = sizeof(struct input_spec)};

static int decode(const struct json *j, const char *pointer, void *at, struct err *e)
{
    struct input_spec *in = at;
    const char *text = json_string(j);

    if (json_type(j) == JSON_OBJECT)
        return record_decode(&table, j, pointer, in, e);
    if (!text)
        return err_field(e, pointer, "expected string or object, got %s", json_type_name(json_type(j)));
    if (strlen(text) > TEXT_MAX)
        return err_field(e, pointer, "must have at most %d bytes", TEXT_MAX);
    free(in->text);
    in->text = xstrdup(text);
    return 0;
}

static struct json *encode(const void *at)
{
    const struct input_spec *in = at;

    return in->text ? json_new_string(in->text) : in->open ? record_encode(&table, in) : NULL;
}

static void release(void *at)
{
    free(((struct input_spec *)at)->text);
}

const struct record_codec input_codec = {
    .expected = "string or object", .decode = decode, .encode = encode, .release = release};
