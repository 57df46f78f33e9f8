/* What an exec session is asked to run, as plain data, and its codec: one field table serves the HTTP body, the message
 * to the supervisor and the listing. */
#ifndef CLOISTER_ISOLATION_SESSION_SPEC_H
#define CLOISTER_ISOLATION_SESSION_SPEC_H

#include "isolation/spec.h"

struct session_spec {
    char *command; /* the only required field; looked up as a task's */
    struct strings args;
    struct pairs env; /* added to the task's */
    char *work_dir;   /* inside the task's root; default the task's */
    char *user;       /* default the task's */
    char *input;      /* "stdin": text, or NULL */
    bool tty;
    int64_t rows, cols; /* of the terminal; 0: 24 and 80 */
    int64_t timeout_ms; /* 0: none */
};

/* 422 with the pointer of the field at fault. Free *s with session_spec_free also after an error. */
int session_spec_decode(const struct json *j, struct session_spec *s, struct err *e);
/* What session_spec_decode reads back. Caller frees. */
struct json *session_spec_encode(const struct session_spec *s);
void session_spec_free(struct session_spec *s);
#define _cleanup_session_spec_ __attribute__((cleanup(session_spec_free)))

#endif
