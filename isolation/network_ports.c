/* Host ports that lead to tasks. The portmap plugin adds a second rule for a port without a word, and the first one
 * goes on to win; so ports are reserved here first. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "isolation/network.h"

enum { DYNAMIC_LOW = 20000, DYNAMIC_COUNT = 12001 }; /* Nomad's range, 20000 to 32000 */

static const char *const protocols[] = {"tcp", "udp"};

bool network_addresses_meet(const char *a, const char *b)
{
    static const char *const any[] = {"0.0.0.0", "::"};

    for (int i = 0; i < 2; i++)
        if (!a || !b || strcmp(a, any[i]) == 0 || strcmp(b, any[i]) == 0)
            return true;
    return strcmp(a, b) == 0;
}

static int open_ports(const struct policy *p)
{
    _cleanup_free_ char *path = xasprintf("%s/netns/ports", p->run_dir);

    if (file_mkdirs(path, 0700) < 0)
        return -1;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Whether a reservation excludes the port at the address: 1, 0, or -1 with errno. */
static int reserved(int dir_fd, bool udp, int port, const char *address)
{
    char prefix[24];
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    int n = snprintf(prefix, sizeof(prefix), "%s-%d-", protocols[udp], port);

    if (!d)
        return -1;
    for (struct dirent *entry; rc == 0 && (entry = readdir(d));)
        if (strncmp(entry->d_name, prefix, (size_t)n) == 0) {
            const char *other = entry->d_name + n;

            rc = network_addresses_meet(address, strcmp(other, "any") == 0 ? NULL : other);
        }
    closedir(d);
    return rc;
}

/* Whether a process of the host has the port: its connections would go to the task instead. */
static bool in_use(bool udp, int port, const char *address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    bool six = address && inet_pton(AF_INET6, address, &v6.sin6_addr) == 1;
    int one = 1;
    _cleanup_close_ int fd = socket(six ? AF_INET6 : AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return false;
    if (!six && address)
        inet_pton(AF_INET, address, &v4.sin_addr);
    if (!udp) /* connections of before that linger are no listeners (socket(7)) */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    int rc = six ? bind(fd, (struct sockaddr *)&v6, sizeof(v6)) : bind(fd, (struct sockaddr *)&v4, sizeof(v4));
    return rc < 0 && errno == EADDRINUSE;
}

/* 1: done; 0: somebody has it; -1 with errno. */
static int take(int dir_fd, const char *key, bool udp, int port, const char *address)
{
    char name[96];
    int taken = reserved(dir_fd, udp, port, address);

    if (taken != 0 || in_use(udp, port, address))
        return taken < 0 ? -1 : 0;
    snprintf(name, sizeof(name), "%s-%d-%s", protocols[udp], port, address ? address : "any");
    return symlinkat(key, dir_fd, name) < 0 ? -1 : 1;
}

/* A free port of the dynamic range, from a random start on. */
static int take_any(int dir_fd, const char *key, bool udp, const char *address, uint16_t *port)
{
    unsigned start = 0;

    if (getrandom(&start, sizeof(start), 0) != sizeof(start))
        start = (unsigned)getpid();
    for (unsigned i = 0; i < DYNAMIC_COUNT; i++) {
        int candidate = DYNAMIC_LOW + (int)((start % DYNAMIC_COUNT + i) % DYNAMIC_COUNT);
        int rc = take(dir_fd, key, udp, candidate, address);

        *port = (uint16_t)candidate;
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int reserve(int dir_fd, const char *key, const struct port_spec *s, struct net_port *out, size_t i,
                   struct err *e)
{
    bool udp = s->protocol == NET_UDP;
    uint16_t port = (uint16_t)s->host;
    int rc = s->host ? take(dir_fd, key, udp, port, s->host_ip) : take_any(dir_fd, key, udp, s->host_ip, &port);

    *out = (struct net_port){.host = port, .task = (uint16_t)s->task, .udp = udp};
    if (rc > 0)
        return 0;
    if (rc < 0)
        return err_step(e, "network", errno, "cannot reserve the host's port %d", port);
    if (s->host)
        err_set(e, 409, "port_unavailable", "the host's %s port %d is in use", protocols[udp], port);
    else
        err_set(e, 503, "port_unavailable", "all dynamic ports are in use");
    snprintf(e->pointer, sizeof(e->pointer), "/network/ports/%zu/host", i);
    snprintf(e->step, sizeof(e->step), "network");
    return -1;
}

int ports_reserve(const struct network_spec *s, const struct policy *p, const char *key, struct net_status *status,
                  struct err *e)
{
    const struct port_spec *ports = s->ports.v;

    if (s->ports.n == 0)
        return 0;
    _cleanup_close_ int dir_fd = open_ports(p);
    if (dir_fd < 0)
        return err_step(e, "network", errno, "cannot open the list of host ports");
    ports_release(p, key); /* of an attachment that was cut short */
    for (size_t i = 0; i < s->ports.n && i < NET_PORTS_MAX; i++) {
        if (reserve(dir_fd, key, &ports[i], &status->ports[i], i, e) < 0) {
            ports_release(p, key);
            status->nports = 0;
            return -1;
        }
        status->nports = (uint8_t)(i + 1);
    }
    return 0;
}

void ports_release(const struct policy *p, const char *key)
{
    int fd = open_ports(p);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    char owner[NAME_MAX + 1];

    if (!d)
        return;
    for (struct dirent *entry; (entry = readdir(d));) {
        ssize_t n = entry->d_name[0] == '.' ? -1 : readlinkat(fd, entry->d_name, owner, sizeof(owner) - 1);

        if (n >= 0 && strlen(key) == (size_t)n && memcmp(owner, key, (size_t)n) == 0)
            unlinkat(fd, entry->d_name, 0);
    }
    closedir(d);
}

struct json *ports_mappings(const struct network_spec *s, const struct net_status *status)
{
    const struct port_spec *ports = s->ports.v;

    if (status->nports == 0)
        return NULL;
    struct json *list = json_array();
    for (size_t i = 0; i < status->nports; i++) {
        struct json *j = json_object();

        json_set_int(j, "hostPort", status->ports[i].host);
        json_set_int(j, "containerPort", status->ports[i].task);
        json_set_string(j, "protocol", protocols[status->ports[i].udp]);
        if (ports[i].host_ip)
            json_set_string(j, "hostIP", ports[i].host_ip);
        json_push(list, j);
    }
    return list;
}
