/* Exec sessions as the server knows them. It holds none: those that live are reached through their supervisor, and what
 * they were and how they ended is in their directories, <task_dir>/execs/<id>. */
#ifndef CLOISTER_TASKS_EXEC_H
#define CLOISTER_TASKS_EXEC_H

#include "isolation/session_spec.h"
#include "tasks/registry.h"

struct exec; /* a connection to a session */

/* Runs at each change of the state and when there is more output, with the latest. After SESSION_EXITED, SESSION_FAILED
 * or SESSION_LOST it does not run again. It may call exec_close. */
typedef void (*exec_changed)(void *arg, const struct session_status *s);

struct exec_options {
    bool input;         /* this side sends input */
    bool watch_only;    /* the session does not wait for this reader */
    uint64_t cursor[2]; /* exec_attach: where it will read on in stdout and stderr */
};

/* Asks the supervisor for a session; what becomes of it is told to changed, never before the return. NULL with e: 409
 * when the task does not run, 503 when the supervisor cannot be asked. */
struct exec *exec_start(struct task *t, const struct session_spec *s, const struct exec_options *o,
                        exec_changed changed, void *arg, struct err *e);
/* Connects to a session that lives; one that has ended meanwhile is told to changed too. */
struct exec *exec_attach(struct task *t, const char *id, const struct exec_options *o, exec_changed changed, void *arg,
                         struct err *e);
/* The session goes on. NULL is allowed. */
void exec_close(struct exec *x);
const char *exec_id(const struct exec *x);
/* A pipe for input, non-blocking; -1 without input or after exec_input_end. Closing it is no end of the input. */
int exec_input_fd(const struct exec *x);
/* After all that was written into the pipe the input is at its end. */
void exec_input_end(struct exec *x);
void exec_ack(struct exec *x, const uint64_t cursor[2]); /* read up to here: the session need not wait */
void exec_resize(struct exec *x, uint16_t rows, uint16_t cols);
void exec_send_signal(struct exec *x, int signum);

/* To one session, by id; done as in registry_signal. 409 when it has ended. */
void exec_signal(struct task *t, const char *id, int signum, registry_done done, void *arg);

/* From the directory: the last that its supervisor has recorded, or SESSION_LOST when it recorded no end and the task
 * has ended. 0, or -1 with errno when there is no such session. */
int exec_read(const struct task *t, const char *id, struct session_status *s);
/* Command, arguments, user as asked for; NULL when they cannot be read. Caller frees. */
struct json *exec_read_spec(const struct task *t, const char *id);
/* Ids, newest first; the caller frees *ids. */
size_t exec_list(const struct task *t, char (**ids)[ID_LEN + 1]);
/* Directory of a session's output; read it with tasks/logfile.h. */
void exec_dir_path(const struct task *t, const char *id, char *out, size_t n);

#endif
