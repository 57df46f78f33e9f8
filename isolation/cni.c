#include "isolation/cni.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/run.h"

enum { CONFLIST_MAX = 1 << 20, WORDS = 160 };

/* Whether dirs, separated by ':', have the program; its path in out. */
static bool find_in(const char *dirs, const char *name, char *out, size_t size)
{
    for (const char *dir = dirs; *dir; dir += *dir == ':') {
        size_t len = strcspn(dir, ":");
        int n = snprintf(out, size, "%.*s/%s", (int)len, dir, name);

        if (dir[0] == '/' && n > 0 && (size_t)n < size && access(out, X_OK) == 0)
            return true;
        dir += len;
    }
    return false;
}

/* The specification forbids what may not stand in a file's name. */
static bool type_valid(const char *type)
{
    if (!type || !isalnum((unsigned char)type[0]) || strlen(type) > 64)
        return false;
    for (const char *p = type; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
            return false;
    return true;
}

int cni_find(const struct policy *p, const char *type, char *out, size_t size)
{
    return type_valid(type) && find_in(p->cni_path, type, out, size) ? 0 : -1;
}

int cni_find_tool(const char *name, char *out, size_t size)
{
    return find_in(CNI_TOOL_PATH, name, out, size) ? 0 : -1;
}

int cni_write_default(const struct policy *p, struct err *e)
{
    bool v6 = strchr(p->bridge_subnet, ':');
    _cleanup_free_ char *dir = xasprintf("%s/cni", p->run_dir);
    _cleanup_free_ char *text = xasprintf(
        "{\n"
        "  \"cniVersion\": \"1.0.0\",\n"
        "  \"name\": \"%s\",\n"
        "  \"plugins\": [\n"
        "    {\"type\": \"bridge\", \"bridge\": \"%s\", \"isGateway\": true, \"ipMasq\": true, \"hairpinMode\": true,\n"
        "     \"ipam\": {\"type\": \"host-local\", \"ranges\": [[{\"subnet\": \"%s\"}]],\n"
        "              \"routes\": [{\"dst\": \"%s\"}], \"dataDir\": \"%s/leases\"}},\n"
        "    {\"type\": \"firewall\", \"backend\": \"iptables\"},\n"
        "    {\"type\": \"portmap\", \"snat\": true, \"capabilities\": {\"portMappings\": true}}\n"
        "  ]\n"
        "}\n",
        p->bridge_name, p->bridge_name, p->bridge_subnet, v6 ? "::/0" : "0.0.0.0/0", dir);

    if (file_mkdirs(dir, 0755) < 0)
        return err_step(e, "network", errno, "cannot make %s", dir);
    _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || file_write_atomic(fd, "cloister.conflist", text, strlen(text), 0644, false) < 0)
        return err_step(e, "network", errno, "cannot write %s/cloister.conflist", dir);
    return 0;
}

struct json *cni_conflist(const struct policy *p, struct err *e)
{
    _cleanup_free_ char *own = xasprintf("%s/cloister.conflist", p->cni_config_dir);
    _cleanup_free_ char *preset = xasprintf("%s/cni/cloister.conflist", p->run_dir);
    _cleanup_free_ char *text = NULL;
    const char *path = own;
    struct err inner = {0};
    size_t len;

    if (file_read(AT_FDCWD, own, CONFLIST_MAX, &text, &len) < 0) {
        if (errno == ENOENT)
            path = preset;
        if (path == own || file_read(AT_FDCWD, preset, CONFLIST_MAX, &text, &len) < 0) {
            err_step(e, "network", errno, "cannot read %.180s", path);
            return NULL;
        }
    }
    struct json *j = json_parse(text, len, &inner);
    const struct json *plugins = j && json_type(j) == JSON_OBJECT ? json_get(j, "plugins") : NULL;
    bool valid = plugins && json_type(plugins) == JSON_ARRAY && json_first(plugins) &&
                 json_string(json_get(j, "name")) && json_string(json_get(j, "cniVersion"));
    for (const struct json *m = valid ? json_first(plugins) : NULL; m; m = json_next(m))
        valid = valid && json_type(m) == JSON_OBJECT && type_valid(json_string(json_get(m, "type")));
    if (valid)
        return j;
    json_free(j);
    err_step(e, "network", EBADMSG, "%.160s is no CNI configuration list%s%.80s", path, inner.status ? ": " : "",
             inner.detail);
    return NULL;
}

int cni_each_type(const struct json *conflist, int (*fn)(void *arg, const char *type), void *arg)
{
    for (const struct json *m = json_first(json_get(conflist, "plugins")); m; m = json_next(m)) {
        const struct json *ipam = json_get(m, "ipam");
        const char *type = ipam && json_type(ipam) == JSON_OBJECT ? json_string(json_get(ipam, "type")) : NULL;
        int rc = fn(arg, json_string(json_get(m, "type")));

        if (rc == 0 && type)
            rc = fn(arg, type);
        if (rc != 0)
            return rc;
    }
    return 0;
}

struct lookup {
    const struct policy *policy;
    struct err *e;
};

static int check_type(void *arg, const char *type)
{
    struct lookup *l = arg;
    char path[PATH_MAX];

    if (cni_find(l->policy, type, path, sizeof(path)) < 0)
        return err_field(l->e, "/network/mode", "this host lacks the CNI plugin %s (looked in %.128s)", type,
                         l->policy->cni_path);
    return 0;
}

/* What the plugins named run themselves, unless they are told to use something else. */
static bool needs_iptables(const struct json *plugin)
{
    const char *type = json_string(json_get(plugin, "type"));
    const struct json *named = json_get(plugin, "backend"), *masquerades = json_get(plugin, "ipMasq");
    const char *backend = named ? json_string(named) : NULL;

    if (backend && strcmp(backend, "iptables") != 0)
        return false;
    return strcmp(type, "portmap") == 0 || strcmp(type, "firewall") == 0 ||
           (strcmp(type, "bridge") == 0 && masquerades && json_bool(masquerades) && !json_get(plugin, "ipMasqBackend"));
}

int cni_check(const struct policy *p, const struct json *conflist, struct err *e)
{
    struct lookup l = {.policy = p, .e = e};
    char path[PATH_MAX];

    if (cni_each_type(conflist, check_type, &l) != 0)
        return -1;
    for (const struct json *m = json_first(json_get(conflist, "plugins")); m; m = json_next(m))
        if (needs_iptables(m) && cni_find_tool("iptables", path, sizeof(path)) < 0)
            return err_field(e, "/network/mode", "this host lacks iptables, which the CNI plugin %s runs",
                             json_string(json_get(m, "type")));
    return 0;
}

static bool takes_ports(const struct json *plugin)
{
    const struct json *all = json_get(plugin, "capabilities");
    const struct json *ports = all && json_type(all) == JSON_OBJECT ? json_get(all, "portMappings") : NULL;

    return ports && json_bool(ports);
}

bool cni_maps_ports(const struct json *conflist)
{
    for (const struct json *m = json_first(json_get(conflist, "plugins")); m; m = json_next(m))
        if (takes_ports(m))
            return true;
    return false;
}

/* The configuration of one plugin as it goes to its standard input (section 3, "Deriving execution configuration"). */
static char *configuration(const struct cni_attachment *a, const struct json *plugin, const struct json *before)
{
    _cleanup_json_ struct json *j = json_object();

    for (const struct json *m = json_first(plugin); m; m = json_next(m)) {
        const char *key = json_key(m);

        if (strcmp(key, "name") != 0 && strcmp(key, "cniVersion") != 0 && strcmp(key, "prevResult") != 0 &&
            strcmp(key, "runtimeConfig") != 0)
            json_set(j, key, json_dup(m));
    }
    json_set(j, "name", json_dup(json_get(a->conflist, "name")));
    json_set(j, "cniVersion", json_dup(json_get(a->conflist, "cniVersion")));
    if (a->ports && takes_ports(plugin)) {
        struct json *runtime = json_object();

        json_set(runtime, "portMappings", json_dup(a->ports));
        json_set(j, "runtimeConfig", runtime);
    }
    if (before)
        json_set(j, "prevResult", json_dup(before));
    return json_print(j);
}

/* Text of a plugin's, fit for a detail: its last line without what is no plain character. */
static void plain_words(char out[WORDS], const char *text)
{
    size_t len = text ? strlen(text) : 0, n = 0;

    while (len > 0 && isspace((unsigned char)text[len - 1]))
        len--;
    size_t start = len;
    while (start > 0 && text[start - 1] != '\n')
        start--;
    for (; start < len && n + 1 < WORDS; start++)
        out[n++] = isprint((unsigned char)text[start]) ? text[start] : '?';
    out[n] = '\0';
}

/* Why a plugin failed: its error object (section 5, "Error"), else what it wrote. */
static int plugin_failed(const char *type, const char *command, const struct run_output *r, struct err *e)
{
    struct err ignored;
    char words[WORDS], how[32];
    _cleanup_json_ struct json *j = r->out.data ? json_parse(r->out.data, r->out.len, &ignored) : NULL;
    const struct json *told = j && json_type(j) == JSON_OBJECT ? json_get(j, "msg") : NULL;
    const char *msg = told ? json_string(told) : NULL;

    plain_words(words, msg ? msg : r->err.len ? r->err.data : r->out.data);
    if (WIFSIGNALED(r->status))
        snprintf(how, sizeof(how), "signal %d", WTERMSIG(r->status));
    else
        snprintf(how, sizeof(how), "status %d", WEXITSTATUS(r->status));
    return err_step(e, "network", EIO, "the CNI plugin %s failed at %s (%s)%s%s", type, command, how,
                    words[0] ? ": " : "", words);
}

/* Runs one plugin; its output in r, which the caller frees. */
static int run_plugin(const struct cni_attachment *a, const char *command, const struct json *plugin,
                      const struct json *before, struct run_output *r, struct err *e)
{
    const char *type = json_string(json_get(plugin, "type"));
    char path[PATH_MAX];

    memset(r, 0, sizeof(*r));
    if (cni_find(a->policy, type, path, sizeof(path)) < 0)
        return err_step(e, "network", ENOENT, "the CNI plugin %s is missing", type);
    _cleanup_free_ char *input = configuration(a, plugin, before);
    _cleanup_free_ char *verb = xasprintf("CNI_COMMAND=%s", command), *id = xasprintf("CNI_CONTAINERID=%s", a->id),
                        *netns = xasprintf("CNI_NETNS=%s", a->netns),
                        *dirs = xasprintf("CNI_PATH=%s", a->policy->cni_path);
    const char *const argv[] = {path, NULL};
    const char *const envp[] = {verb, id, netns, dirs, "CNI_IFNAME=" CNI_IFNAME, "PATH=" CNI_TOOL_PATH, NULL};

    if (run_program(path, argv, envp, input, a->policy->cni_timeout_ms, r) < 0)
        return err_step(e, "network", errno, "the CNI plugin %s did not end its %s", type, command);
    if (!WIFEXITED(r->status) || WEXITSTATUS(r->status) != 0)
        return plugin_failed(type, command, r, e);
    return 0;
}

int cni_add(const struct cni_attachment *a, int (*done)(void *arg, const struct json *result, bool last, struct err *e),
            void *arg, struct err *e)
{
    _cleanup_json_ struct json *result = NULL;

    for (const struct json *m = json_first(json_get(a->conflist, "plugins")); m; m = json_next(m)) {
        _cleanup_run_ struct run_output r = {0};
        struct err inner = {0};

        if (run_plugin(a, "ADD", m, result, &r, e) < 0)
            return -1;
        json_free(result);
        result = r.out.data ? json_parse(r.out.data, r.out.len, &inner) : NULL;
        if (!result || json_type(result) != JSON_OBJECT)
            return err_step(e, "network", EBADMSG, "the CNI plugin %s gave no result%s%.120s",
                            json_string(json_get(m, "type")), inner.status ? ": " : "", inner.detail);
        if (done(arg, result, !json_next(m), e) < 0)
            return -1;
    }
    return 0;
}

/* From the last to the first: this one after all that follow it. The first failure is the one that is told. */
static int del_from(const struct cni_attachment *a, const struct json *plugin, const struct json *result, struct err *e)
{
    _cleanup_run_ struct run_output r = {0};
    struct err ignored;

    if (!plugin)
        return 0;
    int rc = del_from(a, json_next(plugin), result, e);
    if (run_plugin(a, "DEL", plugin, result, &r, rc < 0 ? &ignored : e) < 0)
        rc = -1;
    return rc;
}

int cni_del(const struct cni_attachment *a, const struct json *result, struct err *e)
{
    return del_from(a, json_first(json_get(a->conflist, "plugins")), result, e);
}
