#include "server/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hcl.h"
#include "server/config_internal.h"
#include "server/cors.h"

enum { DAY_MS = 24 * 60 * 60 * 1000 };

#define AT(member) offsetof(struct config, member)
#define PLUGIN "plugin.exec.config"

static const struct option options[] = {
    {"", "state_dir", K_STRING, AT(state_dir), "/var/lib/cloister", 0, 0, NULL, "tasks, logs and the store"},
    {"", "run_dir", K_STRING, AT(run_dir), "/run/cloister", 0, 0, NULL, "sockets of supervisors; gone after a reboot"},
    {"", "socket", K_STRING, AT(socket), "", 0, 0, NULL, "unix socket of the API (default: RUN_DIR/cloister.sock)"},
    {"", "listen", K_STRING, AT(listen), "127.0.0.1:8646", 0, 0, NULL, "loopback address:port of the API, or none"},
    {"", "socket_group", K_STRING, AT(socket_group), "cloister", 0, 0, NULL, "group that may use the unix socket"},
    {"", "server_user", K_STRING, AT(server_user), "cloister", 0, 0, NULL,
     "account of the server process, or a uid; 64646 if there is no such account"},
    {"", "tokens_file", K_STRING, AT(tokens_file), "/etc/cloister/tokens", 0, 0, NULL, "hashed bearer tokens"},
    {"", "cgroup_parent", K_STRING, AT(cgroup_parent), "cloister", 0, 0, NULL, "name of our group below each root"},
    {"", "log_level", K_STRING, AT(log_level), "info", 0, 0, "error warn info debug", "least level of log lines"},
    {"", "stop_tasks_on_shutdown", K_BOOL, AT(stop_tasks_on_shutdown), "false", 0, 0, NULL,
     "SIGTERM stops all tasks too, by ascending priority; otherwise they go on without the daemon"},
    {"", "allowed_hosts", K_LIST, AT(allowed_hosts), "", 0, 0, NULL, "Host names besides those of loopback"},
    {"", "allowed_origins", K_LIST, AT(allowed_origins), "", 0, 0, NULL,
     "origins of web pages that may call and read replies (CORS): https://host:port"},
    {"", "max_body", K_INT, AT(max_body), "1048576", 1024, 16777216, NULL, "largest request body in bytes"},
    {"", "max_connections", K_INT, AT(max_connections), "1024", 1, 16384, NULL, "connections at once, per listener"},
    {"", "events_max", K_INT, AT(events_max), "100000", 100, 100000000, NULL, "how many events are kept, about"},
    {"", "events_max_bytes", K_INT, AT(events_max_bytes), "104857600", 65536, 1099511627776, NULL,
     "how many bytes of events are kept, about"},
    {"", "metrics_tasks_max", K_INT, AT(metrics_tasks_max), "100", 0, 10000, NULL, "tasks in /metrics, newest first"},
    {PLUGIN, "default_pid_mode", K_STRING, AT(default_pid_mode), "private", 0, 0, "private host", "for tasks without"},
    {PLUGIN, "default_ipc_mode", K_STRING, AT(default_ipc_mode), "private", 0, 0, "private host", "for tasks without"},
    {PLUGIN, "default_userns_mode", K_STRING, AT(default_userns_mode), "host", 0, 0, "private host",
     "for tasks without"},
    {PLUGIN, "userns_range", K_STRING, AT(userns_range), "2013265920-2080374783", 0, 0, NULL,
     "ids of the host for private user namespaces: ranges, 65536 for each task"},
    {PLUGIN, "no_pivot_root", K_BOOL, AT(no_pivot_root), "false", 0, 0, NULL, "chroot, for a root on a ramdisk"},
    {PLUGIN, "allow_caps", K_LIST, AT(allow_caps),
     "audit_write,chown,dac_override,fowner,fsetid,kill,mknod,net_bind_service,setfcap,setgid,setpcap,setuid,sys_"
     "chroot",
     0, 0, NULL, "capabilities that a task may hold"},
    {PLUGIN, "denied_host_uids", K_STRING, AT(denied_host_uids), "", 0, 0, NULL, "ids and ranges: 0,10-15"},
    {PLUGIN, "denied_host_gids", K_STRING, AT(denied_host_gids), "", 0, 0, NULL, "ids and ranges: 0,10-15"},
    {PLUGIN, "ambient_caps", K_STRING, AT(ambient_caps), "added", 0, 0, "added all", "all: as Nomad does"},
    {PLUGIN, "network_modes", K_LIST, AT(network_modes), "host,none,group,bridge", 0, 0, NULL,
     "what tasks may ask for"},
    {PLUGIN, "default_network_mode", K_STRING, AT(default_network_mode), "host", 0, 0, "host none bridge",
     "for tasks without"},
    {PLUGIN, "seccomp_profiles", K_MAP, AT(seccomp_profiles), "", 0, 0, NULL, "names and files, for a task's seccomp"},
    {PLUGIN, "allow_seccomp_unconfined", K_BOOL, AT(allow_seccomp_unconfined), "false", 0, 0, NULL,
     "tasks may ask for no filter"},
    {"client", "cni_path", K_STRING, AT(cni_path), "/usr/lib/cni:/opt/cni/bin", 0, 0, NULL,
     "directories of CNI plugins"},
    {"client", "cni_config_dir", K_STRING, AT(cni_config_dir), "/etc/cloister/cni", 0, 0, NULL,
     "where a cloister.conflist of the operator's may be"},
    {"client", "cni_timeout", K_INT, AT(cni_timeout), "10", 1, 600, NULL, "seconds for each run of a CNI plugin"},
    {"client", "bridge_name", K_STRING, AT(bridge_name), "cloister0", 0, 0, NULL, "network interface of mode bridge"},
    {"client", "bridge_subnet", K_STRING, AT(bridge_subnet), "172.27.64.0/20", 0, 0, NULL, "addresses in mode bridge"},
    {"client", "user_denylist", K_LIST, AT(user_denylist), "root", 0, 0, NULL, "accounts that no task may have"},
    {"client", "chroot_env", K_MAP, AT(chroot_env),
     "/bin=/bin,/etc=/etc,/lib=/lib,/lib32=/lib32,/lib64=/lib64,/run/resolvconf=/run/resolvconf,/sbin=/sbin,/usr=/usr",
     0, 0, NULL, "what of the host a task sees"},
    {"client", "chroot", K_BLOCKS, AT(chroot), "{}", 0, 0, NULL,
     "further roots: {\"NAME\": {\"/source\": \"/inside\"}}"},
    {"client", "host_volume", K_BLOCKS, AT(host_volume), "{}", 0, 0, NULL,
     "{\"NAME\": {\"path\": \"/srv/x\", \"read_only\": false, \"allow_bidirectional\": false}}"},
    {"client", "memory_total_mb", K_INT, AT(memory_total_mb), "0", 0, INT32_MAX, NULL, "MiB for tasks; 0: the host's"},
    {"client", "cpu_total_compute", K_INT, AT(cpu_total_compute), "0", 0, INT32_MAX, NULL, "MHz; 0: the host's"},
    {"client.reserved", "memory", K_INT, AT(reserved_memory), "0", 0, INT32_MAX, NULL, "MiB that are not for tasks"},
    {"client.reserved", "cpu", K_INT, AT(reserved_cpu), "0", 0, INT32_MAX, NULL, "MHz that are not for tasks"},
    {"client.max", "cpu", K_INT, AT(max_cpu), "-1", -1, INT32_MAX, NULL, "MHz of one task; -1: no bound"},
    {"client.max", "cores", K_INT, AT(max_cores), "-1", -1, INT32_MAX, NULL, "of one task; -1: no bound"},
    {"client.max", "memory", K_INT, AT(max_memory), "-1", -1, INT32_MAX, NULL,
     "MiB of one task, also of one that asks for no bound; -1: no bound"},
    {"client.max", "swap", K_INT, AT(max_swap), "-1", -1, INT32_MAX, NULL, "MiB of one task; -1: no bound"},
    {"client.max", "pids", K_INT, AT(max_pids), "-1", -1, INT32_MAX, NULL,
     "processes and threads of one task, also of one that asks for no bound; -1: no bound"},
    {"client.max", "disk", K_INT, AT(max_disk), "-1", -1, INT32_MAX, NULL,
     "MiB of one task, also of one that asks for no bound; -1: no bound"},
    {"client", "max_tasks", K_INT, AT(max_tasks), "0", 0, 1000000, NULL, "live tasks at once; 0: no bound"},
    {"client", "max_queued", K_INT, AT(max_queued), "1000", 0, 1000000, NULL, "tasks that wait for room; 0: no bound"},
    {"client", "gc_interval", K_DURATION, AT(gc_interval), "1m", 100, DAY_MS, NULL, "between two looks"},
    {"client", "gc_min_age", K_DURATION, AT(gc_min_age), "1m", 0, DAY_MS, NULL, "kept at least, but for a task's ttl"},
    {"client", "gc_max_age", K_DURATION, AT(gc_max_age), "0s", 0, 365LL * DAY_MS, NULL, "of ended tasks; 0: no bound"},
    {"client", "gc_max_allocs", K_INT, AT(gc_max_allocs), "10000", 0, 1000000, NULL, "ended tasks kept; 0: no bound"},
    {"client", "gc_disk_usage_threshold", K_INT, AT(gc_disk_usage_threshold), "80", 1, 100, NULL, "percent"},
    {"client", "gc_inode_usage_threshold", K_INT, AT(gc_inode_usage_threshold), "70", 1, 100, NULL, "percent"},
    {"client", "gc_parallel_destroys", K_INT, AT(gc_parallel_destroys), "2", 1, 100, NULL, "removals at once"},
};
enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

const struct option *config_options(size_t *n)
{
    *n = OPTIONS;
    return options;
}

char *option_flag(const struct option *o, char joint)
{
    const char *inner = strncmp(o->block, "client.", 7) == 0 ? o->block + 7 : NULL;
    char *name = inner ? xasprintf("%s_%s", inner, o->name) : xstrdup(o->name);

    for (char *p = name; *p; p++)
        if (*p == '_')
            *p = joint;
    return name;
}

static const struct option *find_flag(const char *flag)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        _cleanup_free_ char *name = option_flag(&options[i], '-');

        if (strcmp(name, flag) == 0)
            return &options[i];
    }
    return NULL;
}

static const struct option *find(const char *block, const char *name)
{
    for (size_t i = 0; i < OPTIONS; i++)
        if (strcmp(options[i].name, name) == 0 && strcmp(options[i].block, block) == 0)
            return &options[i];
    return NULL;
}

/* The only option of that name, when it stands in a block. */
static const struct option *elsewhere(const char *name)
{
    const struct option *found = NULL;

    for (size_t i = 0; i < OPTIONS; i++)
        if (strcmp(options[i].name, name) == 0) {
            if (found || !options[i].block[0])
                return NULL;
            found = &options[i];
        }
    return found;
}

static bool is_block(const char *path)
{
    size_t len = strlen(path);

    for (size_t i = 0; i < OPTIONS; i++)
        if (strncmp(options[i].block, path, len) == 0 && (!options[i].block[len] || options[i].block[len] == '.'))
            return true;
    return false;
}

static int set_tree(struct config *c, const char *block, const struct json *tree, struct err *e)
{
    for (const struct json *m = json_first(tree); m; m = json_next(m)) {
        const struct option *o = find(block, json_key(m));
        _cleanup_free_ char *path = xasprintf("%s%s%s", block, *block ? "." : "", json_key(m));

        if (o) {
            if (option_set_json(o, (char *)c + o->offset, m, e) < 0)
                return -1;
        } else if (json_type(m) == JSON_OBJECT && is_block(path)) {
            if (set_tree(c, path, m, e) < 0)
                return -1;
        } else {
            const struct option *there = elsewhere(json_key(m));

            return err_set(e, 400, "config", "unknown option %s%s%s", path, there ? ": it belongs into the block " : "",
                           there ? there->block : "");
        }
    }
    return 0;
}

/* The line where name first stands as a word: good enough to lead a person there. */
static int line_of(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    int line = 1;

    for (const char *p = text; at && p < at; p++)
        line += *p == '\n';
    return line;
}

static int load_file(struct config *c, const char *file, struct err *e)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    struct err inner = {0};

    if (file_read(AT_FDCWD, file, 1 << 20, &text, &len) < 0)
        return err_set(e, 400, "config", "%s: %s", file, strerror(errno));
    size_t n = strlen(file);
    bool is_json = n > 5 && strcmp(file + n - 5, ".json") == 0;
    _cleanup_json_ struct json *tree = is_json ? json_parse(text, len, &inner) : hcl_parse(file, text, len, &inner);
    if (!tree)
        return err_set(e, 400, "config", "%s%s%s%s%s", is_json ? file : "", is_json ? ": " : "", inner.pointer,
                       inner.pointer[0] ? " " : "", inner.detail);
    if (json_type(tree) != JSON_OBJECT)
        return err_set(e, 400, "config", "%s: the file must hold an object", file);
    if (set_tree(c, "", tree, &inner) == 0)
        return 0;
    /* The detail starts with "unknown option a.b.c" or "a.b.c must be" or "c: ...": its last word names the place. */
    const char *word = strncmp(inner.detail, "unknown option ", 15) == 0 ? inner.detail + 15 : inner.detail;
    _cleanup_free_ char *path = xstrdup(word);
    path[strcspn(path, " :")] = '\0';
    const char *last = strrchr(path, '.') ? strrchr(path, '.') + 1 : path;
    return err_set(e, 400, "config", "%s:%d: %s", file, line_of(text, last), inner.detail);
}

static int load_flags(struct config *c, int argc, char **argv, struct err *e)
{
    for (int i = 0; i < argc; i++) {
        const char *flag = argv[i];

        if (strncmp(flag, "--", 2) != 0)
            return err_set(e, 400, "config", "unexpected argument %s", flag);
        _cleanup_free_ char *name = xstrdup(flag + 2);
        char *value = strchr(name, '=');
        if (value)
            *value++ = '\0';
        const struct option *o = find_flag(name);
        if (!o)
            return err_set(e, 400, "config", "unknown option %s (see --help)", flag);
        if (!value && o->kind == K_BOOL)
            value = "true";
        if (!value && i + 1 >= argc)
            return err_set(e, 400, "config", "%s wants a value", flag);
        if (!value)
            value = argv[++i];
        if (option_set_text(o, (char *)c + o->offset, value, e) < 0)
            return -1;
    }
    return 0;
}

static int check(struct config *c, struct err *e)
{
    if (!c->socket[0]) {
        free(c->socket);
        c->socket = xasprintf("%s/cloister.sock", c->run_dir);
    }
    const struct {
        const char *name, *value;
    } absolute[] = {
        {"state_dir", c->state_dir},
        {"run_dir", c->run_dir},
        {"socket", c->socket},
        {"tokens_file", c->tokens_file},
        {"cni_config_dir", c->cni_config_dir},
    };
    for (size_t i = 0; i < sizeof(absolute) / sizeof(absolute[0]); i++)
        if (absolute[i].value[0] != '/' || strlen(absolute[i].value) > 180)
            return err_set(e, 400, "config", "%s: \"%s\" is no absolute path of at most 180 bytes", absolute[i].name,
                           absolute[i].value);
    if (!c->cgroup_parent[0] || strchr(c->cgroup_parent, '/') || c->cgroup_parent[0] == '.' ||
        strlen(c->cgroup_parent) > 60)
        return err_set(e, 400, "config", "cgroup_parent \"%s\" is no name", c->cgroup_parent);
    for (size_t i = 0; i < c->allowed_origins.n; i++)
        if (!cors_is_origin(c->allowed_origins.v[i]))
            return err_set(e, 400, "config", "allowed_origins: \"%s\" is no origin, such as https://host.example:8443",
                           c->allowed_origins.v[i]);
    return 0;
}

int config_load(struct config *c, const char *file, int argc, char **argv, struct err *e)
{
    static const char usual[] = "/etc/cloister/cloister.conf";

    memset(c, 0, sizeof(*c));
    for (size_t i = 0; i < OPTIONS; i++)
        if (option_set_text(&options[i], (char *)c + options[i].offset, options[i].preset, e) < 0)
            return -1;
    if (!file && access(usual, F_OK) == 0)
        file = usual;
    if (file && load_file(c, file, e) < 0)
        return -1;
    return load_flags(c, argc, argv, e) < 0 ? -1 : check(c, e);
}

void config_free(struct config *c)
{
    for (size_t i = 0; i < OPTIONS; i++)
        option_free(&options[i], (char *)c + options[i].offset);
    memset(c, 0, sizeof(*c));
}

struct json *config_json(const struct config *c)
{
    struct json *j = json_object();

    for (size_t i = 0; i < OPTIONS; i++) {
        /* of reserved { cpu, memory } the names alone would not do */
        _cleanup_free_ char *flag = option_flag(&options[i], '_');
        json_set(j, flag, option_json(&options[i], (const char *)c + options[i].offset));
    }
    return j;
}
