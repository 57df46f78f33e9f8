/* One task's supervisor: builds the sandbox, is the parent of the task, captures its output, records its end. */
#ifndef CLOISTER_SUPERVISOR_SUPERVISOR_H
#define CLOISTER_SUPERVISOR_SUPERVISOR_H

#include "isolation/cgroup.h"
#include "isolation/policy.h"

struct supervisor_args {
    const struct policy *policy;
    const struct cgroup_host *cgroups;
    const char *id;
    int spec_fd;     /* memfd with the spec's JSON */
    int server_fd;   /* SOCK_SEQPACKET to the server that asked */
    int listen_fd;   /* bound and listening at task_socket_path */
    int template_fd; /* mount namespace with the read-only roots, or -1 */
    bool again;      /* the task has run in an earlier boot of the host */
};

/* In the forked process; never returns. */
_Noreturn void supervisor_main(const struct supervisor_args *a);

#endif
