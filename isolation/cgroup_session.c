/* The groups of exec sessions, below their task's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "isolation/cgroup_internal.h"

enum { PAUSE_MS = 1, REMOVE_MS = 500, DIR_MODE = 0755 };

static void pause_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* The session's group, and its last component; false where no hierarchy serves for killing. */
static bool session_dir(const struct cgroup_host *h, const char *id, const char *session, char dir[CG_PATH],
                        char name[CG_NAME])
{
    const char *mount = h->v2_mount[0]                    ? h->v2_mount
                        : h->ctl[CG_FREEZER].version == 1 ? h->ctl[CG_FREEZER].mount
                                                          : NULL;
    char task[CG_PATH];

    if (!mount || !cg_name_ok(id) || !cg_name_ok(session))
        return false;
    cg_dir(h, mount, id, task);
    if ((size_t)snprintf(name, CG_NAME, "exec-%s", session) >= CG_NAME)
        return false;
    return (size_t)snprintf(dir, CG_PATH, "%s/%s", task, name) < CG_PATH;
}

int cgroup_session_attach(const struct cgroup_host *h, const char *id, const char *session, pid_t pid, struct err *e)
{
    char dir[CG_PATH], name[CG_NAME], text[CG_NAME];

    if (!session_dir(h, id, session, dir, name))
        return 0;
    if (mkdir(dir, DIR_MODE) < 0)
        return err_step(e, "cgroup_create", errno, "cannot make the session's control group");
    snprintf(text, sizeof(text), "%d", (int)pid);
    if (cg_write(dir, "cgroup.procs", text) < 0)
        return err_step(e, "cgroup_attach", errno, "cannot move the session into its control group");
    if (!cg_has_pid(dir, pid))
        return err_step(e, "cgroup_attach", ESRCH, "the session is not in its control group");
    return 0;
}

bool cgroup_pids_exceeded(const struct cgroup_host *h, const char *id)
{
    char dir[CG_PATH], now[CG_NAME], max[CG_NAME];

    if (!h->ctl[CG_PIDS].version || !cg_name_ok(id))
        return false;
    cg_dir(h, h->ctl[CG_PIDS].mount, id, dir);
    return cg_read(dir, "pids.current", now, sizeof(now)) == 0 && cg_read(dir, "pids.max", max, sizeof(max)) == 0 &&
           strcmp(max, "max") != 0 && strtoll(now, NULL, 10) > strtoll(max, NULL, 10);
}

/* Without cgroup.kill (Linux 5.14) a member could fork faster than we read, were it not frozen. */
static void kill_all(const char *dir, const char *name)
{
    bool v1 = cg_has(dir, "freezer.state");

    if (cg_write(dir, "cgroup.kill", "1") == 0)
        return;
    cg_write(dir, v1 ? "freezer.state" : "cgroup.freeze", v1 ? "FROZEN" : "1");
    cg_kill_members(dir, name);
    cg_write(dir, v1 ? "freezer.state" : "cgroup.freeze", v1 ? "THAWED" : "0");
}

int cgroup_session_kill(const struct cgroup_host *h, const char *id, const char *session, int64_t timeout_ms)
{
    int64_t deadline = clock_mono_ms() + timeout_ms;
    char dir[CG_PATH], name[CG_NAME], events[256];

    if (!session_dir(h, id, session, dir, name) || access(dir, F_OK) < 0)
        return 0;
    for (;;) {
        kill_all(dir, name);
        bool v2 = cg_read(dir, "cgroup.events", events, sizeof(events)) == 0;
        if (v2 ? !strstr(events, "populated 1") : !cg_has_pid(dir, -1))
            return 0;
        if (clock_mono_ms() >= deadline) {
            errno = ETIMEDOUT;
            return -1;
        }
        pause_ms(PAUSE_MS);
    }
}

int cgroup_session_remove(const struct cgroup_host *h, const char *id, const char *session)
{
    int64_t deadline = clock_mono_ms() + REMOVE_MS;
    char dir[CG_PATH], name[CG_NAME];

    if (!session_dir(h, id, session, dir, name))
        return 0;
    while (cg_remove_below(dir) < 0 || rmdir(dir) < 0) {
        if (errno == ENOENT)
            return 0;
        if (errno != EBUSY || clock_mono_ms() >= deadline)
            return -1;
        pause_ms(PAUSE_MS);
    }
    return 0;
}
