/* Private to the set-up: what of the host tasks may see and mount. */
#ifndef CLOISTER_SERVER_SETUP_ROOTS_H
#define CLOISTER_SERVER_SETUP_ROOTS_H

#include "isolation/policy.h"
#include "server/config.h"

/* Chroots and volumes of the configuration into the policy, which then owns them. Error: status 400, "config". */
int setup_roots(const struct config *c, struct policy *p, struct err *e);
void setup_roots_free(struct policy *p);

#endif
