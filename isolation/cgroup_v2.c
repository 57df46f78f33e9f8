/* What libcgroup cannot do: plain files of a group, and the v2 hierarchy (cgroups(7), the kernel's
 * Documentation/admin-guide/cgroup-v2.rst). */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "isolation/cgroup_internal.h"

int cg_write(const char *dir, const char *file, const char *text)
{
    char path[CG_FILE];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    size_t len = strlen(text);
    ssize_t n = write(fd, text, len);
    if (n < 0)
        return -1;
    if ((size_t)n == len)
        return 0;
    errno = EIO;
    return -1;
}

int cg_read(const char *dir, const char *file, char *out, size_t size)
{
    char path[CG_FILE];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    size_t len = 0;
    while (len + 1 < size) {
        ssize_t n = read(fd, out + len, size - 1 - len);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    if (len > 0 && out[len - 1] == '\n')
        len--;
    out[len] = '\0';
    return 0;
}

bool cg_has(const char *dir, const char *file)
{
    char path[CG_FILE];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    return access(path, F_OK) == 0;
}

void cg_dir(const struct cgroup_host *h, const char *mount, const char *id, char out[CG_PATH])
{
    if (!id || !h->v2_mount[0] || strcmp(mount, h->v2_mount) != 0) {
        snprintf(out, CG_PATH, "%s/%s%s%s", mount, h->parent, id ? "/" : "", id ? id : "");
        return;
    }
    snprintf(out, CG_PATH, "%s/%s/" CG_RESERVE "/%s", mount, h->parent, id);
    if (access(out, F_OK) < 0)
        snprintf(out, CG_PATH, "%s/%s/" CG_SHARE "/%s", mount, h->parent, id);
}

size_t cg_trees(const struct cgroup_host *h, const char *mounts[CG_TREES])
{
    static const enum cgroup_controller used[] = {CG_CPU,     CG_CPUACCT, CG_MEMORY, CG_PIDS,
                                                  CG_FREEZER, CG_DEVICES, CG_IO,     CG_HUGETLB};
    size_t n = 0;
    for (size_t i = 0; i < sizeof(used) / sizeof(used[0]); i++) {
        if (h->ctl[used[i]].version != 1)
            continue;
        size_t k = 0; /* "cpu,cpuacct" is often one hierarchy */
        while (k < n && strcmp(mounts[k], h->ctl[used[i]].mount) != 0)
            k++;
        if (k == n)
            mounts[n++] = h->ctl[used[i]].mount;
    }
    if (h->v2_mount[0])
        mounts[n++] = h->v2_mount;
    return n;
}

int cg_children(const char *dir, int (*fn)(void *arg, const char *dir, const char *name), void *arg)
{
    DIR *d = opendir(dir);
    if (!d)
        return 0;
    int ret = 0;
    struct dirent *entry;
    while (ret == 0 && (entry = readdir(d))) {
        if (entry->d_type == DT_DIR && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ret = fn(arg, dir, entry->d_name);
    }
    int saved = errno;
    closedir(d);
    errno = saved;
    return ret;
}

bool cg_has_pid(const char *dir, pid_t pid)
{
    char path[CG_FILE];
    snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    _cleanup_free_ char *line = NULL;
    size_t cap = 0;
    bool found = false;
    while (!found && getline(&line, &cap, f) > 0)
        found = pid == -1 || strtol(line, NULL, 10) == pid;
    fclose(f);
    return found;
}

static int remove_child(void *arg, const char *dir, const char *name)
{
    char path[CG_PATH];
    (void)arg;
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (cg_children(path, remove_child, NULL) < 0)
        return -1;
    return rmdir(path) == 0 || errno == ENOENT ? 0 : -1;
}

int cg_remove_below(const char *dir)
{
    return cg_children(dir, remove_child, NULL);
}

bool cg_name_ok(const char *text)
{
    if (!isalnum((unsigned char)text[0]))
        return false;
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || text[n] == '-' || text[n] == '_' || text[n] == '.')
        n++;
    return text[n] == '\0' && n < 64;
}

/* A line of proc_pid_mountinfo(5): ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS [TAG]... - TYPE SOURCE SUPER. */
static bool v2_mount_line(char *line, char *out, size_t size)
{
    const char *type = strstr(line, " - ");
    if (!type || strncmp(type, " - cgroup2 ", 11) != 0)
        return false;
    char *at = line;
    for (int i = 0; i < 4 && at; i++) {
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
    char *end = at ? strchr(at, ' ') : NULL;
    if (!end || memchr(at, '\\', (size_t)(end - at))) /* an escaped path is none that we could use unharmed */
        return false;
    int n = snprintf(out, size, "%.*s", (int)(end - at), at);
    if (n > 0 && (size_t)n < size)
        return true;
    out[0] = '\0';
    return false;
}

void cg_v2_mount(char *out, size_t size)
{
    out[0] = '\0';
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (!f)
        return;
    _cleanup_free_ char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, f) > 0 && !v2_mount_line(line, out, size))
        ;
    fclose(f);
}

/* Whether name is among the words of dir/file. */
static bool lists(const char *dir, const char *file, const char *name)
{
    char text[512];
    if (cg_read(dir, file, text, sizeof(text)) < 0)
        return false;
    size_t len = strlen(name);
    for (const char *p = text; *p; p += strcspn(p, " "), p += strspn(p, " ")) {
        if (strcspn(p, " ") == len && !strncmp(p, name, len))
            return true;
    }
    return false;
}

/* v2 accounts CPU time in every group and freezes by cgroup.freeze; neither is a controller there. */
bool cg_v2_offers(const char *mount, enum cgroup_controller c)
{
    if (c == CG_CPUACCT || c == CG_FREEZER || c == CG_DEVICES)
        return false;
    return lists(mount, "cgroup.controllers", cgroup_controller_name(c));
}

/* A group with members, as the root group of a container is, must not pass controllers on. The kernel refuses it for
 * memory and io; for cpu and pids it would do it, make the group the root of a threaded subtree and all groups below
 * unfit for processes (EOPNOTSUPP). Only the hierarchy's true root, which has no cgroup.type, is free of that. */
static int enable_in(const char *dir, const char *name)
{
    char text[CG_TEXT];
    if (lists(dir, "cgroup.subtree_control", name))
        return 0;
    if (cg_has(dir, "cgroup.type") && cg_has_pid(dir, -1)) {
        errno = EBUSY;
        return -1;
    }
    snprintf(text, sizeof(text), "+%s", name);
    if (cg_write(dir, "cgroup.subtree_control", text) < 0)
        return -1;
    return lists(dir, "cgroup.subtree_control", name) ? 0 : -1;
}

bool cg_v2_takes_processes(const char *dir)
{
    char type[CG_TEXT];
    return cg_read(dir, "cgroup.type", type, sizeof(type)) < 0 ||
           (strcmp(type, "domain invalid") != 0 && strcmp(type, "threaded") != 0);
}

int cg_v2_enable(const struct cgroup_host *h, enum cgroup_controller c)
{
    const char *name = cgroup_controller_name(c);
    char dir[CG_PATH];
    static const char *const parts[] = {CG_SHARE, CG_RESERVE};
    char part[CG_FILE];
    cg_dir(h, h->v2_mount, NULL, dir);
    if (enable_in(h->v2_mount, name) < 0 || enable_in(dir, name) < 0)
        return -1;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        snprintf(part, sizeof(part), "%s/%s", dir, parts[i]);
        if (enable_in(part, name) < 0)
            return -1;
    }
    return 0;
}
