/* The sandbox of one task: a plan made on the host, then ordered steps in the child. */
#ifndef CLOISTER_ISOLATION_SANDBOX_H
#define CLOISTER_ISOLATION_SANDBOX_H

#include "isolation/caps.h"
#include "isolation/cgroup.h"
#include "isolation/identity.h"
#include "isolation/network.h"
#include "isolation/policy.h"
#include "isolation/seccomp.h"
#include "isolation/spec.h"
#include "isolation/userns.h"

struct task_volume { /* a volume mount of the spec, opened on the host */
    int fd;          /* detached tree; or, where trees cannot be copied, an O_PATH fd */
    bool is_dir, is_path;
};

struct root_progress { /* of a root that is copied */
    int64_t files, bytes;
    int (*tell)(void *arg); /* called at least every 8 MiB; other than 0 ends the copy; may be NULL */
    void *arg;
};

struct sandbox {
    const struct spec *spec; /* borrowed */
    const struct policy *policy;
    const char *id;           /* task id */
    char task_dir[256];       /* <state_dir>/tasks/<id> */
    char data_dir[264];       /* what the task writes is below: task_dir, or the mount of its limited disk in it */
    struct identity who;      /* resolved user, as the task sees it */
    struct identity host_who; /* the same with the host's ids: others in a user namespace */
    uint64_t caps;            /* bounding set */
    uint64_t caps_ambient;    /* ambient set of a non-root task */
    /* the policy's; NULL: none */
    const struct seccomp_program *seccomp;
    enum ns_mode pid_mode, ipc_mode;
    const struct network *network; /* borrowed; NULL: the host's */
    const struct userns *userns;   /* borrowed; NULL: the host's */
    const struct chroot *chroot;
    int root_tree;               /* detached copy of a read-only root, or -1 */
    struct task_volume *volumes; /* one each of the spec's; NULL before sandbox_open_mounts */
    int clone_flags;             /* CLONE_NEW* */
    int64_t cpu_mhz;             /* what the task was promised, for its environment; 0 nothing */
    char cores[CGROUP_CORES_TEXT];
};

/* On the host: policy, user, capabilities, modes. 403/422 by field. Keeps pointers to spec, policy and id. */
int sandbox_plan(struct sandbox *b, const struct spec *s, const struct policy *p, const char *id, struct err *e);
/* The plan with the task's user namespace, once that is made; u stays the caller's. */
void sandbox_take_userns(struct sandbox *b, const struct userns *u);
/* The host's id that is behind an id of the task's. */
uint32_t sandbox_host_id(const struct sandbox *b, uint32_t id);
/* On the host, once per launcher: <run_dir>/mask/<chroot>.<source>, lower layers that hide host secrets and hold mount
 * points. */
int sandbox_prepare_host(const struct policy *p, struct err *e);
/* On the host, once per launcher, after that: a mount namespace that holds the read-only tree of each chroot. fd of it;
 * or -1 with e, where tasks put their trees together themselves. */
int sandbox_template_open(const struct policy *p, struct err *e);
/* On the host: the directories of the task below data_dir (which exists): root, upper, work, local, alloc, tmp.
 * Step "task_directory". */
int sandbox_prepare_dirs(const struct sandbox *b, struct err *e);
/* On the host, after the directories: copies the chroot's files when the spec's root is "copy", once for each task.
 * What an interrupted copy left is removed. Step "rootfs"; 507 when the disk is full, 409 "task_stopped" when told to
 * end. */
int sandbox_copy_root(const struct sandbox *b, struct root_progress *p, struct err *e);
/* In the supervisor, before the fork: opens on the host what is mounted for the task: the read-only root from the
 * template (template_fd: of sandbox_template_open or -1), the volumes. */
int sandbox_open_mounts(struct sandbox *b, int template_fd, struct err *e);
/* Closes what sandbox_open_mounts opened. */
void sandbox_close_mounts(struct sandbox *b);
/* On the host: <task_dir>/etc with the resolv.conf, hosts and hostname that the task's network asks for.
 * Step "network_files". */
int sandbox_write_network_files(const struct sandbox *b, struct err *e);
/* The task's host name; its length. */
size_t sandbox_hostname(const struct sandbox *b, const char **name);
/* In the child (already in its namespaces; fds 0-2 are the task's): runs the steps, then execve. Returns only on
 * failure, with e naming the step. Steps in order: close_fds, network, mount_propagation, fsuid, rootfs, volumes of the
 * task (/local /alloc /secrets /tmp), network_files, volume_mounts, dev, proc, sys, pivot_root, hostname,
 * oom_score_adj, work_dir, command, cgroup, cgroup_namespace, rlimits, userns, groups, capabilities, no_new_privs,
 * signals, verify, seccomp (before capabilities where there is no no_new_privs), execve. A missing command is 422
 * /command; so are a directory, a file without x, a missing interpreter; a bad work_dir is 422 /work_dir. Step cgroup
 * waits for a byte on go_fd: whoever moves the child into its cgroup, which takes as long as the steps before, writes
 * it then. report_fd (CLOEXEC) is the only fd of the caller that is kept open until execve; those of b are closed when
 * they are mounted. */
int sandbox_enter(struct sandbox *b, int go_fd, int report_fd, struct err *e);
/* For tests: the step that is made to fail with EIO, from CLOISTER_FAIL_STEP in builds with -DCLOISTER_FAULTS=ON only.
 */

#endif
