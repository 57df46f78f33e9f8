/* The two languages that an exec session's WebSocket speaks: docs/exec.md. */
#ifndef CLOISTER_API_EXEC_FRAMES_H
#define CLOISTER_API_EXEC_FRAMES_H

#include "base/buf.h"
#include "supervisor/messages.h"

struct client_frame { /* what a client's message asks for; all zero: nothing */
    struct buf input;
    bool input_end, resize;
    uint16_t rows, cols;
    int signum;
};

struct dialect {
    const char *name; /* as subprotocol */
    bool binary;      /* kind of the server's messages */
    /* -1 with a reason for the close frame. */
    int (*parse)(struct client_frame *f, bool binary, const char *data, size_t len, const char **reason);
    /* Each appends one message; one that appends nothing has none. */
    void (*hello)(struct buf *b, const struct session_status *s, const uint64_t cursor[2]);
    void (*output)(struct buf *b, int stream, const char *data, size_t len);
    void (*gap)(struct buf *b, int stream, uint64_t from, uint64_t to);
    void (*end)(struct buf *b, const struct session_status *s);
};

extern const struct dialect dialect_cloister, dialect_nomad;
extern const char *const stream_names[2];

#endif
