/* The device policy as lines of the v1 devices controller. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "isolation/cgroup_internal.h"
#include "isolation/devices.h"

static void number(int value, char out[12])
{
    if (value == DEVICE_ANY)
        snprintf(out, 12, "*");
    else
        snprintf(out, 12, "%d", value);
}

void devices_v1_line(const struct device *d, char out[DEVICES_V1_LINE])
{
    char major[12], minor[12];

    number(d->major, major);
    number(d->minor, minor);
    snprintf(out, DEVICES_V1_LINE, "%c %s:%s %s%s%s", d->type, major, minor, d->access & DEVICE_READ ? "r" : "",
             d->access & DEVICE_WRITE ? "w" : "", d->access & DEVICE_MKNOD ? "m" : "");
}

static bool has_line(const char *list, const char *line)
{
    size_t len = strlen(line);

    for (const char *at = list; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, line, len) == 0 && (at[len] == '\n' || !at[len]))
            return true;
    return false;
}

bool devices_v1_same(const char *list, const struct device *d, size_t n)
{
    char line[DEVICES_V1_LINE];
    size_t lines = *list != '\0';

    for (const char *at = list; *at; at++)
        lines += *at == '\n' && at[1];
    for (size_t i = 0; i < n; i++) {
        devices_v1_line(&d[i], line);
        if (!has_line(list, line))
            return false;
    }
    return lines == n; /* the kernel merges equal lines, so that each of ours is one of its own */
}

/* Each write(2) is one rule. */
static int allow(const char *dir, const struct device *d, size_t n, struct err *e)
{
    char path[CG_FILE], line[DEVICES_V1_LINE];

    snprintf(path, sizeof(path), "%s/devices.allow", dir);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_step(e, "devices", errno, "cannot open %s", path);
    for (size_t i = 0; i < n; i++) {
        devices_v1_line(&d[i], line);
        if (write(fd, line, strlen(line)) < 0) /* EPERM: the parent group is denied it */
            return err_step(e, "devices", errno, "cannot allow /dev/%s (%s)", d[i].name, line);
    }
    return 0;
}

int devices_v1_apply(const char *dir, struct err *e)
{
    size_t n;
    const struct device *d = devices_table(&n);
    char list[DEVICES_V1_LIST];

    /* "a" also empties the list of exceptions that the new group has copied from its parent. */
    if (cg_write(dir, "devices.deny", "a") < 0)
        return err_step(e, "devices", errno, "cannot deny all devices in %s", dir);
    if (allow(dir, d, n, e) < 0)
        return -1;
    if (cg_read(dir, "devices.list", list, sizeof(list)) < 0)
        return err_step(e, "devices", errno, "cannot read devices.list back");
    if (!devices_v1_same(list, d, n))
        return err_step(e, "devices", EINVAL, "devices.list of %s is not what was written", dir);
    return 0;
}
