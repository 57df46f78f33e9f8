/* Exec sessions of the supervisor's task. One file a concern: exec.c starts them, session.c holds and ends them,
 * attach.c moves their input and tells servers about their output. */
#ifndef CLOISTER_SUPERVISOR_SESSION_H
#define CLOISTER_SUPERVISOR_SESSION_H

#include "base/buf.h"
#include "isolation/enter.h"
#include "supervisor/supervision.h"

enum {
    SESSIONS_LIVE_MAX = 256,
    SESSIONS_KEPT = 64,       /* ended ones whose record and output stay, */
    SESSIONS_KEPT_S = 60,     /* and those that ended so short a time ago: they may not have been read yet, */
    SESSIONS_KEPT_MAX = 1024, /* but never more than these */
    SESSION_FILES = 4,        /* segments a stream */
    SESSION_FILE_SIZE = 4 << 20,
    SESSION_START_MS = 30000, /* from the request to execve */
    SESSION_KILL_MS = 1000,
    SESSION_RECORD_MS = 1000 /* between attempts to record an end */
};

struct attachment { /* a server that reads along */
    struct session *session;
    int channel, input; /* input -1: none, or at its end */
    struct loop_source *channel_source, *input_source;
    uint64_t read[2]; /* cursors up to which it has read */
    bool watch_only;  /* the session does not wait for it */
    bool stale;       /* the channel was full: the latest status is still to be sent */
    bool ending;      /* CONTROL_INPUT_END: input ends when the pipe is empty */
    struct attachment *next;
};

struct output {
    struct session *session;
    struct capture capture;
    bool held; /* not read for now: an attachment is too far behind */
};

struct session {
    struct supervision *owner;
    struct session_status status;
    struct session_spec spec;
    struct join join;
    int dir_fd;
    pid_t helper, pid; /* not reaped yet; 0: none */
    int wait_status;
    int report_fd;
    struct loop_source *report_source, *timer;
    struct output out[2];
    struct capture_order log_order;
    int input_fd;                     /* write end of standard input, or the terminal; -1: none */
    struct loop_source *input_source; /* while it is full */
    struct buf input;                 /* what did not fit into it */
    size_t input_at;
    struct attachment *attachments;
    struct session *next;
};

/* session.c */
/* What a server asks; fds (of which it takes those that it keeps, leaving -1) come with it. reply is for SESSION_SIGNAL
 * alone. */
void session_handle(struct supervision *s, const struct session_request *r, int *fds, size_t nfds, struct err *reply);
/* Whether pid was a session's. */
bool session_reaped(struct supervision *s, pid_t pid, int status);
/* The task has ended, and all in its groups: ends and records all sessions. */
void sessions_end(struct supervision *s);
/* After sessions_end. Tries once more to record the ends that the disk has not taken; true when none is left. */
bool sessions_recorded(struct supervision *s);
/* The session has not started, or its command has ended: drains, kills what is left, records, tells. e: not started. */
void session_finish(struct session *x, const struct err *e);
int session_record(struct session *x); /* 0, or -1 with errno */
/* The command runs: recorded, and told once. */
void session_executed(struct session *x);

/* exec.c */
/* Whether what the session's process has reported, and nobody has read yet, is a failure: then e is it. */
bool session_failed(struct session *x, struct err *e);
/* Forks, and watches the entering process. On failure *x is unchanged but for fds that session_finish closes. */
int session_start(struct session *x, int spec_fd, bool interactive, struct err *e);
int session_signal(struct session *x, int signum, struct err *e);

/* attach.c */
/* Takes the fds (input_fd may be -1). -1 with errno: then they are closed. */
int attach_add(struct session *x, int channel_fd, int input_fd, const struct session_request *r);
void attach_tell(struct session *x); /* the status to all; those who cannot take it get the latest when they can */
void attach_drop_all(struct session *x);
int attach_watch_output(struct output *o);

#endif
