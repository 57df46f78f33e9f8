/* What every request must pass before its handler. Pure functions over what http.c gathered. */
#ifndef CLOISTER_SERVER_GUARD_H
#define CLOISTER_SERVER_GUARD_H

#include "server/auth.h"
#include "server/router.h"

struct framing { /* the headers that frame a request (RFC 9112), counted and borrowed */
    int hosts, lengths, encodings;
    const char *length, *encoding, *expect;
    bool bad_name; /* guard_field_name refused one */
};

/* Whether a field name is a token (RFC 9110, 5.1) and no framing field in disguise. libmicrohttpd 0.9.75 keeps blanks
 * in names ("Content-Length : 5") and adds the text of a folded line to the name ("Content-Length5"): either would
 * frame nothing here, but might in a proxy before us (RFC 9112, 5.1 and 5.2). */
bool guard_field_name(const char *name);

/* The path of a request target, borrowed from it. *authority becomes what an absolute form ("http://host:port/path")
 * names instead of the header Host (RFC 9112, 3.2.2), the caller's to free; else NULL. */
const char *guard_target(const char *target, char **authority);

/* Request smuggling shapes and what else the library accepts: 400, 413, 417, 505. After an error the connection must be
 * closed, since nobody can tell where the next request begins. */
int guard_framing(const struct framing *f, const char *version, const char *path, size_t max_body, struct err *e);
/* 401 when a token could help, else 403. */
int guard_role(enum role have, const struct route *r, bool has_token, struct err *e);
/* 415 unless JSON (or, on the unix socket, what plain curl -d says). */
int guard_content_type(const char *type, bool is_unix, struct err *e);

#endif
