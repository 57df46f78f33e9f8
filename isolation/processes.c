#include "isolation/processes.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

enum { PROC_FILE = 16384 };

struct gathering {
    const char *id;
    struct process_stat *out;
    size_t max, n, all;
};

/* /proc/PID/cgroup names the groups of the process: the task's id is a component of their paths. */
static bool is_member(int dir, const char *id)
{
    _cleanup_free_ char *text = NULL, *component = NULL;
    return file_read(dir, "cgroup", PROC_FILE, &text, NULL) == 0 && asprintf(&component, "/%s", id) > 0 &&
           strstr(text, component);
}

/* Fields 3, 14, 15 and 24 of /proc/PID/stat; the name in field 2 may hold anything, also ")". */
static int read_stat(int dir, struct process_stat *p)
{
    _cleanup_free_ char *text = NULL;
    unsigned long long user, system;
    long long pages;
    if (file_read(dir, "stat", PROC_FILE, &text, NULL) < 0)
        return -1;
    const char *name = strchr(text, '('), *end = strrchr(text, ')');
    if (!name || !end ||
        sscanf(end + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %*u %*u %lld",
               &p->state, &user, &system, &pages) != 4)
        return -1;
    p->cpu_ns = (int64_t)(user + system) * (1000000000 / sysconf(_SC_CLK_TCK));
    p->rss_bytes = pages * sysconf(_SC_PAGESIZE);
    snprintf(p->command, sizeof(p->command), "[%.*s]", (int)(end - name - 1), name + 1);
    return 0;
}

static void read_command(int dir, struct process_stat *p)
{
    char text[PROCESS_COMMAND];
    _cleanup_close_ int fd = openat(dir, "cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    while (n > 0 && !text[n - 1])
        n--;
    if (n <= 0)
        return; /* a zombie, or a thread of the kernel: its name stays */
    for (ssize_t i = 0; i < n; i++)
        p->command[i] = text[i] ? text[i] : ' ';
    p->command[n] = '\0';
}

/* The last number of "NSpid:" in /proc/PID/status is the pid in the process's own namespace. */
static void read_ns_pid(int dir, struct process_stat *p)
{
    _cleanup_free_ char *text = NULL;
    p->ns_pid = p->pid;
    const char *line = file_read(dir, "status", PROC_FILE, &text, NULL) == 0 ? strstr(text, "NSpid:") : NULL;
    for (size_t len = line ? strcspn(line, "\n") : 0; len > 0; len--) {
        if (line[len - 1] == '\t' || line[len - 1] == ' ') {
            p->ns_pid = (pid_t)strtol(line + len, NULL, 10);
            return;
        }
    }
}

static int gather(void *arg, pid_t pid)
{
    struct gathering *g = arg;
    struct process_stat p = {.pid = pid};
    char path[32];
    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    /* Whatever happens to the pid, what is read below this directory is of one process. */
    _cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || !is_member(dir, g->id) || read_stat(dir, &p) < 0)
        return 0;
    g->all++;
    if (g->n == g->max)
        return 0;
    read_command(dir, &p);
    read_ns_pid(dir, &p);
    g->out[g->n++] = p;
    return 0;
}

ssize_t processes_of(const struct cgroup_host *h, const char *id, struct process_stat *out, size_t max)
{
    struct gathering g = {.id = id, .out = out, .max = max};
    return cgroup_members(h, id, gather, &g) < 0 ? -1 : (ssize_t)g.all;
}
