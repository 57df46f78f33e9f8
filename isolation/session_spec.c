/* The table of a session's fields. */
#include "isolation/session_spec.h"

#include "isolation/spec_checks.h"

enum { PATH_MAX_LEN = 4095, INPUT_MAX = 16 * 1024 * 1024, ITEMS_MAX = 10000, DAY_MS = 24 * 60 * 60 * 1000 };

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define AT(member) .offset = offsetof(struct session_spec, member)
#define RANGE(low, high) .min = (low), .max = (high)

static int check_whole(const struct json *j, const char *pointer, const void *at, struct err *e)
{
    const struct session_spec *s = at;

    (void)pointer;
    if (!s->tty && json_get(j, "rows"))
        return err_field(e, "/rows", "goes with tty");
    if (!s->tty && json_get(j, "cols"))
        return err_field(e, "/cols", "goes with tty");
    if (s->tty && s->input)
        return err_field(e, "/stdin", "a terminal's input comes through the WebSocket");
    return 0;
}

static const struct record_field fields[] = {
    {"command", RECORD_STRING, AT(command), RANGE(1, PATH_MAX_LEN), .required = true},
    {"args", RECORD_STRINGS, AT(args), RANGE(0, ITEMS_MAX)},
    {"env", RECORD_PAIRS, AT(env), RANGE(0, ITEMS_MAX), .check = spec_check_env},
    {"work_dir", RECORD_STRING, AT(work_dir), RANGE(1, PATH_MAX_LEN), .check = spec_check_path},
    {"user", RECORD_STRING, AT(user), RANGE(1, 255)},
    {"stdin", RECORD_STRING, AT(input), RANGE(0, INPUT_MAX)},
    {"tty", RECORD_BOOL, AT(tty)},
    {"rows", RECORD_INT, AT(rows), RANGE(1, 65535)},
    {"cols", RECORD_INT, AT(cols), RANGE(1, 65535)},
    {"timeout", RECORD_DURATION, AT(timeout_ms), RANGE(0, DAY_MS)},
};
static const struct record_table table = {
    .fields = fields, .n = COUNT(fields), .size = sizeof(struct session_spec), .whole = check_whole};

int session_spec_decode(const struct json *j, struct session_spec *s, struct err *e)
{
    *s = (struct session_spec){0};
    return record_decode(&table, j, "", s, e);
}

struct json *session_spec_encode(const struct session_spec *s)
{
    return record_encode(&table, s);
}

void session_spec_free(struct session_spec *s)
{
    record_free(&table, s);
}
