/* Private to the supervisor: everything it holds about its one task. */
#ifndef CLOISTER_SUPERVISOR_SUPERVISION_H
#define CLOISTER_SUPERVISOR_SUPERVISION_H

#include "base/loop.h"
#include "isolation/sandbox.h"
#include "supervisor/capture.h"
#include "supervisor/messages.h"
#include "supervisor/supervisor.h"

enum { CLIENTS_MAX = 8, END_KILL_MS = 10000 };

struct supervision;

struct client { /* a connected server */
    struct supervision *owner;
    int fd; /* -1: free */
    struct loop_source *source;
};

struct supervision {
    const struct supervisor_args *args;
    struct loop *loop;
    struct spec spec;
    struct sandbox sandbox;
    int task_dir_fd, logs_dir_fd, signal_fd, listen_fd;
    struct run_status status;
    struct client clients[CLIENTS_MAX];
    struct capture capture[2];
    bool main_reaped, has_cgroup, has_dirs;
    int wait_status;
    struct loop_source *stop_timer; /* kill_timeout */
    const char *kill_reason;        /* why we killed it ourselves, or NULL */
};

/* start.c: plans, prepares and starts the task; on return 0 it runs (execve done). Undoes everything on failure. */
int supervision_start(struct supervision *s, struct err *e);
/* Kills and removes what the start made on the host, except the directory (the launcher removes that). */
void supervision_undo(struct supervision *s);

/* control.c */
int control_init(struct supervision *s, struct err *e);
void control_broadcast(struct supervision *s); /* the status to every connected server */

#endif
