/* A task's user namespace in the child. It is entered late, before the groups: mounts, host name, network and process
 * ids are made with the host's power and stay the host's (each namespace is owned by the user namespace that it was
 * made in, namespaces(7)), so the task's root has none over them. Until then the child works as the host's root whose
 * files belong to the task's root. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "isolation/steps.h"

int step_fsuid(struct entry *c, struct err *e)
{
    uid_t root = sandbox_host_id(c->b, 0);

    if (!c->b->userns)
        return 0;
    setfsgid(root);
    setfsuid(root);
    /* They return what was set before, and tell of no failure; (uid_t)-1 changes nothing (setfsuid(2)). */
    if ((uid_t)setfsuid((uid_t)-1) != root || (gid_t)setfsgid((gid_t)-1) != root)
        return err_step(e, "fsuid", EPERM, "the file system ids were not taken");
    if (caps_raise() < 0)
        return err_step(e, "fsuid", errno, "cannot keep the capabilities");
    /* The change has cleared the one, and set the other to fs.suid_dumpable. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_step(e, "fsuid", errno, "prctl");
    return 0;
}

int step_userns(struct entry *c, struct err *e)
{
    if (!c->b->userns)
        return 0;
    if (fstat(c->b->userns->fd, &c->userns) < 0 || setns(c->b->userns->fd, CLONE_NEWUSER) < 0)
        return err_step(e, "userns", errno, "cannot enter the user namespace");
    close(c->b->userns->fd); /* an exec session's process is soon to be seen by the task's */
    return 0;
}
