/* A task as JSON. */
#include "api/api.h"
#include "isolation/disk.h"

static void set_known(struct json *j, const char *key, int64_t v)
{
    json_set(j, key, v < 0 ? json_new_null() : json_new_int(v));
}

static struct json *usage_view(const struct cgroup_usage *u)
{
    struct json *j = json_object();

    set_known(j, "cpu_ns", u->cpu_ns);
    set_known(j, "cpu_user_ns", u->cpu_user_ns);
    set_known(j, "cpu_system_ns", u->cpu_system_ns);
    set_known(j, "cpu_throttled_ns", u->throttled_ns);
    set_known(j, "memory_peak_bytes", u->memory_peak_bytes);
    set_known(j, "pids_peak", u->pids_peak);
    set_known(j, "io_read_bytes", u->io_read_bytes);
    set_known(j, "io_write_bytes", u->io_write_bytes);
    set_known(j, "oom_kills", u->oom_kills);
    return j;
}

static struct json *exit_view(const struct task *t)
{
    struct json *j = task_exit_json(t);

    if (t->state != TASK_LOST)
        json_set(j, "usage", usage_view(&t->status.exit.usage));
    return j;
}

static struct json *root_view(const struct task *t)
{
    struct json *j = json_object();

    json_set_string(j, "mode", "copy");
    json_set_int(j, "files", t->status.root_files);
    json_set_int(j, "bytes", t->status.root_bytes);
    return j;
}

static struct json *network_view(const struct net_status *n)
{
    struct json *j = json_object();

    json_set_string(j, "mode", net_mode_name((enum net_mode)n->mode));
    if (n->mode != NET_BRIDGE)
        return j;
    struct json *ports = json_array();
    json_set_string(j, "interface", n->interface);
    json_set_string(j, "ip", n->ip[0] ? n->ip : NULL);
    json_set_string(j, "gateway", n->gateway[0] ? n->gateway : NULL);
    for (size_t i = 0; i < n->nports && i < NET_PORTS_MAX; i++) {
        struct json *port = json_object();

        json_set_int(port, "host", n->ports[i].host);
        json_set_int(port, "task", n->ports[i].task);
        json_set_string(port, "protocol", n->ports[i].udp ? "udp" : "tcp");
        json_push(ports, port);
    }
    json_set(j, "ports", ports);
    return j;
}

struct json *task_view(const struct task *t)
{
    struct json *j = json_object();
    bool runs = t->state == TASK_RUNNING || t->state == TASK_STOPPING || t->state == TASK_PAUSED;

    json_set_string(j, "id", t->id);
    json_set_string(j, "name", t->spec.name);
    json_set_string(j, "state", task_state_name(t->state));
    json_set_int(j, "version", t->version);
    json_set_time(j, "created_at", t->created_at);
    json_set_time(j, "started_at", t->status.started_at);
    json_set(j, "pid", runs ? json_new_int(t->status.pid) : json_new_null());
    if (t->state == TASK_EXITED || t->state == TASK_LOST)
        json_set(j, "exit", exit_view(t));
    else if (t->status.exit.finished_at > 0)
        json_set(j, "last_exit", exit_view(t));
    json_set_int(j, "restarts", t->status.restarts);
    if (disk_mode_name((enum disk_mode)t->status.disk_mode)) {
        struct json *disk = json_object();

        json_set_int(disk, "limit", t->spec.resources.disk);
        json_set_string(disk, "mode", disk_mode_name((enum disk_mode)t->status.disk_mode));
        json_set(j, "disk", disk);
    }
    json_set_int(j, "log_bytes_lost", (int64_t)t->status.log_lost);
    if (t->state == TASK_RESTARTING)
        json_set_time(j, "next_start_at", t->status.next_start_at);
    if (t->status.waits_for[0])
        json_set_string(j, "waits_for", t->status.waits_for);
    if (t->state == TASK_FAILED)
        json_set(j, "error", problem_json(&t->status.err));
    if (t->spec.root == ROOT_COPY)
        json_set(j, "root", root_view(t));
    if (t->status.network.mode)
        json_set(j, "network", network_view(&t->status.network));
    json_set(j, "spec", spec_encode(&t->spec));
    return j;
}
