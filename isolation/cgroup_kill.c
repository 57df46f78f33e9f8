/* Ending every process of a group, and telling whether any is left. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "isolation/cgroup_internal.h"

enum { SLEEP_MIN_MS = 1, SLEEP_MAX_MS = 20, FREEZE_ROUNDS = 20, FREEZE_MS = 2000, SWEEP_AFTER = 8 };

static void sleep_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Whether one of the lines of /proc/PID/cgroup (cgroups(7)) names the task's group or one below it. Ids are unique, so
 * the part of the parent that it is in does not matter. */
static bool is_member(const char *id, pid_t pid)
{
    char dir[64], text[4096];
    snprintf(dir, sizeof(dir), "/proc/%d", (int)pid);
    if (cg_read(dir, "cgroup", text, sizeof(text)) < 0)
        return false;
    size_t len = strlen(id);
    for (const char *at = strstr(text, id); at; at = strstr(at + 1, id)) {
        if (at > text && at[-1] == '/' && (at[len] == '\0' || at[len] == '\n' || at[len] == '/'))
            return true;
    }
    return false;
}

struct signalling {
    const char *id; /* of the group */
    int signum;
};

/* The pid was read a moment ago and may be another process by now: the pidfd holds on to one, which then is asked where
 * it belongs. */
static int signal_one(void *arg, pid_t pid)
{
    const struct signalling *s = arg;
    _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    int rc = 0;
    if (fd >= 0) {
        if (is_member(s->id, pid))
            rc = (int)syscall(SYS_pidfd_send_signal, fd, s->signum, NULL, 0);
    } else if (errno == ENOSYS && is_member(s->id, pid)) {
        rc = kill(pid, s->signum);
    }
    return rc < 0 && errno != ESRCH ? -1 : 0;
}

struct sweep {
    int (*fn)(void *arg, pid_t pid); /* NULL: count only */
    void *arg;
    size_t members;
    int failed;
};

static int sweep_child(void *arg, const char *dir, const char *name);

static void sweep_dir(struct sweep *s, const char *dir)
{
    char path[CG_FILE];
    snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
    FILE *f = fopen(path, "re");
    _cleanup_free_ char *line = NULL;
    size_t cap = 0;
    while (f && getline(&line, &cap, f) > 0) {
        s->members++;
        long pid = strtol(line, NULL, 10); /* 0: of a PID namespace that we do not see */
        if (s->fn && pid > 1 && s->fn(s->arg, (pid_t)pid) < 0)
            s->failed = -1;
    }
    if (f)
        fclose(f);
    cg_children(dir, sweep_child, s);
}

static int sweep_child(void *arg, const char *dir, const char *name)
{
    char path[CG_PATH];
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) < sizeof(path))
        sweep_dir(arg, path);
    return 0;
}

/* A member that forks faster than we read cannot when it is frozen. */
static void freeze(const struct cgroup_host *h, const char *id, bool frozen)
{
    char dir[CG_PATH], state[CG_TEXT] = "";
    if (h->v2_mount[0]) {
        cg_dir(h, h->v2_mount, id, dir);
        cg_write(dir, "cgroup.freeze", frozen ? "1" : "0");
    }
    if (h->ctl[CG_FREEZER].version != 1)
        return;
    cg_dir(h, h->ctl[CG_FREEZER].mount, id, dir);
    if (cg_write(dir, "freezer.state", frozen ? "FROZEN" : "THAWED") < 0 || !frozen)
        return;
    for (int i = 0; i < FREEZE_ROUNDS; i++) {
        if (cg_read(dir, "freezer.state", state, sizeof(state)) < 0 || !strcmp(state, "FROZEN"))
            return;
        sleep_ms(SLEEP_MIN_MS);
    }
}

static bool is_frozen(const struct cgroup_host *h, const char *id, bool frozen)
{
    char dir[CG_PATH], text[256];
    if (h->v2_mount[0]) {
        cg_dir(h, h->v2_mount, id, dir);
        return cg_read(dir, "cgroup.events", text, sizeof(text)) == 0 && strstr(text, frozen ? "frozen 1" : "frozen 0");
    }
    cg_dir(h, h->ctl[CG_FREEZER].mount, id, dir);
    return cg_read(dir, "freezer.state", text, sizeof(text)) == 0 && !strcmp(text, frozen ? "FROZEN" : "THAWED");
}

int cgroup_freeze(const struct cgroup_host *h, const char *id, bool frozen)
{
    char dir[CG_PATH];
    bool v2 = h->v2_mount[0];
    if (!v2 && h->ctl[CG_FREEZER].version != 1) {
        errno = ENOTSUP;
        return -1;
    }
    cg_dir(h, v2 ? h->v2_mount : h->ctl[CG_FREEZER].mount, id, dir);
    const char *file = v2 ? "cgroup.freeze" : "freezer.state";
    const char *text = v2 ? (frozen ? "1" : "0") : frozen ? "FROZEN" : "THAWED";
    int64_t deadline = clock_mono_ms() + FREEZE_MS;
    do {
        if (cg_write(dir, file, text) < 0)
            return -1;
        if (is_frozen(h, id, frozen))
            return 0;
        sleep_ms(SLEEP_MIN_MS);
    } while (clock_mono_ms() < deadline);
    errno = ETIMEDOUT;
    return -1;
}

size_t cg_kill_members(const char *dir, const char *name)
{
    struct signalling killing = {name, SIGKILL};
    struct sweep s = {.fn = signal_one, .arg = &killing};
    sweep_dir(&s, dir);
    return s.members;
}

static void kill_by_freezer(const struct cgroup_host *h, const char *id)
{
    const char *mounts[CG_TREES];
    char dir[CG_PATH];
    struct signalling killing = {id, SIGKILL};
    size_t n = cg_trees(h, mounts);
    freeze(h, id, true);
    for (size_t i = 0; i < n; i++) {
        struct sweep s = {.fn = signal_one, .arg = &killing};
        cg_dir(h, mounts[i], id, dir);
        sweep_dir(&s, dir);
    }
    freeze(h, id, false); /* v1 delivers SIGKILL to a frozen process only when it thaws */
}

int cgroup_members(const struct cgroup_host *h, const char *id, int (*fn)(void *arg, pid_t pid), void *arg)
{
    const char *mounts[CG_TREES];
    char dir[CG_PATH];
    size_t n = cg_name_ok(id) ? cg_trees(h, mounts) : 0;
    if (n == 0) {
        errno = ENOENT;
        return -1;
    }
    struct sweep s = {.fn = fn, .arg = arg};
    cg_dir(h, mounts[n - 1], id, dir); /* v2's when there is one */
    sweep_dir(&s, dir);
    return s.failed;
}

int cgroup_signal(const struct cgroup_host *h, const char *id, int signum)
{
    return cgroup_members(h, id, signal_one, &(struct signalling){id, signum});
}

static bool populated(const struct cgroup_host *h, const char *id)
{
    const char *mounts[CG_TREES];
    char dir[CG_PATH], events[256];
    if (!cg_name_ok(id))
        return false;
    size_t n = cg_trees(h, mounts);
    for (size_t i = 0; i < n; i++) {
        struct sweep s = {.fn = NULL};
        cg_dir(h, mounts[i], id, dir);
        sweep_dir(&s, dir);
        if (s.members > 0)
            return true;
    }
    if (!h->v2_mount[0]) /* else v2 also counts what cgroup.procs does not list, as threads whose leader has ended */
        return false;
    cg_dir(h, h->v2_mount, id, dir);
    return cg_read(dir, "cgroup.events", events, sizeof(events)) == 0 && strstr(events, "populated 1");
}

int cgroup_kill(const struct cgroup_host *h, const char *id, int64_t timeout_ms)
{
    int64_t deadline = clock_mono_ms() + timeout_ms, pause = SLEEP_MIN_MS;
    char dir[CG_PATH];
    if (!cg_name_ok(id)) {
        errno = EINVAL;
        return -1;
    }
    cg_dir(h, h->v2_mount, id, dir);
    for (int round = 0;; round++) {
        bool done = h->v2_mount[0] && cg_write(dir, "cgroup.kill", "1") == 0;
        if (!done || round >= SWEEP_AFTER) /* late: some member may be in a v1 hierarchy only, or frozen there */
            kill_by_freezer(h, id);
        if (!populated(h, id))
            return 0;
        if (clock_mono_ms() >= deadline) {
            errno = ETIMEDOUT;
            return -1;
        }
        sleep_ms(pause);
        pause = pause * 2 < SLEEP_MAX_MS ? pause * 2 : SLEEP_MAX_MS;
    }
}
