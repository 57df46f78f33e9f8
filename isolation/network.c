#include "isolation/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "isolation/cni.h"
#include "isolation/netns.h"

enum { STATE_MAX = 4 << 20 };

static const char STATE[] = "cni.json";

void network_init(struct network *n)
{
    memset(n, 0, sizeof(*n));
    n->member_fd = -1;
}

int network_prepare_host(const struct policy *p, struct err *e)
{
    return cni_write_default(p, e);
}

static enum net_mode mode_of(const struct network_spec *s, const struct policy *p)
{
    return s->mode != NET_DEFAULT ? s->mode : p->network_mode;
}

int network_check(const struct network_spec *s, const struct policy *p, struct err *e)
{
    enum net_mode mode = mode_of(s, p);

    if (p->network_modes & 1U << mode)
        return 0;
    err_set(e, 403, "network_mode_denied", "the operator does not allow network mode %s", net_mode_name(mode));
    snprintf(e->pointer, sizeof(e->pointer), "/network/mode");
    return -1;
}

int network_plan(struct network *n, const struct network_spec *s, const struct policy *p, struct err *e)
{
    n->mode = mode_of(s, p);
    n->status.mode = (uint8_t)n->mode;
    if (network_check(s, p, e) < 0)
        return -1;
    if (n->mode != NET_BRIDGE)
        return 0;
    _cleanup_json_ struct json *conflist = cni_conflist(p, e);
    if (!conflist || cni_check(p, conflist, e) < 0)
        return -1;
    if (s->ports.n > 0 && !cni_maps_ports(conflist))
        return err_field(e, "/network/ports", "the CNI configuration has no plugin that maps ports");
    return 0;
}

/* The name of the namespace's directory: of the group, or of the task alone. */
static void key_of(const struct network_spec *s, const char *id, char out[NETNS_KEY])
{
    snprintf(out, NETNS_KEY, "%s-%s", s->group ? "group" : "task", s->group ? s->group : id);
}

/* Plugins are run by one task at a time: iptables and bridges know no transactions. fd of the lock, or -1. */
static int lock_bridge(const struct policy *p)
{
    _cleanup_free_ char *path = xasprintf("%s/netns/lock", p->run_dir);
    _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return -1;
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return -1;
    return take_fd(&fd);
}

/* cni.json: {"id", "conflist", "ports"?, "result"?, "attached"?}. result is that of the last plugin that has run;
 * without "attached" it was not the last of all: the attachment was begun and not finished. */
static struct json *read_state(const struct netns *ns)
{
    _cleanup_free_ char *text = NULL;
    struct err ignored;
    size_t len;

    if (file_read(ns->dir_fd, STATE, STATE_MAX, &text, &len) < 0)
        return NULL;
    return json_parse(text, len, &ignored);
}

static int write_state(const struct netns *ns, const struct json *state, struct err *e)
{
    _cleanup_free_ char *text = json_print(state);

    if (file_write_atomic(ns->dir_fd, STATE, text, strlen(text), 0600, false) < 0)
        return err_step(e, "network", errno, "cannot write %s of %s", STATE, ns->key);
    return 0;
}

static struct cni_attachment attachment(const struct netns *ns, const struct json *state)
{
    return (struct cni_attachment){
        .policy = ns->policy,
        .conflist = json_get(state, "conflist"),
        .id = json_string(json_get(state, "id")),
        .netns = netns_pinned(ns) ? ns->pin : "",
        .ports = json_get(state, "ports"),
    };
}

/* Undoes the attachment, if there is one. 0, or -1 with e: then the state stays, and it is tried again later. */
static int detach(struct netns *ns, struct err *e)
{
    _cleanup_json_ struct json *state = read_state(ns);
    int rc = 0;

    if (!state) {
        ports_release(ns->policy, ns->key); /* of one that was cut short before it was noted */
        return 0;
    }
    _cleanup_close_ int lock = lock_bridge(ns->policy);
    struct cni_attachment a = attachment(ns, state);
    if (lock < 0)
        return err_step(e, "network", errno, "cannot lock the bridge");
    if (a.conflist && a.id)
        rc = cni_del(&a, json_get(state, "result"), e);
    ports_release(ns->policy, ns->key);
    if (rc == 0)
        unlinkat(ns->dir_fd, STATE, 0);
    return rc;
}

/* Nobody is in it: it goes. */
static void destroy(struct netns *ns)
{
    struct err e = {0};
    bool detached = detach(ns, &e) == 0;

    if (!detached)
        log_error("network %s: %s; it is tried again at the next start", ns->key, e.detail);
    if (netns_remove(ns, detached) < 0)
        log_error("network %s: cannot remove its namespace: %s", ns->key, strerror(errno));
}

static void copy_address(char out[NET_ADDRESS], const struct json *text)
{
    unsigned char bytes[16];
    const char *s = text ? json_string(text) : NULL;

    snprintf(out, NET_ADDRESS, "%.*s", s ? (int)strcspn(s, "/") : 0, s ? s : "");
    if (inet_pton(AF_INET, out, bytes) == 1)
        inet_ntop(AF_INET, bytes, out, NET_ADDRESS);
    else if (inet_pton(AF_INET6, out, bytes) == 1)
        inet_ntop(AF_INET6, bytes, out, NET_ADDRESS);
    else
        out[0] = '\0';
}

/* From the result of ADD (CNI's specification, section 5): the first address. */
static void read_result(const struct json *result, struct net_status *status)
{
    const struct json *ips = json_get(result, "ips");
    const struct json *ip = ips && json_type(ips) == JSON_ARRAY ? json_first(ips) : NULL;

    snprintf(status->interface, sizeof(status->interface), "%s", CNI_IFNAME);
    if (ip && json_type(ip) == JSON_OBJECT) {
        copy_address(status->ip, json_get(ip, "address"));
        copy_address(status->gateway, json_get(ip, "gateway"));
    }
}

/* Whether the group is on the bridge already: then its address is that of this task too. */
static int adopt(const struct json *result, struct network *n, const struct network_spec *s, struct err *e)
{
    if (s->ports.n > 0) {
        err_set(e, 409, "group_attached", "the group is on the bridge already; its first task maps the ports");
        snprintf(e->pointer, sizeof(e->pointer), "/network/ports");
        snprintf(e->step, sizeof(e->step), "network");
        return -1;
    }
    read_result(result, &n->status);
    return 0;
}

struct attaching {
    const struct netns *ns;
    const struct json *begun; /* the state before the first plugin */
    struct net_status *status;
};

static int on_result(void *arg, const struct json *result, bool last, struct err *e)
{
    struct attaching *a = arg;
    _cleanup_json_ struct json *state = json_dup(a->begun);

    json_set(state, "result", json_dup(result));
    if (last) {
        json_set_bool(state, "attached", true);
        read_result(result, a->status);
    }
    return write_state(a->ns, state, e);
}

static int attach(struct netns *ns, struct network *n, const struct network_spec *s, const char *id, struct err *e)
{
    _cleanup_json_ struct json *state = json_object();
    _cleanup_close_ int lock = lock_bridge(ns->policy);

    if (lock < 0)
        return err_step(e, "network", errno, "cannot lock the bridge");
    if (ports_reserve(s, ns->policy, ns->key, &n->status, e) < 0)
        return -1;
    struct json *conflist = cni_conflist(ns->policy, e), *ports = ports_mappings(s, &n->status);
    json_set_string(state, "id", id);
    if (ports)
        json_set(state, "ports", ports);
    if (conflist)
        json_set(state, "conflist", conflist);
    /* What is begun is on disk before it begins: whoever finds it can undo it. */
    if (!conflist || (ports && network_guard_loopback(conflist, e) < 0) || write_state(ns, state, e) < 0) {
        ports_release(ns->policy, ns->key);
        return -1;
    }
    struct attaching progress = {.ns = ns, .begun = state, .status = &n->status};
    struct cni_attachment a = attachment(ns, state);
    return cni_add(&a, on_result, &progress, e);
}

/* Attaches the namespace unless it is. alone: nobody else is in it, so that it goes with a failure. */
static int join_bridge(struct netns *ns, struct network *n, const struct network_spec *s, const char *id, bool alone,
                       struct err *e)
{
    _cleanup_json_ struct json *state = read_state(ns);
    struct err later = {0};

    if (state && json_get(state, "attached"))
        return adopt(json_get(state, "result"), n, s, e);
    if (state && detach(ns, e) < 0) /* somebody's that failed */
        return -1;
    if (attach(ns, n, s, id, e) == 0)
        return 0;
    if (!alone && detach(ns, &later) < 0)
        log_error("network %s: %s", ns->key, later.detail);
    return -1;
}

static int namespace_inode(const char *path, ino_t *inode, struct err *e)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return err_step(e, "network", errno, "cannot examine %.200s", path);
    *inode = st.st_ino;
    return 0;
}

/* In the locked directory: the namespace, membership, the bridge. */
static int enter(struct netns *ns, struct network *n, const struct network_spec *s, const char *id, struct err *e)
{
    /* A member first: what is made, or begun to be undone, has somebody by whom it is found. */
    n->member_fd = netns_join(ns, id);
    int members = n->member_fd < 0 ? -1 : netns_sweep(ns, id);

    if (members < 0)
        return err_step(e, "network", errno, "cannot become a member of %s", ns->key);
    /* What the dead have left is no start for the living. */
    if (members == 0 && (detach(ns, e) < 0 || (netns_remove(ns, false) < 0 &&
                                               err_step(e, "network", errno, "cannot remove an old namespace") < 0)))
        return -1;
    if (netns_make(ns) < 0)
        return err_step(e, "network", errno, "cannot make the network namespace");
    snprintf(n->pin, sizeof(n->pin), "%s", ns->pin);
    if (namespace_inode(ns->pin, &n->inode, e) < 0)
        return -1;
    return n->mode == NET_BRIDGE ? join_bridge(ns, n, s, id, members == 0, e) : 0;
}

/* The task leaves, and whoever is last takes the namespace away. */
static void leave(struct netns *ns, struct network *n, const char *id)
{
    int left = netns_sweep(ns, id);

    if (n && n->member_fd >= 0) {
        close(n->member_fd);
        n->member_fd = -1;
    }
    if (left == 0)
        destroy(ns);
    else if (left < 0 || (id && netns_leave(ns, id) < 0))
        log_error("network %s: cannot leave it: %s", ns->key, strerror(errno));
}

int network_setup(struct network *n, const struct network_spec *s, const struct policy *p, const char *id,
                  struct err *e)
{
    _cleanup_netns_ struct netns ns = {.dir_fd = -1};
    char key[NETNS_KEY];

    if (namespace_inode("/proc/self/ns/net", &n->host_inode, e) < 0)
        return -1;
    if (n->mode == NET_HOST || n->mode == NET_NONE || n->member_fd >= 0)
        return 0;
    key_of(s, id, key);
    if (netns_open(&ns, p, key, true) < 0)
        return err_step(e, "network", errno, "cannot open the directory of %s", key);
    if (enter(&ns, n, s, id, e) == 0)
        return 0;
    leave(&ns, n, id);
    n->status = (struct net_status){.mode = (uint8_t)n->mode};
    return -1;
}

void network_teardown(struct network *n, const struct network_spec *s, const struct policy *p, const char *id)
{
    _cleanup_netns_ struct netns ns = {.dir_fd = -1};
    char key[NETNS_KEY];

    if (n->member_fd < 0)
        return;
    key_of(s, id, key);
    if (netns_open(&ns, p, key, false) == 0)
        leave(&ns, n, id);
    else
        log_error("network %s: cannot open its directory: %s", key, strerror(errno));
}

struct search {
    const struct policy *policy;
    const char *id; /* NULL: all that nobody is in */
    bool probe_only, found;
};

static int clear_one(void *arg, const char *key)
{
    struct search *s = arg;
    _cleanup_netns_ struct netns ns = {.dir_fd = -1};
    _cleanup_free_ char *members = xasprintf("%s/netns/spaces/%s/members", s->policy->run_dir, key);
    _cleanup_free_ char *member = xasprintf("%s/%s", members, s->id ? s->id : "");

    /* Where there is no list of members yet, whoever was to be the first may have been cut short. */
    if (s->id && access(member, F_OK) < 0 && access(members, F_OK) == 0)
        return 0;
    s->found = true;
    if (!s->probe_only && netns_open(&ns, s->policy, key, false) == 0)
        leave(&ns, NULL, s->id);
    return 0;
}

void network_clear(const struct policy *p, const char *id)
{
    netns_each(p, clear_one, &(struct search){.policy = p, .id = id});
}

bool network_clear_stale(const struct policy *p, bool probe_only)
{
    struct search s = {.policy = p, .probe_only = probe_only};

    netns_each(p, clear_one, &s);
    return s.found;
}
