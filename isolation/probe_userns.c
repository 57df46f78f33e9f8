/* Whether tasks can have a user namespace of their own: one is made, and a directory of the host is shown in it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/ids.h"
#include "isolation/probe.h"
#include "isolation/steps.h"

/* In a process of its own: an overlay with a layer whose owners are mapped, on a file system of its own over the run
 * directory. 0 or an errno. */
static int try_overlay(const struct policy *p, const struct userns *u, const char *src)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return errno;
    int from = open(src, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (from < 0 || mount("tmpfs", p->run_dir, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k") < 0)
        return errno;
    int at = open(p->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int tree = at < 0 ? -1 : tree_clone_top(from);
    if (tree < 0 || userns_map_tree(u, tree, false) < 0 || tree_attach(tree, at) < 0 ||
        tree_overlay((const int[]){tree, at}, 2, -1, -1, at) < 0)
        return errno;
    return 0;
}

static bool probe(const struct policy *p, const char *src)
{
    uint64_t slots = id_ranges_slots(&p->userns_range);
    struct userns u = {.base = slots ? IDS_RANGE : 0, .fd = -1};
    int status = 1;

    u.fd = slots ? userns_make(u.base) : -1;
    if (u.fd < 0)
        return false;
    pid_t pid = fork();
    if (pid == 0)
        _exit(try_overlay(p, &u, src));
    while (pid > 0 && waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            break;
    close(u.fd);
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void probe_userns(struct attributes *a, const struct policy *p)
{
    const struct pairs *map = &p->chroots[0].map;
    char real[PATH_MAX];
    struct stat st;
    bool works = false;

    for (size_t i = 0; i < map->n && geteuid() == 0; i++)
        if (rootfs_source(&map->v[i], real, &st) == SOURCE_DIR) {
            works = probe(p, real);
            break;
        }
    attribute_add(a, "feature.userns", works ? "1" : "0");
}
