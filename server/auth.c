#include "server/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/hash.h"

enum { GROUPS_MAX = 1024, TOKENS_MAX = 1 << 20, TOKEN_BYTES = 32 };

static const char *const role_names[] = {"none", "monitor", "operator", "admin"};

const char *role_name(enum role r)
{
    return role_names[r];
}

static int role_parse(const char *name) /* -1 unknown */
{
    for (int i = ROLE_MONITOR; i <= ROLE_ADMIN; i++)
        if (strcmp(name, role_names[i]) == 0)
            return i;
    return -1;
}

enum role auth_peer(const struct auth *a, int fd)
{
    struct ucred who;
    gid_t groups[GROUPS_MAX];
    socklen_t len = sizeof(who), size = sizeof(groups);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
        return ROLE_NONE;
    if (who.uid == 0 || who.uid == geteuid() || who.gid == a->socket_gid)
        return ROLE_ADMIN;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
        return ROLE_NONE;
    for (size_t i = 0; i < size / sizeof(groups[0]); i++)
        if (groups[i] == a->socket_gid)
            return ROLE_ADMIN;
    return ROLE_NONE;
}

/* The file is small and read at each check, so a token that was added or removed counts at once. */
static int find_token(const char *file, const char *token)
{
    _cleanup_free_ char *text = NULL;
    char digest[65], *save = NULL;
    int found = -1;

    if (file_read(AT_FDCWD, file, TOKENS_MAX, &text, NULL) < 0)
        return -1;
    hash_sha256_hex(token, strlen(token), digest);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char hash[65], role[16];

        if (sscanf(line, "%64s %15s", hash, role) == 2 && hash_equal(hash, digest))
            found = role_parse(role);
    }
    return found;
}

int auth_token(const struct auth *a, const char *authorization, enum role *role, struct err *e)
{
    if (!authorization) {
        *role = ROLE_MONITOR;
        return 0;
    }
    int found = strncasecmp(authorization, "Bearer ", 7) == 0 ? find_token(a->tokens_file, authorization + 7) : -1;
    if (found < 0)
        return err_set(e, 401, "unauthorized", "the bearer token is unknown");
    *role = (enum role)found;
    return 0;
}

static bool in_list(const char *const *list, const char *text, size_t len)
{
    for (; list && *list; list++)
        if (strlen(*list) == len && strncasecmp(*list, text, len) == 0)
            return true;
    return false;
}

bool auth_origin(const struct auth *a, const char *origin)
{
    return in_list(a->origins, origin, strlen(origin));
}

int auth_headers(const struct auth *a, const char *host, const char *origin, struct err *e)
{
    static const char *const loopback[] = {"localhost", "127.0.0.1", "[::1]", NULL};

    if (host) {
        size_t len = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");

        if (len > strlen(host))
            len = strlen(host);
        bool port_ok =
            !host[len] || (host[len] == ':' && strspn(host + len + 1, "0123456789") == strlen(host + len + 1));
        if (!port_ok || (!in_list(loopback, host, len) && !in_list(a->hosts, host, len)))
            return err_set(e, 403, "host_denied", "this Host is not served");
    }
    if (origin && !auth_origin(a, origin))
        return err_set(e, 403, "origin_denied", "pages of this Origin may not call");
    return 0;
}

static int append(const char *file, const char *line, gid_t gid)
{
    _cleanup_free_ char *dir = xstrdup(file);

    *strrchr(dir, '/') = '\0';
    if (*dir && file_mkdirs(dir, 0755) < 0)
        return -1;
    _cleanup_close_ int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0 || fchown(fd, geteuid(), gid) < 0 || fchmod(fd, 0640) < 0)
        return -1;
    return file_write_all(fd, line, strlen(line)) < 0 ? -1 : fsync(fd);
}

int auth_token_create(const char *file, const char *role, const char *name, gid_t gid, struct err *e)
{
    unsigned char random[TOKEN_BYTES];
    char digest[65];
    _cleanup_buf_ struct buf token = {0};

    if (role_parse(role) < 0)
        return err_set(e, 400, "config", "--role \"%s\" is none of: monitor operator admin", role);
    if (!*name || strpbrk(name, " \t\r\n#"))
        return err_set(e, 400, "config", "--name \"%s\" must be one word", name);
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return err_set(e, 500, "config", "no randomness: %s", strerror(errno));
    buf_puts(&token, "clst_");
    for (size_t i = 0; i < sizeof(random); i++)
        buf_printf(&token, "%02x", random[i]);
    hash_sha256_hex(token.data, token.len, digest);
    _cleanup_free_ char *line = xasprintf("%s %s %s\n", digest, role, name);
    if (append(file, line, gid) < 0)
        return err_set(e, 500, "config", "cannot write %s: %s", file, strerror(errno));
    puts(token.data);
    return 0;
}
