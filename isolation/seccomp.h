/* System call filters (seccomp(2)): the profiles that the operator has, and the program of each. A profile depends on
 * capabilities, so there is one program for each set that makes a difference; all are made before a task needs them,
 * or at the latest on the host, never in the child. */
#ifndef CLOISTER_ISOLATION_SECCOMP_H
#define CLOISTER_ISOLATION_SECCOMP_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define SECCOMP_DEFAULT "default"       /* the built-in profile, docs/seccomp.md */
#define SECCOMP_UNCONFINED "unconfined" /* no filter */

struct seccomp_program {
    struct sock_fprog bpf; /* owned */
    unsigned flags;        /* SECCOMP_FILTER_FLAG_* */
    bool answers_prctl;    /* it lets prctl(2) pass, or refuses it with an errno; it does not kill for it */
};

struct seccomp_policy;

/* Whether this kernel has filters, and this machine a built-in profile. */
bool seccomp_available(void);

/* The built-in profile alone. The caller frees it. */
struct seccomp_policy *seccomp_policy_new(bool allow_unconfined);
/* Adds the profile of a file in the OCI runtime specification's JSON form, with the conditions that Docker's file adds
 * (includes and excludes). -1 with e (status 400, code "config") naming the file and the JSON pointer. */
int seccomp_policy_add(struct seccomp_policy *p, const char *name, const char *file, struct err *e);
/* Makes the programs of all profiles for a bounding set. Without effect where there is no seccomp. */
int seccomp_policy_prepare(struct seccomp_policy *p, uint64_t caps, struct err *e);
void seccomp_policy_free(struct seccomp_policy *p);

/* Whether tasks may have the profile `name`, or "unconfined": 403 code "seccomp_denied" when the policy does not allow
 * it, 422 when there is no such profile or no seccomp; all at /seccomp. */
int seccomp_check(const struct seccomp_policy *p, const char *name, struct err *e);
/* After that check, its program for a bounding set, NULL for "unconfined"; it belongs to p. */
int seccomp_choose(struct seccomp_policy *p, const char *name, uint64_t caps, const struct seccomp_program **out,
                   struct err *e);

/* In the child: installs the program for the rest of the task's life. Needs no_new_privs or CAP_SYS_ADMIN. Step
 * "seccomp". */
int seccomp_install(const struct seccomp_program *p, struct err *e);

#endif
