/* The launcher: root, no network input. Forks the server and, on its request, supervisors. */
#ifndef CLOISTER_SUPERVISOR_LAUNCHER_H
#define CLOISTER_SUPERVISOR_LAUNCHER_H

#include "isolation/cgroup.h"
#include "isolation/policy.h"

/* The server's exit status when it would be in vain to start it again: the launcher ends too, with status 1. */
enum { SERVER_EXIT_FINAL = 65 /* EX_DATAERR of sysexits.h(3head) */ };

struct launcher {
    const struct policy *policy;
    struct cgroup_host cgroups;
    bool runs_tasks; /* else nothing is prepared for them on the host */
    /* Runs the server in the forked child, already without power: uid, groups, capabilities gone, no_new_privs set.
     * launcher_sock is its end of the socketpair. Its return value is the exit status. */
    int (*server_main)(void *arg, int launcher_sock);
    void *server_arg;
    int template_fd; /* of sandbox_template_open; set by launcher_run */
};

/* Runs until SIGTERM or SIGINT; starts the server again when it dies (1 s later if it lived less than 1 s). Returns the
 * exit status of the program. Supervisors and tasks outlive it. */
int launcher_run(struct launcher *l);
/* Where things are; out has room for n bytes. */
void task_dir_path(const struct policy *p, const char *id, char *out, size_t n);    /* <state_dir>/tasks/<id> */
void task_socket_path(const struct policy *p, const char *id, char *out, size_t n); /* <run_dir>/supervisors/<id> */

#endif
