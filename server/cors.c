#include "server/cors.h"

#include <string.h>

#include "server/auth.h"
#include "server/http_internal.h"

/* Methods of the routes, and headers of requests that handlers read, but those that any page may send. */
#define METHODS "GET, HEAD, POST, PUT, PATCH, DELETE"
#define REQUEST_HEADERS                                                                                                \
    "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, Last-Event-ID, Range"
/* Headers of replies, but those that any page may read (CORS-safelisted response-header names). */
#define REPLY_HEADERS                                                                                                  \
    "Accept-Ranges, Allow, Cloister-Event-Seq, Content-Disposition, Content-Range, ETag, Idempotency-Replayed, "       \
    "Location, Retry-After, WWW-Authenticate"
#define MAX_AGE "7200" /* seconds; Chromium takes no more */

bool cors_is_origin(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    const char *host = strstr(text, "://");

    if (!host || host == text)
        return false;
    for (const char *p = text; p < host; p++)
        if (!strchr(letters, *p) && !strchr("+-.", *p))
            return false;
    host += 3;
    for (const char *p = host; *p; p++)
        if (!strchr(letters, *p) && !strchr("-._~:[]", *p))
            return false;
    return *host && *host != ':';
}

bool cors_is_preflight(const struct request *q)
{
    return strcmp(request_method(q), "OPTIONS") == 0 && request_header(q, "Origin") &&
           request_header(q, "Access-Control-Request-Method");
}

bool cors_answer_preflight(struct request *q)
{
    if (!cors_is_preflight(q))
        return false;
    reply_header(q, "Access-Control-Allow-Methods", METHODS);
    reply_header(q, "Access-Control-Allow-Headers", REQUEST_HEADERS);
    reply_header(q, "Access-Control-Max-Age", MAX_AGE);
    reply_empty(q, 204);
    return true;
}

void cors_headers(struct request *q)
{
    const struct auth *a = q->http->config.auth;
    const char *origin = request_header(q, "Origin");

    if (!a->origins || !a->origins[0])
        return;
    reply_header(q, "Vary", "Origin"); /* also without one: a cache must not give this reply to a page */
    if (!origin || !auth_origin(a, origin))
        return;
    reply_header(q, "Access-Control-Allow-Origin", origin);
    reply_header(q, "Access-Control-Expose-Headers", REPLY_HEADERS);
}
