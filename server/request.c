/* What handlers may ask of a request, and its query. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "server/http_internal.h"

const char *request_param(const struct request *q, size_t i)
{
    return i < q->match.nparams ? q->match.params[i] : NULL;
}

const char *request_method(const struct request *q)
{
    return q->method;
}

const char *request_query(const struct request *q, const char *name, size_t n)
{
    for (size_t i = 0; i < q->nquery; i++)
        if (strcmp(q->query[i].name, name) == 0 && n-- == 0)
            return q->query[i].value;
    return NULL;
}

const char *request_body(const struct request *q, size_t *len)
{
    *len = q->body.len;
    return q->body.data ? q->body.data : "";
}

void *request_api(const struct request *q)
{
    return q->http->config.api;
}

struct loop *request_loop(const struct request *q)
{
    return q->http->config.loop;
}

enum role request_role(const struct request *q)
{
    return q->role;
}

void request_on_end(struct request *q, void (*fn)(void *arg), void *arg)
{
    q->on_end = fn;
    q->on_end_arg = arg;
}

const struct http_counters *http_counters(const struct request *q)
{
    return &q->http->counters;
}

_Static_assert(QUERY_MAX == 64, "the text below");

bool query_add(struct request *q, const char *name, const char *value)
{
    if (q->nquery == QUERY_MAX) {
        q->query_fault = "has more than 64 parameters";
        return false;
    }
    struct query *p = &q->query[q->nquery++];
    p->name = percent_decode(name, strlen(name));
    p->value = percent_decode(value, strlen(value));
    if (!p->name || !p->value)
        q->query_fault = "holds an escape that is none, or %00";
    else if (!utf8_is_text(p->name, strlen(p->name)) || !utf8_is_text(p->value, strlen(p->value)))
        q->query_fault = "holds bytes that are no UTF-8";
    return !q->query_fault;
}

int query_check(const struct request *q, struct err *e)
{
    const char *names[QUERY_MAX + 1];

    if (q->query_fault)
        return err_set(e, 400, "bad_query", "the query %s", q->query_fault);
    for (size_t i = 0; i < q->nquery; i++)
        names[i] = q->query[i].name;
    names[q->nquery] = NULL;
    return router_check_query(q->match.route, names, e);
}

void query_free(struct request *q)
{
    for (size_t i = 0; i < q->nquery; i++) {
        free(q->query[i].name);
        free(q->query[i].value);
    }
}
