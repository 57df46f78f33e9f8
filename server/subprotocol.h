/* What a WebSocket's client offers in Sec-WebSocket-Protocol (RFC 6455, 4.1 and 11.3.4): languages, and beside them a
 * bearer token, since a browser lets no page set Authorization for a WebSocket. */
#ifndef CLOISTER_SERVER_SUBPROTOCOL_H
#define CLOISTER_SERVER_SUBPROTOCOL_H

#include "server/http.h"

/* Before the token in base64url (RFC 4648, 5) without padding. Such a name is never chosen, told again or logged. */
#define SUBPROTOCOL_BEARER "cloister.bearer."

/* Which of the known subprotocols (NULL-terminated) the client names first: its index, -1 when it names none, -2 with e
 * (400) when it names others only, or nothing but a token: a browser fails a connection whose server chooses none. */
int subprotocol_pick(const struct request *q, const char *const *known, struct err *e);
/* The Authorization header, or in its form ("Bearer TOKEN") the token that a handshake offers, or NULL; the caller
 * frees. -1 with e: 400 when there are two, or the header too (RFC 6750, 2); 401 for what is no base64url. */
int subprotocol_authorization(const struct request *q, char **out, struct err *e);

#endif
