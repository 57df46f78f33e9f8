/* The template: a mount namespace that holds the read-only tree of each chroot and nothing else. Only a mount of the
 * namespace one is in can be copied (before Linux 6.15 not even a detached one): so the trees live in one, and a
 * supervisor enters it for a moment. The namespace lives as long as the launcher's fd. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "isolation/steps.h"

/* In the template's process. A chroot that cannot be put together is left out: its tasks are told why. */
static int fill_template(const struct policy *p, struct err *e)
{
    _cleanup_free_ char *top = xasprintf("%s/trees", p->run_dir);

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", top, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=4m") < 0)
        return err_step(e, "template", errno, "cannot make a mount namespace");
    for (size_t i = 0; i < p->nchroots; i++) {
        const struct sandbox b = {.policy = p, .chroot = &p->chroots[i]};

        if (strcmp(b.chroot->map.v[0].value, "/") == 0)
            continue; /* all of it is apart */
        _cleanup_free_ char *at = xasprintf("%s/%zu", top, i);
        struct err why = {0};

        if (mkdir(at, 0700) == 0 && readonly_assemble(&b, at, &why) == 0)
            continue;
        log_warn("chroot %s has no template: %s", p->chroots[i].name, why.detail);
        umount2(at, MNT_DETACH);
        rmdir(at);
    }
    /* Nothing of the host stays mounted here but the trees: a file system can still be unmounted there. */
    if (chdir(top) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
        return err_step(e, "template", errno, "cannot leave the host's mounts");
    return 0;
}

_Noreturn static void template_main(const struct policy *p, int report, int hold)
{
    struct err e = {0};
    char end;

    umask(0);
    fill_template(p, &e);
    if (write(report, &e, sizeof(e)) != sizeof(e))
        _exit(1);
    close(report);
    ssize_t n = read(hold, &end, 1); /* until the launcher holds the namespace */
    _exit(n == 0 ? 0 : 1);
}

/* Whether kernel and filters let us copy trees at all; without it a template would be of no use. */
static int probe_clone(void)
{
    _cleanup_close_ int fd = tree_clone(AT_FDCWD, "/", 0, 0);

    return fd < 0 ? -1 : 0;
}

int sandbox_template_open(const struct policy *p, struct err *e)
{
    int report[2], hold[2];
    char path[64];
    _cleanup_free_ char *top = xasprintf("%s/trees", p->run_dir);

    if (probe_clone() < 0)
        return err_step(e, "template", errno, "mount trees cannot be copied here");
    if ((mkdir(top, 0700) < 0 && errno != EEXIST) || pipe2(report, O_CLOEXEC) < 0)
        return err_step(e, "template", errno, "cannot prepare %s", top);
    if (pipe2(hold, O_CLOEXEC) < 0) {
        close(report[0]);
        close(report[1]);
        return err_step(e, "template", errno, "cannot make a pipe");
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(hold[1]);
        template_main(p, report[1], hold[0]);
    }
    close(report[1]);
    close(hold[0]);
    _cleanup_close_ int from = report[0];
    _cleanup_close_ int until = hold[1];
    if (pid < 0 || read(from, e, sizeof(*e)) != sizeof(*e))
        err_step(e, "template", errno, "its process died");
    snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
    _cleanup_close_ int ns = e->status == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    close(take_fd(&until));
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (e->status == 0 && ns < 0)
        err_step(e, "template", errno, "cannot open its namespace");
    return take_fd(&ns);
}

int readonly_clone(struct sandbox *b, int template_fd, struct err *e)
{
    char path[32];

    /* In a user namespace each task has a tree of its own: what a copy of the template holds cannot all be id-mapped
     * (tmpfs before Linux 6.3). */
    if (b->spec->root != ROOT_READONLY || template_fd < 0 || b->userns)
        return 0;
    _cleanup_close_ int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (home < 0 || root < 0 || setns(template_fd, CLONE_NEWNS) < 0)
        return err_step(e, "rootfs", errno, "cannot enter the template");
    snprintf(path, sizeof(path), "/%zu", (size_t)(b->chroot - b->policy->chroots));
    b->root_tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    int why = errno;
    /* setns(2) has changed root and working directory to those of the namespace. */
    if (setns(home, CLONE_NEWNS) < 0 || fchdir(root) < 0 || chroot(".") < 0)
        return err_step(e, "rootfs", errno, "cannot leave the template");
    if (b->root_tree < 0 && why != ENOENT)
        return err_step(e, "rootfs", why, "cannot copy the tree of chroot %s", b->chroot->name);
    return 0;
}
