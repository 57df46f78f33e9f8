/* What this host can do: the fingerprint behind GET /v1/attributes. */
#ifndef CLOISTER_ISOLATION_PROBE_H
#define CLOISTER_ISOLATION_PROBE_H

#include "isolation/cgroup.h"
#include "isolation/policy.h"

struct attribute {
    char name[64];   /* "driver.exec", "kernel.version" */
    char value[640]; /* text; "1" for true */
};

struct attributes {
    struct attribute v[96];
    size_t n;
    bool driver_exec; /* whether driver.exec is there */
    char reason[256]; /* why it is not; else "Healthy", and what tasks cannot have here */
};

/* Run by the launcher as root before it forks the server. Names follow Nomad's: driver.exec ("1" or absent),
 * os.name, os.version, os.cgroups.version, kernel.name, kernel.version, kernel.arch, cpu.arch, cpu.numcores,
 * cpu.modelname, cpu.frequency, cpu.totalcompute, cpu.usablecompute, cpu.reservablecores, memory.totalbytes,
 * unique.hostname, cgroup.mode, cgroup.<controller> = "1"|"2" (devices: "1"|"bpf"), cgroup.missing (comma list; absent
 * when none is), cgroup.kill, cgroup.psi, feature.pivot_root, feature.overlay,
 * feature.namespace.{mnt,pid,ipc,uts,net,user,cgroup,time}, feature.seccomp, feature.landlock, feature.idmapped_mounts,
 * feature.pidfd, feature.clone3, caps.held (comma list), cloister.version. */
void probe_host(struct attributes *a, const struct cgroup_host *h, const struct policy *p);
/* Adds the networks: driver.network.<mode> = "1" for each mode that tasks can have here, and, for each CNI plugin of
 * the bridge's configuration, plugins.cni.version.<plugin> as it tells it ("unknown" when it was built without). */
void probe_network(struct attributes *a, const struct policy *p);
/* feature.userns: "1" where tasks with the default chroot can have userns_mode private, else "0". It is tried. */
void probe_userns(struct attributes *a, const struct policy *p);
/* Adds one; what is beyond the array is dropped. */
void attribute_add(struct attributes *a, const char *name, const char *value);
/* NULL when absent. */
const char *attribute_get(const struct attributes *a, const char *name);

#endif
