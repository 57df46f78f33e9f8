/* The messages between server, launcher and supervisors, and the record a supervisor leaves on disk. All are plain
 * structs that start with a head. A supervisor outlives the program that started it, so its server may be newer, or
 * older: what a sender has not is zero for the receiver, and what a receiver does not know is cut off.
 *
 * So messages grow at their end only, by fields for which 0 means what was before; an enum gets its new members last;
 * PROTOCOL_VERSION is raised with each. What is nested in a message never changes. */
#ifndef CLOISTER_SUPERVISOR_MESSAGES_H
#define CLOISTER_SUPERVISOR_MESSAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "base/msg.h"
#include "isolation/cgroup.h"
#include "isolation/network.h"

enum { PROTOCOL_OLDEST = 1, PROTOCOL_VERSION = 3, MESSAGE_MAX = 16384 };

enum message_kind {
    MSG_LAUNCHER_REQUEST = 1,
    MSG_LAUNCHER_REPLY,
    MSG_RUN_STATUS,
    MSG_SUPERVISOR_REQUEST,
    MSG_SUPERVISOR_REPLY,
    MSG_SESSION_REQUEST,
    MSG_SESSION_STATUS,
    MSG_SESSION_CONTROL,
    MESSAGE_KINDS
};

struct message_head {
    uint32_t version;    /* of the sender */
    uint16_t kind, size; /* enum message_kind; of the whole message */
};

struct message { /* as received */
    size_t len;
    union {
        struct message_head head;
        char raw[MESSAGE_MAX];
    };
};

/* With what a message of ours begins. */
struct message_head message_head(enum message_kind kind);
/* msg_send of the message that begins at h. */
int message_send(int sock, const struct message_head *h, const int *fds, size_t n);
/* msg_recv of whatever comes. */
ssize_t message_recv(int sock, struct message *m, int fds[MSG_FDS_MAX], size_t *n);
/* The struct of this kind from len bytes of any version: *out is filled whole. False when it is another kind, cut short
 * or too old. */
bool message_open(const void *data, size_t len, enum message_kind kind, void *out);

/* server -> launcher */
enum launcher_op {
    LAUNCH_TASK = 1, /* fds: [0] memfd with the spec's JSON, [1] one end of a SOCK_SEQPACKET pair for the supervisor */
    REMOVE_TASK,     /* kill what is left, remove cgroup, mounts, socket and the task's directory */
    CLEAN_TASK,      /* the same but the record and the logs stay */
    SERVER_ALIVE,    /* sent now and then while it serves; id is empty, there is no reply */
    LAUNCH_AGAIN,    /* as LAUNCH_TASK, into the directory of a task that a reboot has ended */
    TASK_FILES,      /* of an ended task; fd: a channel, on which a files_request waits and all answers come */
};

struct launcher_request {
    struct message_head head;
    uint32_t op;
    char id[ID_LEN + 1];
};

/* launcher -> server, for REMOVE_TASK and CLEAN_TASK (a launch is answered by its supervisor, or by end of stream) */
struct launcher_reply {
    struct message_head head;
    uint32_t op;
    char id[ID_LEN + 1];
    struct err err; /* status 0: done */
};

/* Steps of err that the server acts on: the supervisor lives, and nothing was touched; or the launcher's process was
 * killed at it, and it may be asked again. */
#define SUPERVISOR_STEP "supervisor"
#define HELPER_STEP "helper"

enum run_state { RUN_STARTING = 1, RUN_RUNNING, RUN_EXITED, RUN_FAILED, RUN_RESTARTING };

struct exit_info {
    int32_t code;   /* 0-255, or -1 when a signal ended it */
    int32_t signum; /* 0, or the signal */
    uint8_t oom_killed;
    char reason[96];                 /* "exited", "signaled", "stopped", "killed after kill_timeout", ... */
    int64_t started_at, finished_at; /* CLOCK_REALTIME, ns */
    struct cgroup_usage usage;
};

/* supervisor -> server on connect and at each change, and the record file <task_dir>/record */
struct run_status {
    struct message_head head;
    uint32_t state; /* enum run_state */
    char id[ID_LEN + 1];
    char boot_id[40];
    int32_t pid; /* of the task, in the host's pid namespace */
    int32_t supervisor_pid;
    uint64_t pid_start; /* field 22 of /proc/PID/stat */
    int64_t started_at;
    uint8_t stopping;
    struct exit_info exit; /* RUN_EXITED; while it is restarted, of the last run */
    struct err err;        /* RUN_FAILED */
    uint8_t paused;
    uint32_t restarts;              /* starts after the first */
    int64_t next_start_at;          /* RUN_RESTARTING: CLOCK_REALTIME, ns */
    uint32_t disk_mode;             /* enum disk_mode */
    int64_t ended_boot_ms;          /* CLOCK_BOOTTIME of the boot in boot_id */
    int64_t root_files, root_bytes; /* of a root that is copied: so far, and then in all */
    struct net_status network;
    /* version 2 */
    uint64_t log_lost;  /* bytes of output that the disk did not take */
    char waits_for[96]; /* why it has not ended although it was killed, or "" */
    /* version 3 */
    int64_t oom_kills;     /* processes of all runs so far that the kernel killed for memory */
    uint64_t log_bytes[2]; /* output of all runs so far, of stdout and stderr; changes alone are told now and then */
};

/* exit.reason when boot_id tells of another boot */
#define REBOOT_REASON "ended by a reboot of the host"

/* server -> supervisor */
enum supervisor_op {
    SUP_SIGNAL = 1,
    SUP_STOP,
    SUP_RESTART, /* ends the run as SUP_STOP does, and starts at once */
    SUP_PAUSE,
    SUP_RESUME,
    SUP_UPDATE,    /* fd: memfd with the whole new spec; only what can change while it runs differs */
    SUP_FILES,     /* fd: a channel, on which a files_request waits and all answers come */
    SUP_INPUT,     /* fd: a channel, on which a files_reply with the write end of the task's standard input comes */
    SUP_INPUT_END, /* fd: that write end; its run's standard input is at its end when the sender has closed it too */
};

struct supervisor_request {
    struct message_head head;
    uint32_t op;
    uint32_t serial; /* comes back in the reply */
    int32_t signum;
    int64_t timeout_ms; /* SUP_STOP */
    uint8_t target_all; /* SUP_SIGNAL: every process of the cgroup */
};

/* supervisor -> server */
struct supervisor_reply {
    struct message_head head;
    uint32_t serial;
    struct err err;
};

/* --- exec sessions: commands inside a task ------------------------------------------------------------------------ */

enum session_op {
    SESSION_START = 1, /* fds: [0] memfd with the session's JSON, [1] channel, [2] read end of a pipe for input */
    SESSION_ATTACH,    /* fds: [0] channel, [1] read end of a pipe for input */
    SESSION_SIGNAL,    /* answered by a supervisor_reply */
};

/* server -> supervisor. The pipe for input may be left out: then no
 * input comes from this side, and a session that is started so has none but its "stdin" text. */
struct session_request {
    struct message_head head;
    uint32_t op;
    uint32_t serial; /* SESSION_SIGNAL: comes back in the reply */
    int32_t signum;
    char id[ID_LEN + 1];
    uint8_t watch_only; /* SESSION_ATTACH: a reader whom the session does not wait for */
    uint64_t cursor[2]; /* SESSION_ATTACH: where in stdout and stderr it will read on */
};

enum session_state { SESSION_STARTING = 1, SESSION_RUNNING, SESSION_EXITED, SESSION_FAILED, SESSION_LOST };

/* supervisor -> server over the channel (SOCK_SEQPACKET), at once and at each change, of which only the latest counts;
 * and the record <task_dir>/execs/<id>/record. The end of the channel without an end of the session: see the record.
 * Since version 3 also to every connected server, like a run_status: once when the command runs, once at the end. The
 * last failures are told again to each server that connects: an older one writes them down twice. */
struct session_status {
    struct message_head head;
    uint32_t state; /* enum session_state */
    char id[ID_LEN + 1];
    uint8_t tty, timed_out;
    int32_t pid;          /* in the host's pid namespace */
    int32_t code, signum; /* as in exit_info */
    int64_t started_at, finished_at;
    uint64_t cursor[2]; /* bytes of stdout and stderr that can be read in the session's directory */
    struct err err;     /* SESSION_FAILED */
    /* version 3 */
    uint8_t executed; /* the command runs, or has run: its start was told */
};

enum session_control_op { CONTROL_ACK = 1, CONTROL_RESIZE, CONTROL_INPUT_END, CONTROL_SIGNAL };

/* server -> supervisor over the channel */
struct session_control {
    struct message_head head;
    uint32_t op;
    int32_t signum;
    uint16_t rows, cols;
    uint64_t cursor[2]; /* CONTROL_ACK: read up to here; output that nobody has read is not dropped while he is there */
};

/* --- files of a task ---------------------------------------------------------------------------------------------- */

enum files_op {
    FILES_GET = 1, /* a file: its fd; a directory: a page of what it holds */
    FILES_PUT,     /* fd of a new file; FILES_COMMIT then gives it its name */
    FILES_COMMIT,  /* the second message of FILES_PUT, when all has been written */
    FILES_DELETE,
    FILES_UNTAR, /* a pipe for the archive that is to be unpacked in a directory; the answer comes at its end */
};

enum files_flag {
    FILES_STAT = 1,      /* FILES_GET: what the name itself is, links not followed */
    FILES_TAR = 2,       /* FILES_GET: a pipe with an archive of the directory, and a second answer at its end */
    FILES_MKDIRS = 4,    /* FILES_PUT, FILES_UNTAR: missing directories are made */
    FILES_RECURSIVE = 8, /* FILES_DELETE: a directory with all below it */
};

/* These messages have no head, and a version of their own: both sides must have the same. */
enum { FILES_VERSION = 2, FILES_PATH = 4096, FILES_NAME = 256 };

/* server -> the process that supervisor or launcher has forked for it, over the channel (SOCK_SEQPACKET) */
struct files_request {
    uint32_t version, op, flags;
    uint32_t mode;          /* FILES_PUT: permission bits */
    uint32_t limit;         /* FILES_GET: entries of a page */
    char path[FILES_PATH];  /* "local/a/b"; FILES_GET also "" */
    char after[FILES_NAME]; /* FILES_GET: only names after this one, in the order of bytes */
};

enum files_what {
    FILES_IS_FILE = 1, /* fd of a regular file */
    FILES_IS_JSON,     /* fd of a memfd: one entry, or a page */
    FILES_IS_PIPE,     /* fd */
    FILES_IS_DONE,
};

struct files_reply {
    uint32_t version, what;
    uint8_t created; /* FILES_IS_DONE: the name was not there before */
    struct err err;
};

#endif
