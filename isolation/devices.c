/* The devices that a task may use, and the choice of who holds it to them. */
#include "isolation/devices.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "isolation/cgroup_internal.h"

/* Numbers: the kernel's Documentation/admin-guide/devices.txt. All device numbers of devpts have the major 136. */
static const struct device table[] = {
    {"null", 'c', 1, 3, DEVICE_ALL, true},    {"zero", 'c', 1, 5, DEVICE_ALL, true},
    {"full", 'c', 1, 7, DEVICE_ALL, true},    {"random", 'c', 1, 8, DEVICE_ALL, true},
    {"urandom", 'c', 1, 9, DEVICE_ALL, true}, {"tty", 'c', 5, 0, DEVICE_ALL, true},
    {"ptmx", 'c', 5, 2, DEVICE_ALL, false},   {"pts/*", 'c', 136, DEVICE_ANY, DEVICE_ALL, false},
};

const struct device *devices_table(size_t *n)
{
    *n = sizeof(table) / sizeof(table[0]);
    return table;
}

void devices_init(struct cgroup_host *h)
{
    char dir[CG_PATH];

    h->devices = DEVICES_FREE;
    h->devices_fd = -1;
    h->devices_why[0] = '\0';
    if (h->ctl[CG_DEVICES].version == 1) {
        h->devices = DEVICES_V1;
        return;
    }
    if (!h->v2_mount[0]) {
        snprintf(h->devices_why, sizeof(h->devices_why), "no devices controller and no cgroup v2");
        return;
    }
    cg_dir(h, h->v2_mount, NULL, dir);
    h->devices_fd = devices_bpf_load();
    if (h->devices_fd >= 0 && devices_bpf_probe(dir) == 0) {
        h->devices = DEVICES_BPF;
        return;
    }
    snprintf(h->devices_why, sizeof(h->devices_why), "no devices controller, and bpf(2) fails with %s",
             err_errno_name(errno));
    if (h->devices_fd >= 0)
        close(h->devices_fd);
    h->devices_fd = -1;
}

int devices_apply(const struct cgroup_host *h, const char *id, struct err *e)
{
    char dir[CG_PATH];

    if (h->devices == DEVICES_FREE)
        return 0;
    cg_dir(h, h->devices == DEVICES_V1 ? h->ctl[CG_DEVICES].mount : h->v2_mount, id, dir);
    return h->devices == DEVICES_V1 ? devices_v1_apply(dir, e) : devices_bpf_apply(dir, h->devices_fd, e);
}
