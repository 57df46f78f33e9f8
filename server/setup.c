#include "server/setup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/ids.h"
#include "base/log.h"
#include "isolation/caps.h"
#include "isolation/seccomp.h"
#include "server/setup_roots.h"

enum { FALLBACK_ID = 64646, BACKLOG = 1024, RELEASE_MS = 3000, STEP_MS = 20 };

static bool all_digits(const char *s)
{
    return *s && strspn(s, "0123456789") == strlen(s) && strlen(s) < 10;
}

static void copy_list(const struct config_list *from, struct strings *to)
{
    to->v = from->v;
    to->n = from->n;
}

static int server_account(const char *name, struct policy *p, struct err *e)
{
    const struct passwd *pw = getpwnam(name);

    if (pw) {
        p->server_uid = pw->pw_uid;
        p->server_gid = pw->pw_gid;
    } else if (all_digits(name)) {
        p->server_uid = p->server_gid = (uid_t)strtoul(name, NULL, 10);
    } else {
        p->server_uid = p->server_gid = FALLBACK_ID;
    }
    if (p->server_uid == 0)
        return err_set(e, 400, "config", "server_user must not be root");
    if (geteuid() != 0) { /* without power there is none to give up: the server is who we are */
        p->server_uid = geteuid();
        p->server_gid = getegid();
    }
    return 0;
}

bool setup_user_known(const char *name)
{
    return all_digits(name) || getpwnam(name);
}

static int allowed_caps(const struct config_list *names, uint64_t *set, struct err *e)
{
    for (size_t i = 0; i < names->n; i++) {
        uint64_t cap = caps_parse(names->v[i]);

        if (!cap)
            return err_set(e, 400, "config", "allow_caps: \"%s\" is no capability", names->v[i]);
        *set |= cap;
    }
    return 0;
}

static bool all_absolute(const char *dirs)
{
    for (const char *dir = dirs; dir; dir = strchr(dir, ':') ? strchr(dir, ':') + 1 : NULL)
        if (dir[0] != '/')
            return false;
    return true;
}

static int network_policy(const struct config *c, struct policy *p, struct err *e)
{
    for (size_t i = 0; i < c->network_modes.n; i++) {
        enum net_mode mode = net_mode_parse(c->network_modes.v[i]);

        if (mode == NET_DEFAULT)
            return err_set(e, 400, "config", "network_modes: \"%s\" is no mode", c->network_modes.v[i]);
        p->network_modes |= 1U << mode;
    }
    p->network_mode = net_mode_parse(c->default_network_mode);
    if (!(p->network_modes & 1U << p->network_mode))
        return err_set(e, 400, "config", "default_network_mode: \"%s\" is not one of network_modes",
                       c->default_network_mode);
    if (!interface_name_valid(c->bridge_name))
        return err_set(e, 400, "config", "bridge_name: \"%s\" is no name of an interface", c->bridge_name);
    if (!subnet_valid(c->bridge_subnet))
        return err_set(e, 400, "config", "bridge_subnet: \"%s\" is no address/prefix", c->bridge_subnet);
    if (!all_absolute(c->cni_path))
        return err_set(e, 400, "config", "cni_path: \"%s\" is no list of absolute paths", c->cni_path);
    p->cni_timeout_ms = c->cni_timeout * 1000;
    p->cni_path = c->cni_path;
    p->cni_config_dir = c->cni_config_dir;
    p->bridge_name = c->bridge_name;
    p->bridge_subnet = c->bridge_subnet;
    return 0;
}

/* The programs for the two usual bounding sets are made here, once: a task then costs none of the building. */
static int seccomp_profiles(const struct config *c, struct policy *p, struct err *e)
{
    p->seccomp = seccomp_policy_new(c->allow_seccomp_unconfined);
    for (size_t i = 0; i < c->seccomp_profiles.n; i++)
        if (seccomp_policy_add(p->seccomp, c->seccomp_profiles.key[i], c->seccomp_profiles.value[i], e) < 0)
            return -1;
    if (seccomp_policy_prepare(p->seccomp, caps_default() & p->allow_caps & caps_held(), e) < 0)
        return -1;
    return seccomp_policy_prepare(p->seccomp, 0, e);
}

/* Ids that the host uses itself are no task's: the first 65,536 (Debian Policy, 9.2.2) and the server's. */
static int userns_policy(const struct config *c, struct policy *p, struct err *e)
{
    p->userns_mode = strcmp(c->default_userns_mode, "private") == 0 ? NS_PRIVATE : NS_HOST;
    if (id_ranges_parse(c->userns_range, &p->userns_range) < 0)
        return err_set(e, 400, "config", "userns_range: \"%s\" is malformed", c->userns_range);
    for (size_t i = 0; i < p->userns_range.n; i++)
        if (p->userns_range.v[i].low < IDS_RANGE || p->userns_range.v[i].high > INT32_MAX)
            return err_set(e, 400, "config", "userns_range: it must be from %d to %d, the largest that devpts takes",
                           IDS_RANGE, INT32_MAX);
    if (id_ranges_have(&p->userns_range, p->server_uid) || id_ranges_have(&p->userns_range, p->server_gid))
        return err_set(e, 400, "config", "userns_range: it holds the server's own id");
    if (p->userns_range.n > 0 && id_ranges_slots(&p->userns_range) == 0)
        return err_set(e, 400, "config", "userns_range: no range holds %d ids from a multiple of that on", IDS_RANGE);
    return 0;
}

int64_t setup_memory_mib(const struct config *c)
{
    return c->memory_total_mb ? c->memory_total_mb : (sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE)) >> 20;
}

/* Bounds below what any task can ask for would refuse all of them; and so would more memory than there is, of those
 * that ask for no bound. */
static int limits_policy(const struct config *c, struct limits *max, struct err *e)
{
    *max = (struct limits){
        .cpu = c->max_cpu,
        .cores = c->max_cores,
        .memory = c->max_memory,
        .swap = c->max_swap,
        .pids = c->max_pids,
        .disk = c->max_disk,
    };
    const struct {
        const char *name;
        int64_t bound, least, most;
    } needs[] = {
        {"memory", max->memory, SPEC_MEMORY_MIN, SPEC_MEMORY_MAX},
        {"pids", max->pids, 1, SPEC_PIDS_MAX},
        {"disk", max->disk, SPEC_DISK_MIN, SPEC_MEMORY_MAX},
    };
    for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++)
        if (needs[i].bound != LIMITS_NONE && (needs[i].bound < needs[i].least || needs[i].bound > needs[i].most))
            return err_set(e, 400, "config", "client.max.%s must be -1, or from %lld to %lld: what a task may ask for",
                           needs[i].name, (long long)needs[i].least, (long long)needs[i].most);
    int64_t there_is = setup_memory_mib(c) - c->reserved_memory;
    if (max->memory > there_is)
        max->memory = there_is > SPEC_MEMORY_MIN ? there_is : SPEC_MEMORY_MIN;
    return 0;
}

int setup_policy(const struct config *c, struct policy *p, gid_t *socket_gid, struct err *e)
{
    const struct group *g = getgrnam(c->socket_group);

    memset(p, 0, sizeof(*p));
    if (server_account(c->server_user, p, e) < 0 || allowed_caps(&c->allow_caps, &p->allow_caps, e) < 0 ||
        network_policy(c, p, e) < 0)
        return -1;
    *socket_gid = geteuid() != 0 ? SETUP_NO_GROUP : g ? g->gr_gid : p->server_gid;
    p->pid_mode = strcmp(c->default_pid_mode, "host") == 0 ? NS_HOST : NS_PRIVATE;
    p->ipc_mode = strcmp(c->default_ipc_mode, "host") == 0 ? NS_HOST : NS_PRIVATE;
    p->no_pivot_root = c->no_pivot_root;
    if (limits_policy(c, &p->max, e) < 0)
        return -1;
    p->ambient_all = strcmp(c->ambient_caps, "all") == 0;
    if (id_ranges_parse(c->denied_host_uids, &p->denied_uids) < 0)
        return err_set(e, 400, "config", "denied_host_uids: \"%s\" is malformed", c->denied_host_uids);
    if (id_ranges_parse(c->denied_host_gids, &p->denied_gids) < 0)
        return err_set(e, 400, "config", "denied_host_gids: \"%s\" is malformed", c->denied_host_gids);
    if (userns_policy(c, p, e) < 0)
        return -1;
    copy_list(&c->user_denylist, &p->denied_users);
    if (setup_roots(c, p, e) < 0)
        return -1;
    p->state_dir = c->state_dir;
    p->run_dir = c->run_dir;
    p->cgroup_parent = c->cgroup_parent;
    return seccomp_profiles(c, p, e);
}

void setup_policy_free(struct policy *p)
{
    free(p->denied_uids.v);
    free(p->denied_gids.v);
    free(p->userns_range.v);
    setup_roots_free(p);
    seccomp_policy_free(p->seccomp);
    *p = (struct policy){0};
}

/* What the server of a launcher held that was killed a moment ago: it dies too (PR_SET_PDEATHSIG), but not before the
 * disk has answered what it waits for. False when that took too long. */
static bool wait_for_release(int *waited_ms)
{
    if (*waited_ms >= RELEASE_MS)
        return false;
    usleep(STEP_MS * 1000);
    *waited_ms += STEP_MS;
    return true;
}

static bool answers(const struct sockaddr_un *a)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    return fd >= 0 && (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 || errno == EAGAIN);
}

int setup_unix(const char *path, gid_t gid, struct err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    _cleanup_free_ char *dir = xstrdup(path);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (strlen(path) >= sizeof(a.sun_path))
        return err_set(e, 400, "config", "socket: \"%s\" is longer than %zu bytes", path, sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, path, strlen(path) + 1);
    *strrchr(dir, '/') = '\0';
    if (*dir && file_mkdirs(dir, 0755) < 0)
        return err_set(e, 400, "config", "socket: cannot make %s: %s", dir, strerror(errno));
    for (int waited_ms = 0; answers(&a);)
        if (!wait_for_release(&waited_ms))
            return err_set(e, 400, "config", "socket: another daemon serves %s", path);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || chown(path, geteuid(), gid) < 0 ||
        chmod(path, gid == SETUP_NO_GROUP ? 0600 : 0660) < 0 || listen(fd, BACKLOG) < 0)
        return err_set(e, 400, "config", "socket: cannot listen on %s: %s", path, strerror(errno));
    return take_fd(&fd);
}

bool setup_is_loopback(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24) == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static int parse_address(const char *text, struct sockaddr_storage *a, socklen_t *len)
{
    _cleanup_free_ char *host = xstrdup(text);
    char *colon = strrchr(host, ':');

    if (!colon || !all_digits(colon + 1) || strtoul(colon + 1, NULL, 10) > 65535)
        return -1;
    *colon = '\0';
    in_port_t port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    memset(a, 0, sizeof(*a));
    struct sockaddr_in *v4 = (struct sockaddr_in *)a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)a;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = port;
        *len = sizeof(*v4);
        return 0;
    }
    size_t n = strlen(host);
    if (n < 3 || host[0] != '[' || host[n - 1] != ']')
        return -1;
    host[n - 1] = '\0';
    memset(a, 0, sizeof(*a));
    if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) != 1)
        return -1;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = port;
    *len = sizeof(*v6);
    return 0;
}

/* len 0: none. */
static int listen_address(const char *listen_on, struct sockaddr_storage *a, socklen_t *len, struct err *e)
{
    *len = 0;
    if (strcmp(listen_on, "none") == 0)
        return 0;
    if (parse_address(listen_on, a, len) < 0)
        return err_set(e, 400, "config", "listen: \"%s\" is no address:port, such as 127.0.0.1:8646", listen_on);
    if (!setup_is_loopback(a))
        return err_set(e, 400, "config", "listen: %s is not a loopback address", listen_on);
    return 0;
}

int setup_check_listen(const char *listen_on, struct err *e)
{
    struct sockaddr_storage a;
    socklen_t len;

    return listen_address(listen_on, &a, &len, e);
}

int setup_tcp(const char *listen_on, int *out, struct err *e)
{
    struct sockaddr_storage a;
    socklen_t len;
    int one = 1;

    *out = -1;
    if (listen_address(listen_on, &a, &len, e) < 0)
        return -1;
    if (len == 0)
        return 0;
    _cleanup_close_ int fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* SO_REUSEADDR alone: bind works at once after a crash, and a second daemon still fails (socket(7)). */
    int rc = fd < 0 ? -1 : setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    for (int waited_ms = 0; rc == 0 && (rc = bind(fd, (struct sockaddr *)&a, len)) < 0 && errno == EADDRINUSE;)
        if (wait_for_release(&waited_ms))
            rc = 0;
    if (rc < 0 || listen(fd, BACKLOG) < 0)
        return err_set(e, 400, "config", "listen: cannot listen on %s: %s", listen_on, strerror(errno));
    *out = take_fd(&fd);
    return 0;
}

void setup_file_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) < 0)
        return;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) < 0)
        log_warn("cannot raise the limit of open files: %s", strerror(errno));
}
