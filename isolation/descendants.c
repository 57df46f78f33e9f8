#include "isolation/descendants.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"

enum { STAT_MAX = 4096 };

struct process {
    pid_t pid, parent;
};

struct processes {
    struct process *v;
    size_t n, room;
};

/* Fields 3 and 4 of proc_pid_stat(5), behind the name, which may hold anything. False when it has ended. */
static bool read_parent(int proc, const char *name, pid_t *parent)
{
    char path[32], state;
    int ppid;
    _cleanup_free_ char *text = NULL;

    snprintf(path, sizeof(path), "%.16s/stat", name);
    if (file_read(proc, path, STAT_MAX, &text, NULL) < 0)
        return false;
    const char *end = strrchr(text, ')');
    if (!end || sscanf(end + 1, " %c %d", &state, &ppid) != 2 || state == 'Z' || state == 'X')
        return false;
    *parent = ppid;
    return true;
}

static int read_all(struct processes *all)
{
    DIR *d = opendir("/proc");
    struct dirent *entry;

    if (!d)
        return -1;
    while ((entry = readdir(d))) {
        pid_t parent;

        if (!isdigit((unsigned char)entry->d_name[0]) || !read_parent(dirfd(d), entry->d_name, &parent))
            continue;
        if (all->n == all->room) {
            all->room = all->room ? 2 * all->room : 256;
            all->v = xrealloc(all->v, all->room * sizeof(*all->v));
        }
        all->v[all->n++] = (struct process){(pid_t)strtol(entry->d_name, NULL, 10), parent};
    }
    closedir(d);
    return 0;
}

static int visit(const struct processes *all, pid_t parent, int (*fn)(void *arg, pid_t pid), void *arg)
{
    _cleanup_free_ pid_t *found = xcalloc(all->n + 1, sizeof(*found));
    size_t n = 0;
    int rc = 0;

    /* Breadth first: found is the queue. */
    for (size_t at = 0;; at++) {
        for (size_t i = 0; i < all->n && n < all->n; i++)
            if (all->v[i].parent == parent)
                found[n++] = all->v[i].pid;
        if (at == n)
            return rc;
        parent = found[at];
        if (fn(arg, parent) < 0)
            rc = -1;
    }
}

int descendants_each(int (*fn)(void *arg, pid_t pid), void *arg)
{
    struct processes all = {0};
    int rc = read_all(&all);

    if (rc == 0)
        rc = visit(&all, getpid(), fn, arg);
    free(all.v);
    return rc;
}
