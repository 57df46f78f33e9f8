#include "server/router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"

enum { SEGMENTS_MAX = 256 };

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

char *percent_decode(const char *s, size_t len)
{
    _cleanup_buf_ struct buf b = {0};

    for (size_t i = 0; i < len; i++) {
        char c = s[i];

        if (c == '%') {
            int high = i + 2 < len ? hex(s[i + 1]) : -1, low = i + 2 < len ? hex(s[i + 2]) : -1;

            if (high < 0 || low < 0 || (high == 0 && low == 0))
                return NULL;
            c = (char)(high * 16 + low);
            i += 2;
        }
        buf_append(&b, &c, 1);
    }
    return buf_take(&b, NULL);
}

/* The raw segments of a path; canonical ones only: what two programs could read differently is refused. */
static int split(const char *path, char *segments[], size_t max, size_t *n, struct err *e)
{
    *n = 0;
    if (path[0] != '/')
        return err_set(e, 400, "bad_path", "the path must begin with /");
    if (!path[1])
        return 0;
    for (const char *p = path + 1;; p++) {
        size_t len = strcspn(p, "/");
        _cleanup_free_ char *text = percent_decode(p, len);

        if (!text || strchr(text, '/'))
            return err_set(e, 400, "bad_path", "the path holds a bad escape, %%00 or %%2F");
        if (!*text || strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
            return err_set(e, 400, "bad_path", "the path holds an empty, . or .. segment");
        if (*n == max)
            return err_set(e, 404, "not_found", "there is no such resource");
        segments[(*n)++] = text;
        text = NULL;
        p += len;
        if (!*p)
            return 0;
    }
}

/* Whether the segments fit the pattern; variable ones go to params (borrowed). *rest: the first of a "{name...}", which
 * is the last of params; else n. */
static bool fits(const char *pattern, char *const segments[], size_t n, char *params[], size_t *nparams, size_t *rest)
{
    *nparams = 0;
    *rest = n;
    if (!pattern[1])
        return n == 0;
    for (size_t i = 0; i < n; i++) {
        if (*pattern != '/')
            return false;
        pattern++;
        size_t len = strcspn(pattern, "/");
        if (len > 4 && memcmp(pattern + len - 4, "...}", 4) == 0)
            *rest = i;
        if (*pattern == '{')
            params[(*nparams)++] = segments[i];
        else if (strlen(segments[i]) != len || memcmp(pattern, segments[i], len) != 0)
            return false;
        pattern += len;
        if (*rest < n)
            break;
    }
    return !*pattern;
}

static char *join(char *const segments[], size_t n)
{
    struct buf b = {0};

    for (size_t i = 0; i < n; i++) {
        buf_puts(&b, i > 0 ? "/" : "");
        buf_puts(&b, segments[i]);
    }
    return buf_take(&b, NULL);
}

static void allow_add(struct match *m, const char *method)
{
    size_t len = strlen(m->allow);

    snprintf(m->allow + len, sizeof(m->allow) - len, "%s%s%s", len ? ", " : "", method,
             strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

int router_match(const struct router *r, const char *method, const char *path, struct match *m, struct err *e)
{
    char *segments[SEGMENTS_MAX], *params[REQUEST_SEGMENTS];
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    size_t n = 0, nparams, rest;

    memset(m, 0, sizeof(*m));
    int rc = split(path, segments, SEGMENTS_MAX, &n, e);
    for (const struct route *t = r->routes; rc == 0 && t->method; t++) {
        if (!fits(t->path, segments, n, params, &nparams, &rest))
            continue;
        allow_add(m, t->method);
        if (m->route || strcmp(t->method, wanted) != 0)
            continue;
        m->route = t;
        for (size_t i = 0; i < nparams; i++)
            m->params[m->nparams++] =
                i + 1 == nparams && rest < n ? join(segments + rest, n - rest) : xstrdup(params[i]);
    }
    for (size_t i = 0; i < n; i++)
        free(segments[i]);
    if (rc < 0)
        return -1;
    if (!m->allow[0])
        return err_set(e, 404, "not_found", "there is no such resource");
    size_t len = strlen(m->allow);
    snprintf(m->allow + len, sizeof(m->allow) - len, ", OPTIONS");
    if (!m->route && strcmp(method, "OPTIONS") != 0)
        return err_set(e, 405, "method_not_allowed", "the resource has: %s", m->allow);
    return 0;
}

void match_free(struct match *m)
{
    for (size_t i = 0; i < m->nparams; i++)
        free(m->params[i]);
    m->nparams = 0;
}

/* 1: once, 2: any number of times, 0: never. */
static int times_allowed(const char *list, const char *name)
{
    size_t len = strlen(name);

    for (const char *p = list ? list : ""; *p; p += strspn(p, " ")) {
        size_t n = strcspn(p, " ");
        bool many = p[n - 1] == '*';

        if (n - many == len && memcmp(p, name, len) == 0)
            return many ? 2 : 1;
        p += n;
    }
    return 0;
}

int router_check_query(const struct route *r, const char *const *names, struct err *e)
{
    for (const char *const *at = names; *at; at++) {
        int times = times_allowed(r->query, *at);

        if (times == 0)
            return err_set(e, 400, "unknown_parameter", "unknown query parameter \"%s\"", *at);
        for (const char *const *before = names; times == 1 && before < at; before++)
            if (strcmp(*before, *at) == 0)
                return err_set(e, 400, "invalid_parameter", "the query parameter %s was given more than once", *at);
    }
    return 0;
}
