/* Mapped ports are to answer on the host's 127.0.0.1 too, so the portmap plugin lets the bridge route loopback
 * addresses (route_localnet, ip-sysctl in the kernel's Documentation/networking). Without more, a task that may forge
 * packets then reaches whatever listens on the host's loopback (CVE-2020-8558). */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/run.h"
#include "isolation/cni.h"
#include "isolation/network.h"

enum { RULE_TIMEOUT_MS = 10000 };

/* The device of the first plugin of type bridge; that plugin's default is "cni0". */
static const char *bridge_of(const struct json *conflist)
{
    for (const struct json *m = json_first(json_get(conflist, "plugins")); m; m = json_next(m)) {
        const struct json *device = json_get(m, "bridge");

        if (strcmp(json_string(json_get(m, "type")), "bridge") == 0)
            return device && json_string(device) ? json_string(device) : "cni0";
    }
    return NULL;
}

/* -C looks for the rule, -I adds it. 0, 1 when there is no such rule, or -1 with errno. */
static int rule(const char *iptables, const char *verb, const char *device, struct run_output *r)
{
    static const char *const envp[] = {"PATH=" CNI_TOOL_PATH, NULL};
    const char *const argv[] = {iptables, "-w", "-t",          "raw", verb,   "PREROUTING", "-i",
                                device,   "-d", "127.0.0.0/8", "-j",  "DROP", NULL};

    if (run_program(iptables, argv, envp, "", RULE_TIMEOUT_MS, r) < 0)
        return -1;
    return WIFEXITED(r->status) && WEXITSTATUS(r->status) == 0 ? 0 : 1;
}

int network_guard_loopback(const struct json *conflist, struct err *e)
{
    _cleanup_run_ struct run_output look = {0}, add = {0};
    const char *device = bridge_of(conflist);
    char iptables[PATH_MAX];

    if (!device)
        return 0;
    if (cni_find_tool("iptables", iptables, sizeof(iptables)) < 0) {
        log_warn("no iptables: the host's loopback is not guarded from what comes in on %s", device);
        return 0;
    }
    int rc = rule(iptables, "-C", device, &look);
    if (rc > 0)
        rc = rule(iptables, "-I", device, &add);
    if (rc == 0)
        return 0;
    return err_step(e, "network", rc < 0 ? errno : EIO, "cannot guard the host's loopback from %s", device);
}
