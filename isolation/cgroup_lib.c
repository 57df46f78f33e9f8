/* libcgroup: finding hierarchies, making v1 groups with their values, removing empty ones. */
#include "isolation/cgroup_lib.h"

#include <libcgroup.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* libcgroup would write to our standard error by itself; every failure reaches the caller as a code anyway. */
static void silent(void *userdata, int level, const char *fmt, va_list ap)
{
    (void)userdata;
    (void)level;
    (void)fmt;
    (void)ap;
}

/* cgroup_init must run only once in a process: a second run makes its mount table again while groups are in use. Its
 * iterator tells whether it has run, which spares us a global. */
static int ready(void)
{
    void *handle = NULL;
    struct cgroup_mount_point info;
    int ret = cgroup_get_controller_begin(&handle, &info);
    cgroup_get_controller_end(&handle);
    if (ret != ECGROUPNOTINITIALIZED)
        return 0;
    cgroup_set_logger(silent, CGROUP_LOG_ERROR, NULL);
    ret = cgroup_init();
    cgroup_set_logger(silent, CGROUP_LOG_ERROR, NULL); /* cgroup_init may put its default logger back */
    return ret;
}

int cglib_mount(const char *controller, char *out, size_t size)
{
    _cleanup_free_ char *mount = NULL;
    if (ready() != 0 || cgroup_get_subsys_mount_point(controller, &mount) != 0)
        return -1;
    int n = snprintf(out, size, "%s", mount);
    if (n > 0 && (size_t)n < size)
        return 0;
    out[0] = '\0';
    return -1;
}

static void free_group(struct cgroup **group)
{
    if (*group)
        cgroup_free(group);
}

const char *cglib_create(const char *path, const struct cglib_value *v, size_t n)
{
    int ret = ready();
    if (ret != 0)
        return cgroup_strerror(ret);
    __attribute__((cleanup(free_group))) struct cgroup *group = cgroup_new_cgroup(path);
    if (!group)
        return cgroup_strerror(ECGFAIL);
    for (size_t i = 0; i < n; i++) {
        struct cgroup_controller *c = cgroup_get_controller(group, v[i].controller);
        if (!c)
            c = cgroup_add_controller(group, v[i].controller);
        if (!c)
            return cgroup_strerror(ECGCONTROLLERCREATEFAILED);
        if (v[i].file && (ret = cgroup_set_value_string(c, v[i].file, v[i].text)) != 0)
            return cgroup_strerror(ret);
    }
    ret = cgroup_create_cgroup(group, 1); /* 1: owner and mode stay ours */
    return ret == 0 ? NULL : cgroup_strerror(ret);
}

int cglib_remove(const char *path, const char *controller)
{
    if (ready() != 0)
        return -1;
    __attribute__((cleanup(free_group))) struct cgroup *group = cgroup_new_cgroup(path);
    if (!group || !cgroup_add_controller(group, controller))
        return -1;
    /* Without this flag libcgroup moves the members to the parent group first: they would escape their limits. */
    return cgroup_delete_cgroup_ext(group, CGFLAG_DELETE_EMPTY_ONLY) == 0 ? 0 : -1;
}
