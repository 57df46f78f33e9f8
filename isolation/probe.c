/* The fingerprint of the host. Features are asked of the kernel by calls that have no effect. */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "isolation/caps.h"
#include "isolation/probe.h"
#include "isolation/seccomp.h"

#ifndef CLOISTER_VERSION
#define CLOISTER_VERSION "0"
#endif

enum { TEXT_MAX = 1 << 20 };

__attribute__((format(printf, 3, 4))) static void add(struct attributes *a, const char *name, const char *fmt, ...)
{
    va_list args;

    if (a->n == sizeof(a->v) / sizeof(a->v[0]))
        return;
    struct attribute *at = &a->v[a->n++];
    snprintf(at->name, sizeof(at->name), "%s", name);
    va_start(args, fmt);
    vsnprintf(at->value, sizeof(at->value), fmt, args);
    va_end(args);
}

/* The value of the first line "key<separators>value" without quotes; "" when there is none. */
static void line_value(const char *text, const char *key, const char *separators, char *out, size_t size)
{
    size_t len = strlen(key);

    out[0] = '\0';
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, key, len) != 0 || !line[len] || !strchr(separators, line[len]))
            continue;
        const char *value = line + len + strspn(line + len, separators);
        snprintf(out, size, "%.*s", (int)strcspn(value, "\"\n"), value);
        return;
    }
}

static void add_system(struct attributes *a)
{
    _cleanup_free_ char *release = NULL;
    char value[128];
    struct utsname u;
    size_t len;

    if (file_read(AT_FDCWD, "/etc/os-release", TEXT_MAX, &release, &len) == 0) {
        line_value(release, "ID", "=\"", value, sizeof(value));
        add(a, "os.name", "%s", value);
        line_value(release, "VERSION_ID", "=\"", value, sizeof(value));
        add(a, "os.version", "%s", value);
    }
    if (uname(&u) < 0)
        return;
    add(a, "kernel.name", "linux");
    add(a, "kernel.version", "%s", u.release);
    add(a, "kernel.arch", "%s", u.machine);
    /* As Go names it, for constraints written for Nomad. */
    add(a, "cpu.arch", "%s",
        strcmp(u.machine, "x86_64") == 0    ? "amd64"
        : strcmp(u.machine, "aarch64") == 0 ? "arm64"
                                            : u.machine);
    add(a, "unique.hostname", "%s", u.nodename);
}

static void add_hardware(struct attributes *a, const struct cgroup_host *h)
{
    _cleanup_free_ char *info = NULL;
    char model[128];
    size_t len;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (file_read(AT_FDCWD, "/proc/cpuinfo", TEXT_MAX * 8, &info, &len) < 0)
        info = xstrdup("");
    line_value(info, "model name", "\t :", model, sizeof(model));
    add(a, "cpu.numcores", "%ld", cores);
    if (model[0])
        add(a, "cpu.modelname", "%s", model);
    add(a, "cpu.frequency", "%lld", (long long)h->core_mhz);
    add(a, "cpu.totalcompute", "%lld", (long long)h->total_mhz);
    add(a, "cpu.usablecompute", "%lld", (long long)h->total_mhz);
    add(a, "cpu.reservablecores", "%ld", h->ctl[CG_CPUSET].version ? cores - 1 : 0); /* one stays shared */
    add(a, "memory.totalbytes", "%lld", (long long)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
}

static void add_cgroups(struct attributes *a, const struct cgroup_host *h)
{
    char name[64], path[256], missing[CGROUP_MISSING_TEXT];

    add(a, "cgroup.mode", "%s", h->mode);
    if (strcmp(h->mode, "none") != 0)
        add(a, "os.cgroups.version", "%d", strcmp(h->mode, "v2") == 0 ? 2 : 1);
    for (int i = 0; i < CG_COUNT; i++)
        if (h->ctl[i].version) {
            snprintf(name, sizeof(name), "cgroup.%s", cgroup_controller_name((enum cgroup_controller)i));
            add(a, name, "%d", h->ctl[i].version);
        }
    cgroup_missing(h, missing);
    if (missing[0])
        add(a, "cgroup.missing", "%s", missing);
    if (h->devices == DEVICES_BPF)
        add(a, "cgroup.devices", "bpf");
    snprintf(path, sizeof(path), "%s/%s/cgroup.kill", h->v2_mount, h->parent);
    add(a, "cgroup.kill", "%d", h->v2_mount[0] && access(path, F_OK) == 0);
    snprintf(path, sizeof(path), "%s/%s/cpu.pressure", h->v2_mount, h->parent);
    add(a, "cgroup.psi", "%d", h->v2_mount[0] && access(path, F_OK) == 0);
}

/* fsopen(2) also loads the module; what it returns is a context without a mount. */
static bool has_overlay(void)
{
    _cleanup_close_ int fd = (int)syscall(SYS_fsopen, "overlay", 1 /* FSOPEN_CLOEXEC */);
    _cleanup_free_ char *known = NULL;
    size_t len;

    if (fd >= 0)
        return true;
    return file_read(AT_FDCWD, "/proc/filesystems", TEXT_MAX, &known, &len) == 0 && strstr(known, "\toverlay\n");
}

/* The kernel's first root, the initramfs, cannot be left by pivot_root(2) (EINVAL). It is seen in proc_pid_mountinfo(5)
 * only while nothing is mounted over it. */
static bool has_pivot_root(void)
{
    _cleanup_free_ char *mounts = NULL;
    size_t len;
    bool rootfs = false;

    if (file_read(AT_FDCWD, "/proc/self/mountinfo", TEXT_MAX * 8, &mounts, &len) < 0)
        return true;
    for (char *line = mounts, *end; line && *line; line = end ? end + 1 : NULL) {
        char point[8] = "";

        end = strchr(line, '\n');
        if (end)
            *end = '\0';
        if (sscanf(line, "%*d %*d %*s %*s %7s", point) == 1 && strcmp(point, "/") == 0) /* the last one counts */
            rootfs = strstr(line, " - rootfs ") != NULL;
    }
    return !rootfs;
}

static bool has_namespace(const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
    return access(path, F_OK) == 0;
}

static bool has_pidfd(void)
{
    _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    return fd >= 0;
}

static void add_features(struct attributes *a, bool overlay, bool pivot)
{
    static const char *const namespaces[] = {"mnt", "pid", "ipc", "uts", "net", "user", "cgroup", "time"};
    char name[64];

    add(a, "feature.overlay", "%d", overlay);
    add(a, "feature.pivot_root", "%d", pivot);
    for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++) {
        snprintf(name, sizeof(name), "feature.namespace.%s", namespaces[i]);
        add(a, name, "%d", has_namespace(namespaces[i]));
    }
    add(a, "feature.seccomp", "%d", seccomp_available());
    add(a, "feature.landlock", "%d",
        syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0);
    /* Bad arguments: any error but "no such call" means that there is the call. */
    add(a, "feature.idmapped_mounts", "%d", syscall(SYS_mount_setattr, -1, "", 0, NULL, 0) < 0 && errno != ENOSYS);
    add(a, "feature.pidfd", "%d", has_pidfd());
    add(a, "feature.clone3", "%d", syscall(SYS_clone3, NULL, 0) < 0 && errno != ENOSYS);
}

static void add_caps(struct attributes *a)
{
    struct strings names;
    char list[sizeof(a->v[0].value)] = "";
    size_t len = 0;

    caps_names(caps_held(), &names);
    for (size_t i = 0; i < names.n; i++) {
        if (len < sizeof(list))
            len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? "," : "", names.v[i]);
        free(names.v[i]);
    }
    free(names.v);
    add(a, "caps.held", "%s", list);
}

/* NULL when tasks can be isolated here, else the first thing that is missing. */
static const char *missing(const struct policy *p, bool overlay, bool pivot, char *text, size_t size)
{
    static const char *const caps[] = {"sys_admin", "sys_chroot", "setuid",       "setgid", "setpcap",
                                       "chown",     "fowner",     "dac_override", "kill"};
    static const char *const namespaces[] = {"mnt", "uts", "pid", "ipc"};
    uint64_t held = caps_held();

    if (geteuid() != 0)
        return "cloisterd must run as root";
    for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++)
        if (!(held & caps_parse(caps[i]))) {
            snprintf(text, size, "lacks the capability %s", caps[i]);
            return text;
        }
    for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++)
        if (!has_namespace(namespaces[i])) {
            snprintf(text, size, "the kernel lacks %s namespaces", namespaces[i]);
            return text;
        }
    if (!overlay)
        return "the kernel lacks overlayfs";
    return pivot || p->no_pivot_root ? NULL : "the root is a ramdisk: no_pivot_root must be set";
}

/* What tasks run without where they do run. */
static void describe_health(const struct cgroup_host *h, char *out, size_t size)
{
    char lacks[CGROUP_MISSING_TEXT];
    size_t len = (size_t)snprintf(out, size, "Healthy");

    cgroup_missing(h, lacks);
    if (lacks[0])
        len += (size_t)snprintf(out + len, size - len, ", but limits are refused that need the controllers %s", lacks);
    if (h->devices == DEVICES_FREE)
        snprintf(out + len, size - len, ", but access to devices is not limited: %s", h->devices_why);
}

void probe_host(struct attributes *a, const struct cgroup_host *h, const struct policy *p)
{
    bool overlay = has_overlay(), pivot = has_pivot_root();
    char text[96];

    memset(a, 0, sizeof(*a));
    const char *why = missing(p, overlay, pivot, text, sizeof(text));
    a->driver_exec = !why;
    if (why)
        snprintf(a->reason, sizeof(a->reason), "%s", why);
    else
        describe_health(h, a->reason, sizeof(a->reason));
    if (a->driver_exec)
        add(a, "driver.exec", "1");
    add_system(a);
    add_hardware(a, h);
    add_cgroups(a, h);
    add_features(a, overlay, pivot);
    add_caps(a);
    add(a, "cloister.version", "%s", CLOISTER_VERSION);
}

void attribute_add(struct attributes *a, const char *name, const char *value)
{
    add(a, name, "%s", value);
}

const char *attribute_get(const struct attributes *a, const char *name)
{
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->v[i].name, name) == 0)
            return a->v[i].value;
    return NULL;
}
