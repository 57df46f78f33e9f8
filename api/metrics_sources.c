/* What a scrape is made of: the tasks that run, and this process as /proc/self tells. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/common.h"
#include "api/metrics.h"
#include "base/cleanup.h"
#include "base/file.h"

static bool runs(const struct task *t)
{
    return t->state == TASK_RUNNING || t->state == TASK_STOPPING || t->state == TASK_PAUSED;
}

static void take_tasks(struct scrape *s, struct registry *r)
{
    size_t max = (size_t)s->api->metrics_tasks_max;
    size_t live = s->states[TASK_RUNNING] + s->states[TASK_STOPPING] + s->states[TASK_PAUSED];
    size_t n = live < max ? live : max;

    s->omitted = live - n;
    s->tasks = xcalloc(n + 1, sizeof(*s->tasks));
    for (const struct task *t = registry_last(r); t && s->ntasks < n; t = t->prev) {
        if (!runs(t))
            continue;
        s->tasks[s->ntasks].task = t;
        cgroup_usage_brief(registry_cgroups(r), t->id, &s->tasks[s->ntasks++].usage);
    }
    cgroup_usage_brief(registry_cgroups(r), NULL, &s->all);
}

/* Fields 14, 15, 23 and 24 of proc_pid_stat(5). */
static void take_stat(struct scrape *s)
{
    _cleanup_free_ char *text = NULL;
    unsigned long long user, system, bytes;
    long long pages;

    s->cpu_seconds = s->virtual_bytes = s->resident_bytes = -1;
    const char *end = file_read(AT_FDCWD, "/proc/self/stat", 4096, &text, NULL) == 0 ? strrchr(text, ')') : NULL;
    if (!end ||
        sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %*u %llu %lld",
               &user, &system, &bytes, &pages) != 4)
        return;
    s->cpu_seconds = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    s->virtual_bytes = (double)bytes;
    s->resident_bytes = (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void take_fds(struct scrape *s)
{
    DIR *d = opendir("/proc/self/fd");
    struct rlimit limit;

    s->open_fds = -1;
    if (d) {
        s->open_fds = -3; /* ".", ".." and the directory itself */
        while (readdir(d))
            s->open_fds++;
        closedir(d);
    }
    s->max_fds = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (double)limit.rlim_cur : -1;
}

void scrape_fill(struct scrape *s, struct request *q)
{
    struct registry *r = request_registry(q);

    s->api = request_api(q);
    s->http = http_counters(q);
    s->events = events_counters(r);
    s->turns = loop_turns(request_loop(q));
    s->commits = registry_commits(r);
    s->names = request_role(q) >= ROLE_OPERATOR;
    registry_counts(r, s->states);
    take_tasks(s, r);
    take_stat(s);
    take_fds(s);
}

void scrape_free(struct scrape *s)
{
    free(s->tasks);
    buf_free(&s->out);
}
