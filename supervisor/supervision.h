/* Private to the supervisor: everything it holds about its one task. */
#ifndef CLOISTER_SUPERVISOR_SUPERVISION_H
#define CLOISTER_SUPERVISOR_SUPERVISION_H

#include "base/loop.h"
#include "isolation/disk.h"
#include "isolation/sandbox.h"
#include "isolation/userns.h"
#include "supervisor/capture.h"
#include "supervisor/messages.h"
#include "supervisor/restart.h"
#include "supervisor/supervisor.h"

enum { CLIENTS_MAX = 8, END_KILL_MS = 10000, SPEC_MAX = 8 << 20 };

struct supervision;
struct session;
struct failure;

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
    struct disk disk;
    struct network network; /* lasts over restarts */
    struct userns userns;   /* the same */
    int task_dir_fd, logs_dir_fd, signal_fd, listen_fd;
    struct run_status status;
    struct root_progress progress; /* while the root is copied */
    int64_t told_ms;               /* when it was last told of */
    struct client clients[CLIENTS_MAX];
    struct capture capture[2];
    struct capture_order log_order;
    /* CLOCK_BOOTTIME; when status.log_lost and status.log_bytes were last told in between */
    int64_t lost_told_ms, bytes_told_ms;
    int input_fd; /* write end of the run's standard input while it is open, else -1 */
    bool main_reaped, has_cgroup, has_dirs, end_told;
    bool launching; /* a start waits for something: start_wait.c */
    struct {
        int signum;
        int64_t timeout_ms;
    } early_stop; /* with status.stopping, of a stop that came before the command ran */
    int wait_status;
    struct loop_source *child_source; /* the watch of signal_fd */
    struct loop_source *stop_timer;   /* kill_timeout */
    int64_t kill_due_ms;              /* when that is, CLOCK_BOOTTIME */
    struct loop_source *stuck_timer;  /* it was killed and has not ended */
    const char *kill_reason;          /* why we killed it ourselves, or NULL */
    struct session *sessions;         /* exec sessions: session.h */
    struct failure *failures;         /* of sessions: each server is told the last ones: control.c */
    struct {
        int64_t before; /* status.oom_kills when the run began */
        int fd;         /* the kernel's word, or -1 */
        struct loop_source *source, *timer;
    } oom;
    /* lifecycle.c */
    struct restart_history history;
    int64_t first_started_ms; /* CLOCK_BOOTTIME; timeout counts from here */
    struct loop_source *timeout_timer, *cpu_timer, *restart_timer;
    bool restart_asked; /* this run is ended to start the next one */
};

/* start.c: plans, prepares and starts the task; on return 0 it runs (execve done). Undoes everything on failure. */
int supervision_start(struct supervision *s, struct err *e);
/* 422 with the pointer of what in spec this host cannot enforce. */
int supervision_check_host(const struct supervision *s, const struct spec *spec, struct err *e);
/* Kills and removes what the start made on the host, except the directory (the launcher removes that). */
void supervision_undo(struct supervision *s);

/* What the task's environment says for tests, in builds with -DCLOISTER_FAULTS=ON; else value. */
int64_t supervision_option(const struct spec *s, const char *name, int64_t value);

/* start_wait.c */
/* Until fd can be read, or its other end is closed: serves requests, and tells that the start waits for `what` when it
 * takes seconds. After a minute (500, ETIMEDOUT) or a stop (409) pid is killed; -1 once its end has closed fd. */
int start_wait(struct supervision *s, int fd, pid_t pid, const char *what, struct err *e);
/* Waits for the volumes' file systems, by a process of its own for them: who looks at one that hangs may not be killed,
 * and would answer nobody. 0 also when one is at fault, which is seen when it is opened. */
int start_reach_volumes(struct supervision *s, struct err *e);

/* supervisor.c: the output and the end of the run that supervision_start has begun. */
int supervision_watch(struct supervision *s);
/* The task's end, as status tells it: recorded, told, and the supervisor ends. */
void supervision_finish(struct supervision *s);

/* stop.c */
/* Sends the stop signal (0: the spec's), then kills after timeout_ms (-1: the spec's, but no later than a stop that is
 * under way). No other run follows, also when this one is being ended to start the next. reason is static text for the
 * exit; NULL: what the stop itself has come to. */
void supervision_stop(struct supervision *s, int signum, int64_t timeout_ms, const char *reason, struct err *e);
/* The run has ended: no timer of its stop is left. */
void stop_ended(struct supervision *s);
/* Freezes or thaws the task's group. 409 when it does not run. */
void supervision_pause(struct supervision *s, bool paused, struct err *e);
int supervision_signal(struct supervision *s, int signum, bool all);

/* lifecycle.c */
/* The task has run before the host was rebooted: goes on from its record; its root begins anew. */
int lifecycle_resume(struct supervision *s, struct err *e);
/* A run has begun: its timers are set. */
void lifecycle_started(struct supervision *s);
/* A run has ended and status.exit tells how: true when another will follow. */
bool lifecycle_continues(struct supervision *s);
/* The spec has changed: its timers are set again. */
void lifecycle_updated(struct supervision *s);
void lifecycle_restart(struct supervision *s, int64_t timeout_ms, struct err *e);
/* A stop while it waits to be restarted: there is nothing to kill. */
void lifecycle_give_up(struct supervision *s, const char *reason);

/* oom.c: status.oom_kills, told while the task runs on. */
void oom_started(struct supervision *s);
/* The run has ended, with so many kills (-1: not known): nothing is left that holds its group. */
void oom_ended(struct supervision *s, int64_t kills);

/* input.c */
/* The read end of the run's standard input (the caller's), or -1 with errno. */
int input_open(struct supervision *s);
/* Sends the write end on the channel. 409 when there is none. */
void input_give(struct supervision *s, int channel, struct err *e);
/* Closes our side of the pipe that fd, which stays the caller's, is an end of. 409 when it is not this run's. */
void input_end(struct supervision *s, int fd, struct err *e);
void input_close(struct supervision *s);

/* update.c: takes over the spec in the memfd, which stays the caller's. 409 and 422 leave all as it was. */
void supervision_update(struct supervision *s, int spec_fd, struct err *e);

/* control.c */
int control_init(struct supervision *s, struct err *e);
void control_broadcast(struct supervision *s); /* the status to every connected server */
/* A session's start or end, to every connected server; a failure, of which nothing is on disk, also to later ones. */
void control_tell_session(struct supervision *s, const struct session_status *status);

#endif
