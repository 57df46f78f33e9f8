/* Private to the seccomp module: a profile as plain data, where it comes from, and what is made of it. */
#ifndef CLOISTER_ISOLATION_SECCOMP_PROFILE_H
#define CLOISTER_ISOLATION_SECCOMP_PROFILE_H

#include <stddef.h>

#include "isolation/seccomp.h"

enum seccomp_machine { MACHINE_OTHER, MACHINE_AMD64, MACHINE_ARM64 }; /* each with its 32-bit sibling */

enum seccomp_action { /* as the actions of seccomp(2), and in the order of their names in profiles */
                      ACTION_KILL = 1,
                      ACTION_KILL_THREAD,
                      ACTION_KILL_PROCESS,
                      ACTION_TRAP,
                      ACTION_ERRNO,
                      ACTION_TRACE,
                      ACTION_ALLOW,
                      ACTION_LOG
};

enum seccomp_op { OP_NE = 1, OP_LT, OP_LE, OP_EQ, OP_GE, OP_GT, OP_MASKED_EQ };

struct seccomp_arg {
    int64_t index; /* 0 to 5 */
    enum seccomp_op op;
    int64_t value;     /* compared with; of OP_MASKED_EQ the mask */
    int64_t value_two; /* of OP_MASKED_EQ: what is left must be this */
};

enum { SECCOMP_ARGS = 6 };

/* All conditions on different arguments must hold; conditions on the same argument are alternatives (so do Docker and
 * runc read their profiles). */
struct seccomp_rule {
    const char *const *names; /* ends with NULL */
    enum seccomp_action action;
    int64_t value; /* the errno of ACTION_ERRNO, the message of ACTION_TRACE */
    const struct seccomp_arg *args;
    size_t nargs;
    uint64_t caps;     /* in force only if all of these are in the bounding set */
    uint64_t not_caps; /* and none of these */
};

/* What an allowlist made by libseccomp cannot say: refused with EPERM before any rule is looked at. */
struct seccomp_refusal {
    const char *name;
    unsigned index; /* of the argument */
    uint32_t value; /* of its low 32 bits, all that the kernel reads of it (CVE-2019-7303) */
};

enum { SECCOMP_REFUSALS = 8 }; /* at most, of a profile */

struct seccomp_profile {
    enum seccomp_action action; /* where no rule applies */
    int64_t value;
    unsigned flags; /* SECCOMP_FILTER_FLAG_* */
    bool sibling;   /* the 32-bit architecture too; otherwise its calls kill the process */
    const struct seccomp_rule *rules;
    size_t n;
    const struct seccomp_refusal *refusals;
    size_t refusals_n;
    void *owner; /* of rules that come from a file, see seccomp_profile_free */
};

/* seccomp_default.c */
extern const struct seccomp_profile seccomp_default_profile;

/* seccomp_profile.c, seccomp_document.c: from JSON text. -1 with e: 422 or 400 with the JSON pointer. */
int seccomp_profile_parse(const char *text, size_t len, enum seccomp_machine m, struct seccomp_profile *p,
                          struct err *e);
void seccomp_profile_free(struct seccomp_profile *p);
/* Whether the task goes on after the action: it is not denied the call. */
bool seccomp_permits(enum seccomp_action a);

/* seccomp.c: libseccomp. */
enum seccomp_machine seccomp_machine(void);
/* Whether libseccomp knows the call on any architecture. */
bool seccomp_knows(const char *name);
/* The program for machine m and a bounding set; the caller frees out->bpf.filter. Step "seccomp". */
int seccomp_build(const struct seccomp_profile *p, enum seccomp_machine m, uint64_t caps, struct seccomp_program *out,
                  struct err *e);

/* seccomp_bpf.c: what goes before libseccomp's program, for one architecture. */
struct seccomp_prologue {
    uint32_t arch;    /* AUDIT_ARCH_* */
    uint32_t highest; /* calls above it are ENOSYS; UINT32_MAX: none */
    struct {
        int nr;
        const struct seccomp_refusal *refusal;
    } refused[SECCOMP_REFUSALS];
    size_t n;
};
enum { SECCOMP_PROLOGUE_MAX = 64 }; /* instructions for one architecture */
/* Writes the instructions, returns their number. They end where the next program begins. */
size_t seccomp_prologue(const struct seccomp_prologue *p, struct sock_filter out[SECCOMP_PROLOGUE_MAX]);

#endif
