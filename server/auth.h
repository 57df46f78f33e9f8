/* Who is calling: peer credentials on the unix socket, bearer tokens on TCP, Host and Origin. */
#ifndef CLOISTER_SERVER_AUTH_H
#define CLOISTER_SERVER_AUTH_H

#include "base/err.h"
#include "server/http.h"

struct auth {
    gid_t socket_gid;           /* members are admin on the unix socket, as root and our own account are */
    const char *tokens_file;    /* lines "sha256-hex role name", # comments; read again when it changed */
    const char *const *hosts;   /* allowed Host names besides localhost, 127.0.0.1, [::1]; NULL-terminated */
    const char *const *origins; /* allowed Origins, exact; NULL-terminated */
};

/* Role of the peer of a connected unix socket, from SO_PEERCRED and SO_PEERGROUPS (unix(7)). */
enum role auth_peer(const struct auth *a, int fd);
/* Role of a TCP caller, by the value of Authorization. NULL: monitor. A bad or unknown token: -1 with 401 code
 * "unauthorized". */
int auth_token(const struct auth *a, const char *authorization, enum role *role, struct err *e);
/* Whether pages of this origin may call. */
bool auth_origin(const struct auth *a, const char *origin);
/* Host (DNS rebinding) and Origin (CSRF): 403 code "host_denied" / "origin_denied". */
int auth_headers(const struct auth *a, const char *host, const char *origin, struct err *e);
/* Makes a token for name with role, appends its hash to file (mode 0640 group gid), prints the token once to stdout. */
int auth_token_create(const char *file, const char *role, const char *name, gid_t gid, struct err *e);
const char *role_name(enum role r); /* "operator" */

#endif
