/* The files that tell a task about its network, made on the host: resolv.conf(5), hosts(5), hostname(5). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "isolation/steps.h"

enum { RESOLV_MAX = 1 << 20 };

const char *const network_file_names[NET_FILES] = {
    [NET_RESOLV_CONF] = "resolv.conf", [NET_HOSTS] = "hosts", [NET_HOSTNAME] = "hostname"};

bool network_file_wanted(const struct sandbox *b, enum network_file f)
{
    const struct dns_spec *d = &b->spec->network.dns;

    if (b->network && b->network->mode != NET_HOST)
        return true;
    return f == NET_RESOLV_CONF && d->servers.n + d->searches.n + d->options.n > 0;
}

/* The value of a line "keyword value", or NULL. */
static const char *value_of(const char *line, const char *keyword)
{
    size_t n = strlen(keyword);

    return strncmp(line, keyword, n) == 0 && (line[n] == ' ' || line[n] == '\t') ? line + n + strspn(line + n, " \t")
                                                                                 : NULL;
}

static bool is_loopback(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, address, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* Adds the lines of a resolv.conf that the spec does not replace; of its servers, those on the host's loopback only if
 * that is the task's too. How many servers there were. */
static size_t add_host_lines(struct buf *b, const char *text, const struct dns_spec *d, bool host_net)
{
    size_t servers = 0;

    while (*text) {
        size_t len = strcspn(text, "\n");
        _cleanup_free_ char *line = xasprintf("%.*s", (int)len, text);
        const char *server = value_of(line, "nameserver");
        bool search = value_of(line, "search") || value_of(line, "domain");

        text += len + (text[len] == '\n');
        if (server) {
            _cleanup_free_ char *address = xasprintf("%.*s", (int)strcspn(server, " \t\r"), server);

            if (d->servers.n > 0 || (is_loopback(address) && !host_net))
                continue;
            buf_printf(b, "nameserver %s\n", address);
            servers++;
        } else if ((search && d->searches.n == 0) || (value_of(line, "options") && d->options.n == 0)) {
            buf_printf(b, "%s\n", line);
        }
    }
    return servers;
}

static void add_list(struct buf *b, const char *keyword, const struct strings *list)
{
    if (list->n == 0)
        return;
    buf_puts(b, keyword);
    for (size_t i = 0; i < list->n; i++)
        buf_printf(b, " %s", list->v[i]);
    buf_puts(b, "\n");
}

/* What the spec says; for the rest, what the host has. Where the host asks a resolver on its own loopback, as with
 * systemd-resolved's stub, that one's upstream servers are taken (systemd-resolved.service(8), "/etc/resolv.conf"). */
static void resolv_conf(const struct sandbox *b, struct buf *out)
{
    static const char *const sources[] = {"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"};
    const struct dns_spec *d = &b->spec->network.dns;
    bool host_net = !b->network || b->network->mode == NET_HOST;

    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        _cleanup_free_ char *text = NULL;
        _cleanup_buf_ struct buf lines = {0};
        size_t len;

        if (file_read(AT_FDCWD, sources[i], RESOLV_MAX, &text, &len) < 0)
            continue;
        size_t servers = add_host_lines(&lines, text, d, host_net);
        if (servers == 0 && d->servers.n == 0 && i == 0 && access(sources[1], R_OK) == 0)
            continue;
        if (lines.data)
            buf_append(out, lines.data, lines.len);
        break;
    }
    for (size_t i = 0; i < d->servers.n; i++)
        buf_printf(out, "nameserver %s\n", d->servers.v[i]);
    add_list(out, "search", &d->searches);
    add_list(out, "options", &d->options);
}

/* A task without an address of its own finds itself on its loopback, as Debian does it. */
static void hosts(const struct sandbox *b, struct buf *out)
{
    const char *ip = b->network && b->network->status.ip[0] ? b->network->status.ip : "127.0.1.1", *name;
    int len = (int)sandbox_hostname(b, &name);

    buf_printf(out, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n%s %.*s\n", ip, len, name);
}

static void hostname(const struct sandbox *b, struct buf *out)
{
    const char *name;
    int len = (int)sandbox_hostname(b, &name);

    buf_printf(out, "%.*s\n", len, name);
}

int sandbox_write_network_files(const struct sandbox *b, struct err *e)
{
    static void (*const writers[NET_FILES])(const struct sandbox *, struct buf *) = {
        [NET_RESOLV_CONF] = resolv_conf, [NET_HOSTS] = hosts, [NET_HOSTNAME] = hostname};
    _cleanup_free_ char *path = xasprintf("%s/etc", b->task_dir);

    if (!network_file_wanted(b, NET_RESOLV_CONF))
        return 0;
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return err_step(e, "network_files", errno, "cannot make the directory");
    _cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return err_step(e, "network_files", errno, "cannot open the directory");
    for (int f = 0; f < NET_FILES; f++) {
        _cleanup_buf_ struct buf text = {0};

        if (!network_file_wanted(b, (enum network_file)f))
            continue;
        writers[f](b, &text);
        uint32_t owner = sandbox_host_id(b, 0);
        if (file_write_atomic(dir, network_file_names[f], text.data ? text.data : "", text.len, 0644, false) < 0 ||
            fchownat(dir, network_file_names[f], owner, owner, AT_SYMLINK_NOFOLLOW) < 0)
            return err_step(e, "network_files", errno, "cannot write %s", network_file_names[f]);
    }
    return 0;
}
