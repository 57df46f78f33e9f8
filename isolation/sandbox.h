/* The sandbox of one task: a plan made on the host, then ordered steps in the child. */
#ifndef CLOISTER_ISOLATION_SANDBOX_H
#define CLOISTER_ISOLATION_SANDBOX_H

#include "isolation/caps.h"
#include "isolation/cgroup.h"
#include "isolation/identity.h"
#include "isolation/policy.h"
#include "isolation/spec.h"

struct sandbox {
    const struct spec *spec; /* borrowed */
    const struct policy *policy;
    const char *id;        /* task id */
    char task_dir[256];    /* <state_dir>/tasks/<id> */
    struct identity who;   /* resolved user */
    uint64_t caps;         /* bounding set */
    uint64_t caps_ambient; /* ambient set of a non-root task */
    enum ns_mode pid_mode, ipc_mode;
    int clone_flags; /* CLONE_NEW* */
    int64_t cpu_mhz; /* what the task was promised, for its environment; 0 nothing */
    char cores[CGROUP_CORES_TEXT];
};

/* On the host: policy, user, capabilities, modes. 403/422 by field. Keeps pointers to spec, policy and id. */
int sandbox_plan(struct sandbox *b, const struct spec *s, const struct policy *p, const char *id, struct err *e);
/* On the host, once per launcher: <run_dir>/mask/<n>, lower layers of whiteouts that hide host secrets. */
int sandbox_prepare_host(const struct policy *p, struct err *e);
/* On the host: the directories of the task below task_dir (which exists): root, upper, work, local, alloc, tmp.
 * Step "task_directory". */
int sandbox_prepare_dirs(const struct sandbox *b, struct err *e);
/* In the child (already in its namespaces and cgroup; fds 0-2 are the task's): runs the steps, then execve. Returns
 * only on failure, with e naming the step. Steps in order: close_fds, mount_propagation, rootfs, volumes of the task
 * (/local /alloc /secrets /tmp), dev, proc, sys, pivot_root, hostname, oom_score_adj, work_dir, command,
 * rlimits, groups, capabilities, no_new_privs, signals, verify, execve. A missing command is 422 /command; so are a
 * directory, a file without x, a missing interpreter; a bad work_dir is 422 /work_dir. report_fd (CLOEXEC) is the only
 * fd of the caller that is kept open until execve. */
int sandbox_enter(struct sandbox *b, int report_fd, struct err *e);
/* For tests: the step that is made to fail with EIO, from CLOISTER_FAIL_STEP in builds with -DCLOISTER_FAULTS=ON only.
 */

#endif
