/* Capabilities (capabilities(7)) through libcap-ng: the only file that includes it is caps.c. */
#ifndef CLOISTER_ISOLATION_CAPS_H
#define CLOISTER_ISOLATION_CAPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "isolation/spec.h"

#define CAPS_DEFAULT_NAMES                                                                                             \
    "audit_write", "chown", "dac_override", "fowner", "fsetid", "kill", "mknod", "net_bind_service", "setfcap",        \
        "setgid", "setpcap", "setuid", "sys_chroot"

uint64_t caps_default(void); /* Nomad's 13 defaults */
uint64_t caps_kernel(void);  /* what this kernel knows */
uint64_t caps_held(void);    /* what this process may give (permitted and bounding set) */
/* Name in any case, with or without cap_, or "all"; 0 when unknown. */
uint64_t caps_parse(const char *name);
/* Sorted lower-case names without cap_. Caller frees s->v as spec does. */
void caps_names(uint64_t set, struct strings *s);

/* Unknown name: 422 at /cap_add/N or /cap_drop/N; cap_add outside allow: 403 code "capability_denied" naming it. */
int caps_check(const struct spec *s, uint64_t allow, struct err *e);
/* ((default and allow) minus cap_drop) plus cap_add, after caps_check. added gets the cap_add bits. Bits the host does
 * not hold: when asked for by cap_add 422, else left out. */
int caps_compute(const struct spec *s, uint64_t allow, uint64_t *result, uint64_t *added, struct err *e);

/* Makes all permitted capabilities effective: setfsuid(2) takes some away. 0 or -1 with errno. */
int caps_raise(void);

/* In the child, still root with full power, after setgroups/setresgid: drops the bounding set to `bounding`, becomes
 * uid (setresuid), and holds permitted = effective = `bounding` when uid is 0 (inheritable and ambient empty),
 * otherwise permitted = effective = inheritable = ambient = `ambient` (subset of bounding). Then reads /proc-free
 * kernel state back (PR_CAPBSET_READ for every capability, capget, PR_CAP_AMBIENT) and fails on any difference. Step
 * "capabilities". */
int caps_apply(uint64_t bounding, uint64_t ambient, uid_t uid, struct err *e);

#endif
