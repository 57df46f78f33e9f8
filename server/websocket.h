/* WebSockets (RFC 6455), the server's side, over libwslay: the only file that includes it is websocket.c. */
#ifndef CLOISTER_SERVER_WEBSOCKET_H
#define CLOISTER_SERVER_WEBSOCKET_H

#include "server/http.h"

enum {
    WS_MESSAGE_MAX = 4 << 20, /* bytes of a client's message; a larger one ends the connection with 1009 */
    WS_NORMAL = 1000,         /* RFC 6455, 7.4.1 */
    WS_GOING_AWAY = 1001,
    WS_UNSUPPORTED = 1003,
    WS_INVALID = 1007,
    WS_INTERNAL = 1011
};

struct ws;

struct ws_handler {
    void (*opened)(void *arg, struct ws *w);
    void (*message)(void *arg, bool binary, const void *data, size_t len);
    void (*writable)(void *arg); /* little is left to send: a good time for more */
    void (*closed)(void *arg);   /* once, for whatever reason, also without opened; the ws is freed when it returns */
};

/* Whether the request is a handshake (section 4.2.1): 0, or -1 with e (426, 400). */
int ws_check(const struct request *q, struct err *e);
/* The answer to a handshake that ws_check has passed; protocol NULL: none is named. opened comes later, or what
 * request_on_end has set when the client leaves before. */
void ws_accept(struct request *q, const char *protocol, const struct ws_handler *h, void *arg);

/* Queues a message, copied; it is sent as the client takes it. */
void ws_send(struct ws *w, bool binary, const void *data, size_t len);
bool ws_full(const struct ws *w); /* so much is not sent yet that no more should be queued */
/* Stops reading (what has been read already may still be delivered, at most 4 KiB), or goes on. */
void ws_pause(struct ws *w, bool paused);
/* Sends what is queued, then closes with the code and a reason of at most 123 bytes. No message is delivered after. */
void ws_close(struct ws *w, int code, const char *reason);

#endif
