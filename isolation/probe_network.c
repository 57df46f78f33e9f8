/* Which networks tasks can have on this host. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/run.h"
#include "isolation/caps.h"
#include "isolation/cni.h"
#include "isolation/probe.h"

enum { VERSION_TIMEOUT_MS = 2000 };

struct probing {
    struct attributes *a;
    const struct policy *policy;
};

/* Run without CNI_COMMAND, the standard plugins tell "CNI bridge plugin v1.4.0" or "... version unknown". */
static int add_version(void *arg, const char *type)
{
    static const char *const envp[] = {NULL};
    struct probing *p = arg;
    char path[PATH_MAX], name[64], version[32] = "unknown";
    _cleanup_run_ struct run_output r = {0};

    snprintf(name, sizeof(name), "plugins.cni.version.%.40s", type);
    if (attribute_get(p->a, name) || cni_find(p->policy, type, path, sizeof(path)) < 0)
        return 0;
    const char *const argv[] = {path, NULL};
    if (run_program(path, argv, envp, "", VERSION_TIMEOUT_MS, &r) == 0) {
        const char *told = r.err.data ? strstr(r.err.data, " plugin v") : NULL;

        if (!told || sscanf(told, " plugin v%31[0-9A-Za-z.+~-]", version) != 1 || strcmp(version, "ersion") == 0)
            snprintf(version, sizeof(version), "unknown");
    }
    attribute_add(p->a, name, version);
    return 0;
}

void probe_network(struct attributes *a, const struct policy *p)
{
    struct probing probing = {.a = a, .policy = p};
    struct err e = {0};
    bool spaces = access("/proc/self/ns/net", F_OK) == 0 && caps_held() & caps_parse("net_admin");
    _cleanup_json_ struct json *conflist = NULL;
    bool possible[NET_MODES] = {[NET_HOST] = true, [NET_NONE] = spaces, [NET_GROUP] = spaces};

    if (spaces && p->network_modes & 1U << NET_BRIDGE) {
        conflist = cni_conflist(p, &e);
        possible[NET_BRIDGE] = conflist && cni_check(p, conflist, &e) == 0;
    }
    if (e.status)
        log_info("no network mode bridge: %s", e.detail);
    for (int m = NET_HOST; m < NET_MODES; m++) {
        char name[64];

        snprintf(name, sizeof(name), "driver.network.%s", net_mode_name((enum net_mode)m));
        if (possible[m] && p->network_modes & 1U << m)
            attribute_add(a, name, "1");
    }
    if (conflist)
        cni_each_type(conflist, add_version, &probing);
}
