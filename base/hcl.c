/* A recursive-descent parser; it writes into a tree of struct json as it reads. */
#include "base/hcl.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/utf8.h"

enum { DEPTH_MAX = 32 };

struct parser {
    const char *file, *start, *p, *end;
    int depth;
    struct err *e;
};

static int fail(struct parser *s, const char *what)
{
    int line = 1, column = 1;

    for (const char *q = s->start; q < s->p && q < s->end; q++) {
        column = *q == '\n' ? 1 : column + 1;
        line += *q == '\n';
    }
    return err_set(s->e, 400, "config_syntax", "%s:%d:%d: %s", s->file, line, column, what);
}

static bool at(const struct parser *s, char c)
{
    return s->p < s->end && *s->p == c;
}

static bool starts(const struct parser *s, const char *text)
{
    size_t n = strlen(text);

    return (size_t)(s->end - s->p) >= n && memcmp(s->p, text, n) == 0;
}

static void skip_line(struct parser *s)
{
    while (s->p < s->end && *s->p != '\n')
        s->p++;
}

/* Space and comments; newlines only where they mean nothing. */
static int skip(struct parser *s, bool newlines)
{
    while (s->p < s->end) {
        if (*s->p == ' ' || *s->p == '\t' || *s->p == '\r' || (newlines && *s->p == '\n')) {
            s->p++;
        } else if (*s->p == '#' || starts(s, "//")) {
            skip_line(s);
        } else if (starts(s, "/*")) {
            const char *close = memmem(s->p + 2, (size_t)(s->end - s->p - 2), "*/", 2);

            if (!close)
                return fail(s, "unfinished comment");
            s->p = close + 2;
        } else {
            break;
        }
    }
    return 0;
}

static bool is_word(char c, bool first)
{
    return isalpha((unsigned char)c) || c == '_' || (!first && (isdigit((unsigned char)c) || c == '-' || c == '.'));
}

static char *word(struct parser *s)
{
    _cleanup_buf_ struct buf b = {0};

    while (s->p < s->end && is_word(*s->p, b.len == 0))
        buf_append(&b, s->p++, 1);
    return buf_take(&b, NULL);
}

static int string(struct parser *s, char **out)
{
    static const char escapes[] = "\"\\nrt", meanings[] = "\"\\\n\r\t";
    _cleanup_buf_ struct buf b = {0};

    for (s->p++; s->p < s->end && *s->p != '\n'; s->p++) {
        if (*s->p == '"') {
            s->p++;
            *out = buf_take(&b, NULL);
            return 0;
        }
        if (starts(s, "${") || starts(s, "%{"))
            return fail(s, "interpolation is not supported");
        if (*s->p == '\0')
            return fail(s, "NUL in a string");
        if (*s->p != '\\') {
            buf_append(&b, s->p, 1);
            continue;
        }
        const char *which = s->p + 1 < s->end && s->p[1] ? strchr(escapes, s->p[1]) : NULL;
        if (!which)
            return fail(s, "bad escape");
        buf_append(&b, &meanings[which - escapes], 1);
        s->p++;
    }
    return fail(s, "unfinished string");
}

/* How many blanks every line of the text begins with at least: <<- takes them away. */
static size_t common_indent(const char *text)
{
    size_t least = (size_t)-1;

    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        size_t n = strspn(line, " \t");

        if (line[n] && line[n] != '\n' && n < least)
            least = n;
    }
    return least == (size_t)-1 ? 0 : least;
}

static char *unindent(const char *text)
{
    _cleanup_buf_ struct buf b = {0};
    size_t indent = common_indent(text);

    for (const char *line = text; *line;) {
        size_t n = strcspn(line, "\n"), cut = n < indent ? n : indent;

        buf_append(&b, line + cut, n - cut);
        line += n;
        if (*line == '\n')
            buf_append(&b, line++, 1);
    }
    return buf_take(&b, NULL);
}

/* The text need not end in a NUL, so strspn(3) will not do. */
static size_t blanks(const char *line, size_t n)
{
    size_t i = 0;

    while (i < n && (line[i] == ' ' || line[i] == '\t'))
        i++;
    return i;
}

static int heredoc(struct parser *s, char **out)
{
    _cleanup_buf_ struct buf b = {0};

    s->p += 2;
    bool strip = at(s, '-');
    s->p += strip;
    _cleanup_free_ char *tag = word(s);
    if (!*tag || (at(s, '\r') ? s->p++ : s->p, !at(s, '\n')))
        return fail(s, "a heredoc wants a tag and a new line");
    for (s->p++; s->p < s->end;) {
        const char *line = s->p;

        skip_line(s);
        size_t n = (size_t)(s->p - line), indent = strip ? blanks(line, n) : 0;
        if (n - indent == strlen(tag) && memcmp(line + indent, tag, n - indent) == 0) {
            *out = strip ? unindent(b.data ? b.data : "") : buf_take(&b, NULL);
            return 0;
        }
        if (memmem(line, n, "${", 2) || memmem(line, n, "%{", 2) || memchr(line, 0, n))
            return fail(s, "interpolation and NUL are not supported");
        buf_append(&b, line, n);
        buf_puts(&b, "\n");
        s->p += s->p < s->end;
    }
    return fail(s, "unfinished heredoc");
}

static int value(struct parser *s, struct json **out);

static int list(struct parser *s, struct json **out)
{
    _cleanup_json_ struct json *array = json_array();

    for (s->p++;;) {
        struct json *v = NULL;

        if (skip(s, true) < 0)
            return -1;
        if (at(s, ']')) {
            s->p++;
            *out = array;
            array = NULL;
            return 0;
        }
        if (value(s, &v) < 0)
            return -1;
        json_push(array, v);
        if (skip(s, true) < 0)
            return -1;
        if (at(s, ','))
            s->p++;
        else if (!at(s, ']'))
            return fail(s, "a comma or ] is expected");
    }
}

static int body(struct parser *s, struct json *into, bool braces);

static int number(struct parser *s, struct json **out)
{
    char text[40];
    size_t n = 0;
    struct err ignored;

    while (s->p < s->end && n + 1 < sizeof(text) && (isdigit((unsigned char)*s->p) || strchr("+-.eE", *s->p)) && *s->p)
        text[n++] = *s->p++;
    text[n] = '\0';
    *out = json_parse(text, n, &ignored);
    return *out ? 0 : fail(s, "bad number");
}

static int keyword(struct parser *s, struct json **out)
{
    const char *from = s->p;
    _cleanup_free_ char *name = word(s);

    if (strcmp(name, "true") == 0 || strcmp(name, "false") == 0) {
        *out = json_new_bool(*name == 't');
    } else if (strcmp(name, "null") == 0) {
        *out = json_new_null();
    } else {
        s->p = from;
        return fail(s, "a value is expected");
    }
    return 0;
}

static int value(struct parser *s, struct json **out)
{
    _cleanup_free_ char *text = NULL;
    int rc;

    if (++s->depth > DEPTH_MAX)
        return fail(s, "nesting deeper than 32");
    if (at(s, '"') || starts(s, "<<")) {
        rc = at(s, '"') ? string(s, &text) : heredoc(s, &text);
        if (rc == 0)
            *out = json_new_string(text);
    } else if (at(s, '[')) {
        rc = list(s, out);
    } else if (at(s, '{')) {
        _cleanup_json_ struct json *object = json_object();

        s->p++;
        rc = body(s, object, true);
        if (rc == 0) {
            *out = object;
            object = NULL;
        }
    } else if (s->p < s->end && (isdigit((unsigned char)*s->p) || *s->p == '-')) {
        rc = number(s, out);
    } else {
        rc = keyword(s, out);
    }
    s->depth--;
    return rc;
}

static int name(struct parser *s, char **out)
{
    if (at(s, '"'))
        return string(s, out);
    *out = word(s);
    return **out ? 0 : fail(s, "a name is expected");
}

static int attribute(struct parser *s, struct json *into, const char *key)
{
    struct json *v = NULL;

    s->p++;
    if (skip(s, false) < 0)
        return -1;
    if (json_get(into, key))
        return fail(s, "the attribute stands twice");
    if (value(s, &v) < 0)
        return -1;
    json_set(into, key, v);
    return 0;
}

/* After the block's name: labels, then a body. Each label is one more level of the tree. */
static int block(struct parser *s, struct json *into, const char *key)
{
    _cleanup_free_ char *at_key = xstrdup(key);
    struct json *level = into;

    for (int levels = s->depth;; levels++) {
        struct json *next = json_get(level, at_key);
        bool last;

        if (skip(s, false) < 0)
            return -1;
        last = at(s, '{');
        if (levels > DEPTH_MAX)
            return fail(s, "nesting deeper than 32");
        if (next && (last || json_type(next) != JSON_OBJECT))
            return fail(s, "the block stands twice");
        if (!next) {
            next = json_object();
            json_set(level, at_key, next);
        }
        level = next;
        if (last)
            break;
        free(at_key);
        at_key = NULL;
        if (!at(s, '"') && !(s->p < s->end && is_word(*s->p, true)))
            return fail(s, "= or { is expected");
        if (name(s, &at_key) < 0)
            return -1;
    }
    s->p++;
    return body(s, level, true);
}

static int member(struct parser *s, struct json *into)
{
    _cleanup_free_ char *key = NULL;

    if (name(s, &key) < 0 || skip(s, false) < 0)
        return -1;
    return at(s, '=') || at(s, ':') ? attribute(s, into, key) : block(s, into, key);
}

/* Members until } (or the end of the file); objects may separate them by commas. */
static int body(struct parser *s, struct json *into, bool braces)
{
    if (++s->depth > DEPTH_MAX)
        return fail(s, "nesting deeper than 32");
    for (;;) {
        if (skip(s, true) < 0)
            return -1;
        if (s->p >= s->end && !braces)
            break;
        if (braces && at(s, '}')) {
            s->p++;
            break;
        }
        if (s->p >= s->end)
            return fail(s, "unfinished block");
        if (member(s, into) < 0 || skip(s, false) < 0)
            return -1;
        if (braces && at(s, ','))
            s->p++;
    }
    s->depth--;
    return 0;
}

struct json *hcl_parse(const char *file, const char *text, size_t len, struct err *e)
{
    struct parser s = {.file = file, .start = text, .p = text, .end = text + len, .e = e};
    _cleanup_json_ struct json *tree = json_object();

    for (size_t n; s.p < s.end; s.p += n)
        if ((n = utf8_sequence((const unsigned char *)s.p, (size_t)(s.end - s.p))) == 0) {
            fail(&s, "invalid UTF-8");
            return NULL;
        }
    s.p = text;
    if (body(&s, tree, false) < 0)
        return NULL;
    struct json *done = tree;
    tree = NULL;
    return done;
}
