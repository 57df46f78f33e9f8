/* Clients' connections: the list of them and their deadlines. */
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "server/http_internal.h"

struct conn *conn_new(struct listener *l, int fd)
{
    struct conn *c = xcalloc(1, sizeof(*c));
    struct http *h = l->http;

    c->http = h;
    c->listener = l;
    c->fd = fd;
    c->deadline = clock_mono_ms() + h->config.header_ms;
    c->peer = l->is_unix ? auth_peer(h->config.auth, fd) : ROLE_NONE;
    c->next = h->conns;
    if (c->next)
        c->next->prev = c;
    h->conns = c;
    h->counters.connections++;
    h->counters.connections_open++;
    return c;
}

void conn_free(struct conn *c)
{
    struct http *h = c->http;

    if (c->prev)
        c->prev->next = c->next;
    else
        h->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    h->counters.connections_open--;
    /* At its limit libmicrohttpd 0.9.75 takes the listening socket out of its epoll set, and puts it back only at the
     * begin of a later run. Without one after the last close no event would ever come: nobody could connect again. */
    h->resumed = true;
    free(c);
}

/* Deadlines are absolute: a client that trickles bytes gains nothing by it. */
void conn_expire(struct http *h)
{
    int64_t now = clock_mono_ms();

    for (struct conn *c = h->conns; c; c = c->next)
        if (c->deadline >= 0 && c->deadline < now) {
            shutdown(c->fd, SHUT_RDWR);
            c->deadline = -1;
        }
}
