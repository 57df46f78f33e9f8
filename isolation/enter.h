/* A command inside the sandbox of a task that runs: an exec session. */
#ifndef CLOISTER_ISOLATION_ENTER_H
#define CLOISTER_ISOLATION_ENTER_H

#include "isolation/sandbox.h"
#include "isolation/session_spec.h"

struct join {           /* the plan, made by the supervisor */
    struct sandbox box; /* the task's, with the session's user and spec */
    struct spec spec;   /* the task's, with the session's command, arguments, environment and working directory */
    pid_t task;         /* a process of the task that the caller has not reaped: its pid 1 */
    bool tty;
};

/* What the entering process tells the supervisor, over a SOCK_SEQPACKET pair that is closed by execve: an fd with
 * JOIN_TERMINAL, then JOIN_PID; JOIN_FAILED at any time. After JOIN_PID only the task's own power is behind it. */
enum join_kind { JOIN_TERMINAL = 1, JOIN_PID, JOIN_FAILED };

struct join_report {
    int32_t kind;
    int32_t pid;    /* JOIN_PID: in the host's pid namespace; it waits for one byte */
    struct err err; /* JOIN_FAILED */
};

/* Plans a session in the task of box: user by policy, default the task's. 403/422 by field. j borrows from box, policy
 * and s, and is freed with join_release also after an error. */
int join_plan(struct join *j, const struct sandbox *box, const struct session_spec *s, pid_t task, struct err *e);
void join_release(struct join *j);

/* In a fork of the supervisor (fds 0-2 are the session's, or anything with tty): enters the namespaces and becomes the
 * session's user with the task's capabilities; only then it forks into the pid namespace, a child of the supervisor,
 * so that the task's processes never see one with more power than they have. The rest of the steps runs there, then
 * execve. Steps: close_fds, oom_score_adj, namespaces, command, terminal, rlimits, userns, groups, capabilities,
 * no_new_privs, work_dir, spawn, signals, verify, seccomp (where sandbox_enter has it), execve. Reports by itself;
 * never returns. */
_Noreturn void join_enter(const struct join *j, int report_fd);

#endif
