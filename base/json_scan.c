/* The strict pre-scan: RFC 8259 to the letter, with bounds, before cJSON sees a byte. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/utf8.h"

enum { DEPTH_MAX = 32, VALUES_MAX = 10000 };

struct scan {
    const unsigned char *start, *p, *end;
    int depth, values;
    struct err *e;
    char path[96]; /* JSON pointer of the value at hand */
};

struct name { /* a key of the object at hand */
    char *text;
};

static int fail(struct scan *s, const char *what)
{
    return err_set(s->e, 400, "malformed_json", "%s at byte %zu", what, (size_t)(s->p - s->start));
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static int scan_utf8(struct scan *s)
{
    size_t n = utf8_sequence(s->p, (size_t)(s->end - s->p));

    if (n == 0)
        return fail(s, "invalid UTF-8");
    s->p += n;
    return 0;
}

static int hex4(const unsigned char *p)
{
    int v = 0;

    for (int i = 0; i < 4; i++) {
        int c = p[i], d = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

static void put_utf8(struct buf *b, unsigned v)
{
    unsigned char c[4];
    size_t n = v < 0x80 ? 1 : v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;

    for (size_t i = n; i-- > 1; v >>= 6)
        c[i] = (unsigned char)(0x80 | (v & 0x3f));
    c[0] = (unsigned char)(n == 1 ? v : (0xf0 << (4 - n) & 0xff) | v);
    buf_append(b, c, n);
}

static int scan_unicode_escape(struct scan *s, struct buf *out)
{
    int v = s->end - s->p >= 6 ? hex4(s->p + 2) : -1;
    unsigned code = (unsigned)v;

    if (v < 0)
        return fail(s, "bad \\u escape");
    if (v == 0)
        return fail(s, "NUL in a string");
    if (v >= 0xdc00 && v < 0xe000)
        return fail(s, "lone surrogate");
    s->p += 6;
    if (v >= 0xd800 && v < 0xdc00) {
        int low = s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u' ? hex4(s->p + 2) : -1;

        if (low < 0xdc00 || low > 0xdfff)
            return fail(s, "lone surrogate");
        code = 0x10000 + (((unsigned)v - 0xd800) << 10) + ((unsigned)low - 0xdc00);
        s->p += 6;
    }
    put_utf8(out, code);
    return 0;
}

/* At the opening quote; out gets the decoded text. */
static int scan_string(struct scan *s, struct buf *out)
{
    static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";

    for (s->p++; s->p < s->end;) {
        const unsigned char *from = s->p;

        if (*s->p == '"') {
            s->p++;
            return 0;
        }
        if (*s->p < 0x20)
            return fail(s, "control character in a string");
        if (*s->p != '\\') {
            if (scan_utf8(s) < 0)
                return -1;
            buf_append(out, from, (size_t)(s->p - from));
            continue;
        }
        if (s->end - s->p < 2)
            break;
        if (s->p[1] == 'u') {
            if (scan_unicode_escape(s, out) < 0)
                return -1;
            continue;
        }
        const char *which = s->p[1] ? strchr(escapes, s->p[1]) : NULL;
        if (!which)
            return fail(s, "bad escape");
        buf_append(out, &meanings[which - escapes], 1);
        s->p += 2;
    }
    return fail(s, "unfinished string");
}

static bool digits(struct scan *s)
{
    const unsigned char *from = s->p;

    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return s->p > from;
}

static int scan_number(struct scan *s)
{
    if (*s->p == '-')
        s->p++;
    if (s->p < s->end && *s->p == '0')
        s->p++;
    else if (!digits(s))
        return fail(s, "bad number");
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!digits(s))
            return fail(s, "bad number");
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        if (!digits(s))
            return fail(s, "bad number");
    }
    return 0;
}

static int scan_value(struct scan *s);

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

/* RFC 6901: ~ is ~0 and / is ~1. A path too long is cut between characters, since replies quote it. */
static size_t enter(struct scan *s, const char *key)
{
    size_t before = strlen(s->path), n = before, step;

    if (n + 2 < sizeof(s->path))
        s->path[n++] = '/';
    for (; *key; key += step) {
        bool escaped = *key == '~' || *key == '/';

        step = utf8_sequence((const unsigned char *)key, strnlen(key, 4));
        if (step == 0 || n + (escaped ? 2 : step) >= sizeof(s->path))
            break;
        if (escaped) {
            s->path[n++] = '~';
            s->path[n++] = *key == '~' ? '0' : '1';
        } else {
            memcpy(s->path + n, key, step);
            n += step;
        }
    }
    s->path[n] = '\0';
    return before;
}

static int check_names(struct scan *s, struct name *names, size_t n)
{
    qsort(names, n, sizeof(*names), compare_names);
    for (size_t i = 1; i < n; i++)
        if (strcmp(names[i].text, names[i - 1].text) == 0) {
            enter(s, names[i].text);
            err_set(s->e, 422, "duplicate_key", "the key stands twice in its object");
            snprintf(s->e->pointer, sizeof(s->e->pointer), "%s", s->path);
            return -1;
        }
    return 0;
}

static int scan_member(struct scan *s, struct name *name)
{
    _cleanup_buf_ struct buf key = {0};

    if (s->p >= s->end || *s->p != '"')
        return fail(s, "a key is expected");
    if (scan_string(s, &key) < 0)
        return -1;
    skip_space(s);
    if (s->p >= s->end || *s->p != ':')
        return fail(s, "a colon is expected");
    s->p++;
    name->text = buf_take(&key, NULL);
    size_t before = enter(s, name->text);
    if (scan_value(s) < 0)
        return -1;
    s->path[before] = '\0';
    return 0;
}

static int scan_element(struct scan *s, size_t index)
{
    char key[24];

    snprintf(key, sizeof(key), "%zu", index);
    size_t before = enter(s, key);
    if (scan_value(s) < 0)
        return -1;
    s->path[before] = '\0';
    return 0;
}

static int scan_container(struct scan *s)
{
    bool object = *s->p == '{';
    unsigned char close = object ? '}' : ']';
    struct name *names = NULL;
    size_t n = 0, cap = 0, index = 0;
    int rc = 0;

    if (++s->depth > DEPTH_MAX)
        return fail(s, "nesting deeper than 32");
    s->p++;
    skip_space(s);
    if (s->p < s->end && *s->p == close) {
        s->p++;
        s->depth--;
        return 0;
    }
    for (;;) {
        skip_space(s);
        if (object && n == cap)
            names = xrealloc(names, (cap = cap ? cap * 2 : 16) * sizeof(*names));
        if (object)
            names[n++].text = NULL;
        rc = object ? scan_member(s, &names[n - 1]) : scan_element(s, index++);
        if (rc < 0)
            break;
        skip_space(s);
        if (s->p < s->end && *s->p == ',') {
            s->p++;
            continue;
        }
        if (s->p < s->end && *s->p == close)
            s->p++;
        else
            rc = fail(s, object ? "a comma or } is expected" : "a comma or ] is expected");
        break;
    }
    if (rc == 0 && object)
        rc = check_names(s, names, n);
    for (size_t i = 0; i < n; i++)
        free(names[i].text);
    free(names);
    s->depth--;
    return rc;
}

static int scan_word(struct scan *s, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
        return fail(s, "a value is expected");
    s->p += n;
    return 0;
}

static int scan_value(struct scan *s)
{
    _cleanup_buf_ struct buf text = {0};

    skip_space(s);
    if (s->p >= s->end)
        return fail(s, "a value is expected");
    if (++s->values > VALUES_MAX)
        return fail(s, "more than 10,000 values");
    switch (*s->p) {
    case '{':
    case '[':
        return scan_container(s);
    case '"':
        return scan_string(s, &text);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        return *s->p == '-' || (*s->p >= '0' && *s->p <= '9') ? scan_number(s) : fail(s, "a value is expected");
    }
}

int json_check(const char *text, size_t len, struct err *e)
{
    const unsigned char *p = (const unsigned char *)text;
    struct scan s = {.start = p, .p = p, .end = p + len, .e = e};

    if (scan_value(&s) < 0)
        return -1;
    skip_space(&s);
    return s.p == s.end ? 0 : fail(&s, "something follows the value");
}
