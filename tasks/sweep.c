/* Task directories that belong to no row. */
#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "tasks/registry_internal.h"

/* Of a task whose row was removed, or never outlived a power cut. The launcher spares what a live supervisor has. */
static void remove_stray(struct registry *r, const char *id)
{
    struct err e = {0};

    log_warn("the directory of task %s belongs to no stored task: it is removed", id);
    if (launcher_ask(r, REMOVE_TASK, id, NULL, 0, &e) < 0)
        log_error("task %s: %s", id, e.detail);
}

int sweep_directories(struct registry *r, struct err *e)
{
    _cleanup_free_ char *path = xasprintf("%s/tasks", r->config.policy->state_dir);
    DIR *d = opendir(path);
    int rc = 0;

    if (!d) {
        log_error("cannot read %s: %s", path, strerror(errno));
        return 0;
    }
    for (const struct dirent *entry; rc == 0 && (entry = readdir(d));) {
        const char *id = entry->d_name;

        if (!id_valid(id) || registry_find(r, id) || map_get(&r->unknown, id))
            continue;
        if (store_is_new(r->store)) /* an empty database beside tasks: the one that knew them is missing */
            rc = err_set(e, 500, STORE_DAMAGED,
                         "the database is missing or empty, but %s holds tasks: restore it, or remove them", path);
        else
            remove_stray(r, id);
    }
    closedir(d);
    return rc;
}
