/* Control groups, v1, hybrid and v2, chosen per controller at start. libcgroup (included by cgroup_lib.c alone) finds
 * the hierarchies, creates groups with their values and removes them; cgroup_v2.c does what it cannot. */
#ifndef CLOISTER_ISOLATION_CGROUP_H
#define CLOISTER_ISOLATION_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolation/spec.h"

enum cgroup_controller {
    CG_CPU,
    CG_CPUACCT,
    CG_MEMORY,
    CG_PIDS,
    CG_FREEZER,
    CG_DEVICES,
    CG_CPUSET,
    CG_IO,
    CG_HUGETLB,
    CG_COUNT
};

/* Who limits a task to the devices of isolation/devices.h. */
enum devices_by { DEVICES_FREE, DEVICES_V1, DEVICES_BPF }; /* nobody, the v1 controller, a BPF program on v2 */

struct cgroup_host { /* plain data; what was found at start */
    struct {
        int version;     /* 0 absent, 1, 2 */
        char mount[128]; /* root of its hierarchy */
    } ctl[CG_COUNT];
    char v2_mount[128]; /* "" when no cgroup2 is mounted; on hybrid hosts the tree used for tracking and cgroup.kill */
    char parent[64];    /* "cloister" */
    const char *mode;   /* "v1", "hybrid", "v2" or "none" */
    int64_t core_mhz;   /* speed of one core */
    int64_t total_mhz;  /* of all cores that our parent group may use */
    enum devices_by devices;
    int devices_fd;       /* the program of DEVICES_BPF; -1 otherwise */
    char devices_why[64]; /* why it is DEVICES_FREE; "" otherwise */
};

enum { CGROUP_CORES_TEXT = 512 }; /* room for a list of cores */
enum { CGROUP_MISSING_TEXT = 64 };

struct cgroup_usage {
    int64_t cpu_ns, cpu_user_ns, cpu_system_ns;
    int64_t memory_bytes, memory_peak_bytes;
    int64_t pids, pids_peak; /* -1 where the kernel does not tell */
    int64_t oom_kills;
    int64_t periods, throttled_periods, throttled_ns; /* of the CPU quota */
    int64_t memory_anon_bytes, memory_file_bytes, memory_kernel_bytes, swap_bytes;
    int64_t io_read_bytes, io_write_bytes, io_reads, io_writes; /* of block devices */
};

struct cgroup_pressure { /* the kernel's Documentation/accounting/psi.rst */
    int64_t total_us;    /* -1: not told */
    double avg10, avg60, avg300;
};

enum cgroup_psi { CGROUP_PSI_CPU, CGROUP_PSI_MEMORY, CGROUP_PSI_IO, CGROUP_PSI_COUNT };

struct cgroup_stat {
    struct cgroup_usage usage;
    int64_t memory_limit_bytes, pids_limit; /* -1: none, or not told */
    struct cgroup_pressure some[CGROUP_PSI_COUNT], full[CGROUP_PSI_COUNT];
};

const char *cgroup_controller_name(enum cgroup_controller c); /* "cpu", ... */
/* Once, in the launcher: finds hierarchies and makes the parent group in each. mode "none" is success. */
int cgroup_host_init(struct cgroup_host *h, const char *parent, struct err *e);
/* Makes parent groups again that somebody else has removed, as clean-up jobs do with empty ones. What is missing still
 * is told by the start that needs it. */
void cgroup_host_restore(const struct cgroup_host *h);
/* 422 with the pointer of the first limit in r that this host cannot enforce: its controller or its file is missing, or
 * its device. */
int cgroup_check(const struct cgroup_host *h, const struct resources *r, struct err *e);
/* Makes the task's group in each hierarchy with its limits, read back: <parent>/<id> on v1, <parent>/share/<id> or,
 * with cores of its own, <parent>/reserve/<id> on v2 and in v1's cpuset (without own cores a task is in cpuset's
 * <parent>/share). cores gets the list of its own cores, or "". Rolls back on failure. Step "cgroup_create"; 503 code
 * "cores_unavailable" when others have them. */
int cgroup_create(const struct cgroup_host *h, const char *id, const struct resources *r, char cores[CGROUP_CORES_TEXT],
                  struct err *e);
/* The compute of r in MHz: cpu, or that of its cores; 0 when neither is given. */
int64_t cgroup_mhz(const struct cgroup_host *h, const struct resources *r);
/* An fd (O_PATH) of the group, for CLONE_INTO_CGROUP of clone3(2), where that is all there is to join: on v2. -1 with
 * errno on other hosts; the caller closes it. */
int cgroup_open(const struct cgroup_host *h, const char *id);
/* Moves pid into the group in every hierarchy where it is not yet, verified. Step "cgroup_attach". */
int cgroup_attach(const struct cgroup_host *h, const char *id, pid_t pid, struct err *e);
/* SIGKILLs all members (cgroup.kill, else freezer: freeze, kill, thaw, repeat) until the group is empty or timeout_ms
 * has passed: -1 with errno ETIMEDOUT. A group that is not there is success. */
int cgroup_kill(const struct cgroup_host *h, const char *id, int64_t timeout_ms);
/* Freezes or thaws all members, by v2's cgroup.freeze or v1's freezer, and waits up to 2 s until they are. 0, or -1
 * with errno: ENOTSUP when this host has neither, ETIMEDOUT when some would not. */
int cgroup_freeze(const struct cgroup_host *h, const char *id, bool frozen);
/* Gives the group the limits r instead of before, read back; on failure those of before are put back: 409 when they
 * cannot be taken now (memory that is in use), else step "cgroup_update". */
int cgroup_update(const struct cgroup_host *h, const char *id, const struct resources *before,
                  const struct resources *r, struct err *e);
/* Whether tasks have groups at all on this host; without, their processes are those of their pid namespace. */
bool cgroup_tracks(const struct cgroup_host *h);
/* Whether the CPU time of a group is told. */
bool cgroup_tells_cpu(const struct cgroup_host *h);
/* Comma list of the controllers that a host should have and this one lacks, of cpu, cpuset, memory and pids; "" when
 * none is missing. */
void cgroup_missing(const struct cgroup_host *h, char out[CGROUP_MISSING_TEXT]);
/* Values not told by the kernel are -1. Read oom_kills after the last process is gone and before removal. */
void cgroup_usage(const struct cgroup_host *h, const char *id, struct cgroup_usage *u);
/* Only cpu_ns, memory_bytes and pids, for whoever asks about many; id NULL: of all tasks together, those that have been
 * removed included. */
void cgroup_usage_brief(const struct cgroup_host *h, const char *id, struct cgroup_usage *u);
/* The same with limits and pressure. */
void cgroup_stat(const struct cgroup_host *h, const char *id, struct cgroup_stat *s);
/* How many processes of the group, in all, the kernel has killed for memory; -1 when it does not tell. */
int64_t cgroup_oom_kills(const struct cgroup_host *h, const char *id);
/* An fd that has something to read (poll(2): POLLIN of v1's, POLLPRI of v2's) when cgroup_oom_kills may have changed,
 * or is about to. The caller closes it before cgroup_remove. -1 with errno when this host gives no word. */
int cgroup_oom_watch(const struct cgroup_host *h, const char *id);
/* The events to wait for on that fd (epoll(7)). */
uint32_t cgroup_oom_events(const struct cgroup_host *h);
/* Whether there was word since the last time; it is taken. */
bool cgroup_oom_clear(const struct cgroup_host *h, int fd);
/* Removes the empty group everywhere, with retries up to 2 s; -1 with errno when something stayed. Never moves a
 * process elsewhere. A group that is not there is success. */
int cgroup_remove(const struct cgroup_host *h, const char *id);
/* fn for each process of the group and of the groups in it, by pid as this process sees it. -1 with errno when no
 * hierarchy tells. */
int cgroup_members(const struct cgroup_host *h, const char *id, int (*fn)(void *arg, pid_t pid), void *arg);
/* Sends the signal to each process of the group and of the groups in it. 0, or -1 with errno when one could not be sent
 * it, or no hierarchy tells who they are. */
int cgroup_signal(const struct cgroup_host *h, const char *id, int signum);
/* Calls fn for the id of each group below the parent (union over hierarchies may repeat an id). */
void cgroup_each(const struct cgroup_host *h, void (*fn)(void *arg, const char *id), void *arg);

/* An exec session of task `id`: a process that is in the task's groups (cgroup_attach) moves on to a group of its own
 * below, <task>/exec-<session>, in the hierarchy that serves for killing (v2, else v1's freezer). That group has no
 * controllers, so the task's limits hold for it too. Where there is no such hierarchy it stays with the task. */
int cgroup_session_attach(const struct cgroup_host *h, const char *id, const char *session, pid_t pid, struct err *e);
/* Whether the task's pids limit is exceeded: joining a group is not stopped by it, as forking in it is. */
bool cgroup_pids_exceeded(const struct cgroup_host *h, const char *id);
/* SIGKILLs all members of the session's group until it is empty or timeout_ms has passed: -1 with errno ETIMEDOUT. */
int cgroup_session_kill(const struct cgroup_host *h, const char *id, const char *session, int64_t timeout_ms);
/* Removes the session's empty group; a group that is not there is success. 0, or -1 with errno. */
int cgroup_session_remove(const struct cgroup_host *h, const char *id, const char *session);

#endif
