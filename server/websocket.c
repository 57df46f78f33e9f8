#include "server/websocket.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#include "base/base64.h"
#include "base/hash.h"

enum { PING_MS = 30000, PINGS_MISSED = 2, CLOSE_MS = 5000, LOW_WATER = 64 * 1024, REASON_MAX = 123, KEY_LEN = 24 };

/* What is queued at most, in bytes and in messages; pongs beyond these before nothing is read any more, since wslay
 * queues one for each ping; and bytes that are read in one turn of the loop, so that others have theirs. */
enum { QUEUE_MAX = 256 * 1024, MESSAGES_MAX = 512, PONGS_MAX = 512, TURN_MAX = 64 * 1024 };

struct ws {
    struct upgraded *upgraded;
    struct loop *loop;
    int fd;
    struct loop_source *source, *timer;
    wslay_event_context_ptr context;
    const struct ws_handler *handler;
    void *arg;
    char *sent; /* read by the HTTP side already */
    size_t sent_len, sent_at;
    int missed;    /* pings in a row after which nothing came */
    size_t budget; /* bytes that may still be read in this turn */
    bool paused, closing, close_queued;
    int code;
    char reason[REASON_MAX + 1];
};

struct opening {
    struct loop *loop;
    const struct ws_handler *handler;
    void *arg;
};

/* --- the handshake ------------------------------------------------------------------------------------------------ */

/* Whether a comma-separated list of a header holds the token, in any case. */
static bool lists(const char *list, const char *token)
{
    size_t len = strlen(token);

    for (const char *p = list ? list : ""; *p; p += strspn(p, ", \t")) {
        size_t n = strcspn(p, ", \t");

        if (n == len && strncasecmp(p, token, n) == 0)
            return true;
        p += n;
    }
    return false;
}

int ws_check(const struct request *q, struct err *e)
{
    const char *key = request_header(q, "Sec-WebSocket-Key"), *version = request_header(q, "Sec-WebSocket-Version");
    _cleanup_buf_ struct buf nonce = {0};

    if (strcmp(request_method(q), "GET") != 0 || !lists(request_header(q, "Upgrade"), "websocket") ||
        !lists(request_header(q, "Connection"), "upgrade"))
        return err_set(e, 426, "upgrade_required", "this resource speaks WebSocket");
    if (!version || strcmp(version, "13") != 0)
        return err_set(e, 426, "upgrade_required", "Sec-WebSocket-Version must be 13");
    if (!key || strlen(key) != KEY_LEN || base64_decode(&nonce, key, KEY_LEN) < 0 || nonce.len != 16)
        return err_set(e, 400, "bad_request", "Sec-WebSocket-Key must be 16 bytes in base64");
    return 0;
}

static void add_accept(struct request *q)
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* section 1.3 */
    unsigned char digest[20];
    char text[KEY_LEN + sizeof(magic)];
    _cleanup_buf_ struct buf b = {0};

    snprintf(text, sizeof(text), "%s%s", request_header(q, "Sec-WebSocket-Key"), magic);
    hash_sha1(text, strlen(text), digest);
    base64_encode(&b, digest, sizeof(digest));
    reply_header(q, "Sec-WebSocket-Accept", b.data);
}

/* Before its client has taken some of the answers to it nothing more is read. */
static bool may_read(const struct ws *w)
{
    return !w->paused && wslay_event_get_queued_msg_count(w->context) < MESSAGES_MAX + PONGS_MAX;
}

/* --- what wslay calls --------------------------------------------------------------------------------------------- */

static ssize_t on_recv(wslay_event_context_ptr context, uint8_t *out, size_t cap, int flags, void *arg)
{
    struct ws *w = arg;
    ssize_t n;

    (void)flags;
    if (!may_read(w) || w->budget == 0) {
        wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    cap = cap < w->budget ? cap : w->budget;
    if (w->sent_at < w->sent_len) {
        size_t part = w->sent_len - w->sent_at < cap ? w->sent_len - w->sent_at : cap;

        memcpy(out, w->sent + w->sent_at, part);
        w->sent_at += part;
        w->budget -= part;
        return (ssize_t)part;
    }
    do
        n = recv(w->fd, out, cap, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        w->missed = 0;
        w->budget -= (size_t)n;
        return n;
    }
    wslay_event_set_error(context, n < 0 && errno == EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static ssize_t on_send(wslay_event_context_ptr context, const uint8_t *data, size_t len, int flags, void *arg)
{
    struct ws *w = arg;
    ssize_t n;

    do
        n = send(w->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL | (flags & WSLAY_MSG_MORE ? MSG_MORE : 0));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        wslay_event_set_error(context, errno == EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return n;
}

static void on_message(wslay_event_context_ptr context, const struct wslay_event_on_msg_recv_arg *m, void *arg)
{
    struct ws *w = arg;

    (void)context;
    if (!w->closing && (m->opcode == WSLAY_TEXT_FRAME || m->opcode == WSLAY_BINARY_FRAME))
        w->handler->message(w->arg, m->opcode == WSLAY_BINARY_FRAME, m->msg, m->msg_length);
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

static void finish(struct ws *w)
{
    loop_remove(w->source);
    loop_remove(w->timer);
    wslay_event_context_free(w->context);
    upgraded_close(w->upgraded);
    w->handler->closed(w->arg);
    free(w->sent);
    free(w);
}

static void update(struct ws *w)
{
    uint32_t events = 0;

    if (may_read(w) && wslay_event_want_read(w->context))
        events |= EPOLLIN;
    if (wslay_event_want_write(w->context) || (w->closing && !w->close_queued) ||
        (may_read(w) && w->sent_at < w->sent_len))
        events |= EPOLLOUT;
    loop_set_events(w->source, events);
}

/* A close frame would overtake what is queued: wslay sends control frames first. */
static void queue_close(struct ws *w)
{
    if (!w->closing || w->close_queued || wslay_event_get_queued_msg_count(w->context) > 0)
        return;
    w->close_queued = true;
    wslay_event_queue_close(w->context, (uint16_t)w->code, (const uint8_t *)w->reason, strlen(w->reason));
}

static void on_io(void *arg, uint32_t events)
{
    struct ws *w = arg;
    bool hung_up = events & (EPOLLHUP | EPOLLERR);

    w->budget = TURN_MAX;
    if ((hung_up && w->paused) || wslay_event_recv(w->context) != 0) {
        finish(w);
        return;
    }
    queue_close(w);
    if (wslay_event_send(w->context) != 0) {
        finish(w);
        return;
    }
    if (!w->closing && wslay_event_get_queued_msg_length(w->context) < LOW_WATER)
        w->handler->writable(w->arg);
    queue_close(w);
    if (!wslay_event_want_read(w->context) && !wslay_event_want_write(w->context) && (!w->closing || w->close_queued)) {
        finish(w);
        return;
    }
    update(w);
}

static void on_timer(void *arg, uint32_t events)
{
    struct ws *w = arg;

    (void)events;
    w->timer = NULL;
    if (w->closing || (!w->paused && w->missed >= PINGS_MISSED)) {
        finish(w);
        return;
    }
    w->missed++;
    wslay_event_queue_msg(w->context, &(struct wslay_event_msg){.opcode = WSLAY_PING});
    w->timer = loop_add_timer(w->loop, PING_MS, on_timer, w);
    update(w);
}

static void on_stop(void *arg)
{
    struct ws *w = arg;

    ws_close(w, WS_GOING_AWAY, "the server stops");
    queue_close(w);
    wslay_event_send(w->context); /* as far as the socket takes it */
    finish(w);
}

static void on_upgraded(void *arg, struct upgraded *u, int fd, const char *sent, size_t n)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_recv, .send_callback = on_send, .on_msg_recv_callback = on_message};
    struct opening *o = arg;
    struct ws *w = xcalloc(1, sizeof(*w));
    int one = 1;

    *w = (struct ws){.upgraded = u, .loop = o->loop, .fd = fd, .handler = o->handler, .arg = o->arg, .sent_len = n};
    free(o);
    w->sent = xcalloc(1, n);
    if (n > 0)
        memcpy(w->sent, sent, n);
    /* Without it each small message waits for the acknowledgement of the one before. On a unix socket it fails. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (wslay_event_context_server_init(&w->context, &callbacks, w) != 0)
        abort(); /* out of memory */
    wslay_event_config_set_max_recv_msg_length(w->context, WS_MESSAGE_MAX);
    upgraded_on_stop(u, on_stop, w);
    w->source = loop_add_fd(w->loop, fd, EPOLLIN | EPOLLOUT, on_io, w);
    if (!w->source) {
        finish(w);
        return;
    }
    w->timer = loop_add_timer(w->loop, PING_MS, on_timer, w);
    w->handler->opened(w->arg, w);
}

void ws_accept(struct request *q, const char *protocol, const struct ws_handler *h, void *arg)
{
    struct opening *o = xcalloc(1, sizeof(*o));

    *o = (struct opening){request_loop(q), h, arg};
    reply_header(q, "Upgrade", "websocket");
    add_accept(q);
    if (protocol)
        reply_header(q, "Sec-WebSocket-Protocol", protocol);
    reply_upgrade(q, on_upgraded, o);
}

/* --- what handlers call ------------------------------------------------------------------------------------------- */

void ws_send(struct ws *w, bool binary, const void *data, size_t len)
{
    if (w->closing)
        return;
    wslay_event_queue_msg(
        w->context, &(struct wslay_event_msg){
                        .opcode = binary ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME, .msg = data, .msg_length = len});
    update(w);
}

bool ws_full(const struct ws *w)
{
    return wslay_event_get_queued_msg_length(w->context) >= QUEUE_MAX ||
           wslay_event_get_queued_msg_count(w->context) >= MESSAGES_MAX;
}

void ws_pause(struct ws *w, bool paused)
{
    w->paused = paused && !w->closing;
    w->missed = 0;
    update(w);
}

void ws_close(struct ws *w, int code, const char *reason)
{
    if (w->closing)
        return;
    w->closing = true;
    w->paused = false;
    w->code = code;
    snprintf(w->reason, sizeof(w->reason), "%s", reason);
    for (char *p = w->reason; *p; p++)
        if ((unsigned char)*p >= 0x80) /* it must be UTF-8, and may have been cut within a character */
            *p = '?';
    loop_remove(w->timer);
    w->timer = loop_add_timer(w->loop, CLOSE_MS, on_timer, w);
    update(w);
}
