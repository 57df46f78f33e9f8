/* What every request must pass before its handler: what libmicrohttpd 0.9.75 lets through, who calls, and the route. */
#include "server/guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"

static bool longer_than(const char *name, const char *prefix)
{
    size_t len = strlen(prefix);

    return strncasecmp(name, prefix, len) == 0 && name[len];
}

bool guard_field_name(const char *name)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

    if (!*name || name[strspn(name, token)])
        return false;
    return !longer_than(name, "Content-Length") && !longer_than(name, "Transfer-Encoding");
}

const char *guard_target(const char *target, char **authority)
{
    static const char *const schemes[] = {"http://", "https://"};

    *authority = NULL;
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t n = strlen(schemes[i]);

        if (strncasecmp(target, schemes[i], n) != 0 || !target[n] || target[n] == '/')
            continue;
        size_t len = strcspn(target + n, "/");
        *authority = xasprintf("%.*s", (int)len, target + n);
        return target[n + len] ? target + n + len : "/";
    }
    return target;
}

static int one_of_each(const struct framing *f, struct err *e)
{
    if (f->hosts > 1)
        return err_set(e, 400, "bad_request", "more than one Host");
    if (f->lengths > 1 || f->encodings > 1 || (f->lengths && f->encodings))
        return err_set(e, 400, "bad_request", "more than one Content-Length or Transfer-Encoding");
    return 0;
}

int guard_framing(const struct framing *f, const char *version, const char *path, size_t max_body, struct err *e)
{
    if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
        return err_set(e, 505, "http_version", "HTTP/1.0 and HTTP/1.1 are spoken");
    if (path[0] != '/')
        return err_set(e, 400, "bad_request", "the request target must be a path or an http URL");
    if (strchr(path, ' '))
        return err_set(e, 400, "bad_request", "the request target must not hold spaces");
    if (f->bad_name)
        return err_set(e, 400, "bad_request", "a header's name is not well-formed, or its value is folded");
    if (one_of_each(f, e) < 0)
        return -1;
    if (f->hosts == 0 && strcmp(version, "HTTP/1.1") == 0)
        return err_set(e, 400, "bad_request", "HTTP/1.1 needs the header Host");
    if (f->length && (!*f->length || strspn(f->length, "0123456789") != strlen(f->length)))
        return err_set(e, 400, "bad_request", "Content-Length must be decimal");
    if (f->encoding && strcasecmp(f->encoding, "chunked") != 0)
        return err_set(e, 400, "bad_request", "the only Transfer-Encoding is chunked");
    if (f->expect && strcasecmp(f->expect, "100-continue") != 0)
        return err_set(e, 417, "expectation_failed", "the only expectation is 100-continue");
    if (f->length && (strlen(f->length) > 18 || strtoull(f->length, NULL, 10) > max_body))
        return err_set(e, 413, "body_too_large", "the body is larger than %zu bytes", max_body);
    return 0;
}

int guard_role(enum role have, const struct route *r, bool has_token, struct err *e)
{
    if (have >= r->role)
        return 0;
    if (!has_token && have > ROLE_NONE)
        return err_set(e, 401, "unauthorized", "this needs a bearer token of role %s", role_name(r->role));
    return err_set(e, 403, "forbidden", "this needs the role %s", role_name(r->role));
}

int guard_content_type(const char *type, bool is_unix, struct err *e)
{
    if (!type)
        return 0;
    size_t n = strcspn(type, "; ");
    if ((n == 16 && strncasecmp(type, "application/json", n) == 0) ||
        (n == 28 && strncasecmp(type, "application/merge-patch+json", n) == 0))
        return 0;
    /* What plain `curl -d` sends. On TCP it stays refused: a web page may send it across origins without asking. */
    if (is_unix && n == 33 && strncasecmp(type, "application/x-www-form-urlencoded", n) == 0)
        return 0;
    return err_set(e, 415, "unsupported_media_type", "the body must be JSON, and Content-Type say application/json");
}
