/* Replies that web pages of other origins may read: the CORS protocol (Fetch standard, section 3.2, "HTTP extensions").
 * Which origins may call at all is auth_headers()' to judge; nothing here admits anybody. */
#ifndef CLOISTER_SERVER_CORS_H
#define CLOISTER_SERVER_CORS_H

#include "server/http.h"

/* Whether text is an origin as browsers send it (RFC 6454, 6.2): scheme://host or scheme://host:port. "null" and "*"
 * are none: they would be any page. */
bool cors_is_origin(const char *text);
/* Whether a browser asks what it may send (CORS-preflight): OPTIONS with Origin and Access-Control-Request-Method. It
 * carries no token. */
bool cors_is_preflight(const struct request *q);
/* Answers one that has passed auth_headers(), or returns false when it is none: 204 with the methods and headers of the
 * whole API, for any path, so that the page may also read the 404 or 405 of the request itself. */
bool cors_answer_preflight(struct request *q);
/* Adds to a reply of any status what lets a page of an allowed origin read it. Credentials in the sense of the standard
 * (cookies, client certificates) are never allowed: this API knows none. */
void cors_headers(struct request *q);

#endif
