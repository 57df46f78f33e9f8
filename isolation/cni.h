/* The Container Network Interface, version 1.0 of its specification, as a runtime: the plugins of one network
 * configuration ("conflist") are run in order, each with the result of the one before it. */
#ifndef CLOISTER_ISOLATION_CNI_H
#define CLOISTER_ISOLATION_CNI_H

#include "base/json.h"
#include "isolation/policy.h"

#define CNI_IFNAME "eth0" /* of the interface in the task's namespace */

#define CNI_TOOL_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" /* PATH of plugins */

/* What is attached: the arguments of the specification, section 2. */
struct cni_attachment {
    const struct policy *policy;
    const struct json *conflist;
    const char *id;           /* CNI_CONTAINERID */
    const char *netns;        /* CNI_NETNS; "" when it is gone */
    const struct json *ports; /* portMappings, or NULL */
};

/* Writes the default configuration to <run_dir>/cni/cloister.conflist. Step "network". */
int cni_write_default(const struct policy *p, struct err *e);
/* The configuration that is in force: the operator's <cni_config_dir>/cloister.conflist, else the default. NULL with
 * step "network". */
struct json *cni_conflist(const struct policy *p, struct err *e);
/* 422 /network/mode with the name of the first plugin, or program of a plugin, that this host lacks. */
int cni_check(const struct policy *p, const struct json *conflist, struct err *e);
/* Whether a plugin of it takes port mappings. */
bool cni_maps_ports(const struct json *conflist);
/* Runs ADD. After each plugin done is called with its result, which stays ours, and whether it is the last one; it may
 * fail with e. A plugin that fails, gives no result or takes longer than the policy's time: step "network" with its
 * name and its words; the caller must run cni_del then too. */
int cni_add(const struct cni_attachment *a, int (*done)(void *arg, const struct json *result, bool last, struct err *e),
            void *arg, struct err *e);
/* Runs DEL in reverse order, all of them also when one fails. result: the last one that ADD came to, or NULL; by it
 * some plugins know what they have to undo. */
int cni_del(const struct cni_attachment *a, const struct json *result, struct err *e);
/* fn for the type of each plugin, those for addresses (IPAM) too. Stops at the first that is not 0, and returns it. */
int cni_each_type(const struct json *conflist, int (*fn)(void *arg, const char *type), void *arg);
/* Path of the plugin; -1 when it is in no directory of cni_path. */
int cni_find(const struct policy *p, const char *type, char *out, size_t size);
/* The same for a program that plugins run, in CNI_TOOL_PATH. */
int cni_find_tool(const char *name, char *out, size_t size);

#endif
