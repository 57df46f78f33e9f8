#include "server/subprotocol.h"

#include <string.h>

#include "base/base64.h"
#include "base/buf.h"
#include "server/websocket.h"

static const char separators[] = ", \t";

/* The next name of a list, its length in *n (0: no more); *at moves on behind it. */
static const char *next_name(const char **at, size_t *n)
{
    const char *name = *at + strspn(*at, separators);

    *n = strcspn(name, separators);
    *at = name + *n;
    return name;
}

static bool is_bearer(const char *name, size_t n)
{
    return n >= strlen(SUBPROTOCOL_BEARER) && memcmp(name, SUBPROTOCOL_BEARER, strlen(SUBPROTOCOL_BEARER)) == 0;
}

int subprotocol_pick(const struct request *q, const char *const *known, struct err *e)
{
    const char *list = request_header(q, "Sec-WebSocket-Protocol");
    size_t n;

    if (!list)
        return -1;
    for (const char *name = next_name(&list, &n); n > 0; name = next_name(&list, &n))
        for (int i = 0; known[i]; i++)
            if (strlen(known[i]) == n && memcmp(name, known[i], n) == 0)
                return i;
    /* The list is not repeated: it may hold a token. */
    err_set(e, 400, "unknown_subprotocol", "none of the subprotocols that are offered is spoken here");
    return -2;
}

static int decode(const char *name, size_t n, char **out, struct err *e)
{
    size_t prefix = strlen(SUBPROTOCOL_BEARER);
    _cleanup_buf_ struct buf b = {0};

    buf_puts(&b, "Bearer ");
    size_t begin = b.len;
    if (base64url_decode(&b, name + prefix, n - prefix) < 0 || b.len == begin || memchr(b.data, 0, b.len))
        return err_set(e, 401, "unauthorized", "the bearer subprotocol holds no token in base64url without padding");
    *out = buf_take(&b, NULL);
    return 0;
}

int subprotocol_authorization(const struct request *q, char **out, struct err *e)
{
    const char *list = request_header(q, "Sec-WebSocket-Protocol"), *found = NULL;
    const char *header = request_header(q, "Authorization");
    size_t n, found_n = 0;
    struct err ignored;

    *out = header ? xstrdup(header) : NULL;
    if (!list || ws_check(q, &ignored) < 0)
        return 0;
    for (const char *name = next_name(&list, &n); n > 0; name = next_name(&list, &n)) {
        if (!is_bearer(name, n))
            continue;
        if (found || header)
            return err_set(e, 400, "bad_request", "more than one bearer token");
        found = name;
        found_n = n;
    }
    return found ? decode(found, found_n, out, e) : 0;
}
