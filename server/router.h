/* The route table's interpreter: method and path to a handler, with the checks every route shares. */
#ifndef CLOISTER_SERVER_ROUTER_H
#define CLOISTER_SERVER_ROUTER_H

#include "server/http.h"

enum route_body {
    BODY_NONE,
    BODY_JSON,   /* read whole, then the handler runs (Content-Type application/json, or none) */
    BODY_STREAM, /* the handler runs first, and takes a body of any size and type by request_receive */
};

struct route {
    const char *method; /* "GET"; HEAD follows GET, OPTIONS is answered by the router */
    const char *path;   /* "/v1/tasks/{id}/logs"; "{name}" is one segment, "{name...}" at the end is one or more */
    void (*handler)(struct request *q);
    enum role role;    /* least role */
    const char *query; /* allowed parameters, "wait label*"; others are 400, and so is one without * that comes twice */
    int body;          /* enum route_body */
};

struct router {
    const struct route *routes; /* ends with method NULL */
};

struct match {
    const struct route *route;      /* NULL: see allow */
    char allow[128];                /* methods of the path, for 405 and OPTIONS; "" = 404 */
    char *params[REQUEST_SEGMENTS]; /* decoded, freed by match_free; segments of "{name...}" are joined by "/" */
    size_t nparams;
};

/* Raw path (as on the wire) to a route. 400 for %2F, %00, bad escapes, "." and ".." and empty segments;
 * 404 code "not_found"; 405 code "method_not_allowed" (m->allow set). HEAD finds GET. */
int router_match(const struct router *r, const char *method, const char *path, struct match *m, struct err *e);
void match_free(struct match *m);
/* 400 naming the first parameter that is not in the route's list (code "unknown_parameter"), or stands twice although
 * that says once ("invalid_parameter"). names: NULL-terminated. */
int router_check_query(const struct route *r, const char *const *names, struct err *e);
/* Percent-decodes; NULL when an escape is bad or yields NUL. Caller frees. */
char *percent_decode(const char *s, size_t len);

#endif
