/* Slots of host ids, and the namespaces that map them. */
#include "isolation/userns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/id.h"
#include "base/ids.h"
#include "base/log.h"
#include "isolation/mount_tree.h"

enum { SLOT_NAME = 16, MAP_TEXT = 64 };

static void dir_close(DIR **d)
{
    if (*d)
        closedir(*d);
}
#define _cleanup_dir_ __attribute__((cleanup(dir_close)))

bool userns_wanted(const struct spec *s, const struct policy *p)
{
    return (s->userns_mode != NS_DEFAULT ? s->userns_mode : p->userns_mode) == NS_PRIVATE;
}

/* --- slots ---------------------------------------------------------------------------------------------------------
 */

static int open_slots(const struct policy *p, bool create)
{
    _cleanup_free_ char *path = xasprintf("%s/userns", p->run_dir);

    if (create && mkdir(path, 0700) < 0 && errno != EEXIST)
        return -1;
    return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* From a place that depends on the id: a slot is not used again at once, and the search is short. */
static uint64_t start_of(const char *id, uint64_t slots)
{
    uint64_t h = 0;

    for (; *id; id++)
        h = h * 31 + (unsigned char)*id;
    return h % slots;
}

static int take_slot(struct userns *u, const struct policy *p, const char *id, struct err *e)
{
    uint64_t slots = id_ranges_slots(&p->userns_range);
    _cleanup_close_ int dir = open_slots(p, true);
    char name[SLOT_NAME];

    if (slots == 0)
        return err_field(e, "/userns_mode", "the operator has set no userns_range");
    if (dir < 0)
        return err_step(e, "userns", errno, "cannot open %s/userns", p->run_dir);
    for (uint64_t i = 0, at = start_of(id, slots); i < slots; i++, at = (at + 1) % slots) {
        uint32_t base = id_ranges_slot(&p->userns_range, at);

        snprintf(name, sizeof(name), "%u", base);
        if (symlinkat(id, dir, name) == 0) {
            u->base = base;
            return 0;
        }
        if (errno != EEXIST)
            return err_step(e, "userns", errno, "cannot take the ids from %u on", base);
    }
    err_set(e, 503, "userns_full", "all %llu ranges of ids (userns_range) are taken", (unsigned long long)slots);
    snprintf(e->step, sizeof(e->step), "userns");
    return -1;
}

void userns_each(const struct policy *p, void (*fn)(void *arg, const char *id), void *arg)
{
    int fd = open_slots(p, false);
    _cleanup_dir_ DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

    if (!d)
        return;
    for (struct dirent *entry; (entry = readdir(d));) {
        char id[ID_LEN + 1];
        ssize_t n = readlinkat(fd, entry->d_name, id, sizeof(id));

        if (n <= 0 || (size_t)n >= sizeof(id))
            continue;
        id[n] = '\0';
        fn(arg, id);
    }
}

int userns_clear(const struct policy *p, const char *id)
{
    int fd = open_slots(p, false);
    _cleanup_dir_ DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

    if (fd < 0 && errno == ENOENT)
        return 0; /* no task ever had one */
    if (!d)
        return -1;
    for (struct dirent *entry; (errno = 0, entry = readdir(d));) {
        char holder[ID_LEN + 1];
        ssize_t n = readlinkat(fd, entry->d_name, holder, sizeof(holder));

        if (n > 0 && (size_t)n == strlen(id) && memcmp(holder, id, (size_t)n) == 0 &&
            unlinkat(fd, entry->d_name, 0) < 0 && errno != ENOENT)
            return -1;
    }
    return errno ? -1 : 0;
}

void userns_teardown(struct userns *u, const struct policy *p)
{
    char name[SLOT_NAME];

    if (u->fd >= 0)
        close(u->fd);
    u->fd = -1;
    if (u->base == 0)
        return;
    snprintf(name, sizeof(name), "%u", u->base);
    u->base = 0;
    _cleanup_close_ int dir = open_slots(p, false);
    if (dir < 0 || unlinkat(dir, name, 0) < 0)
        log_error("the ids from %s on cannot be given back: %s", name, strerror(errno));
}

/* --- namespaces ----------------------------------------------------------------------------------------------------
 */

/* Writes one of the two maps, and reads back that it is all that there is. */
static int write_map(pid_t pid, const char *file, uint32_t base)
{
    char path[MAP_TEXT], text[MAP_TEXT];
    _cleanup_free_ char *now = NULL;
    unsigned inside, outside, count;
    size_t len;
    int end = 0;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    snprintf(text, sizeof(text), "0 %u %u\n", base, (unsigned)IDS_RANGE);
    if (file_write_at(AT_FDCWD, path, text) < 0 || file_read(AT_FDCWD, path, 4096, &now, &len) < 0)
        return -1;
    if (sscanf(now, "%u %u %u %n", &inside, &outside, &count, &end) == 3 && !now[end] && inside == 0 &&
        outside == base && count == IDS_RANGE)
        return 0;
    errno = EPROTO;
    return -1;
}

static int map_and_open(pid_t pid, uint32_t base)
{
    char path[MAP_TEXT];

    if (write_map(pid, "uid_map", base) < 0 || write_map(pid, "gid_map", base) < 0)
        return -1;
    snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* A namespace is held by an fd: the process that was made in it does nothing but wait until there is one. */
int userns_make(uint32_t base)
{
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    int hold[2];
    char end;

    if (pipe2(hold, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        close(hold[1]);
        _exit(read(hold[0], &end, 1) == 0 ? 0 : 1);
    }
    int fd = pid < 0 ? -1 : map_and_open(pid, base);
    int why = errno;
    close(hold[0]);
    close(hold[1]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    errno = why;
    return fd;
}

int userns_setup(struct userns *u, const struct policy *p, const char *id, struct err *e)
{
    if (u->fd >= 0)
        return 0; /* from an earlier run of the task */
    if (take_slot(u, p, id, e) < 0)
        return -1;
    u->fd = userns_make(u->base);
    if (u->fd >= 0)
        return 0;
    int why = errno;
    userns_teardown(u, p);
    err_field(e, "/userns_mode", "this host makes no user namespace: %s", err_errno_name(why));
    e->errnum = why;
    snprintf(e->step, sizeof(e->step), "userns");
    return -1;
}

/* --- ids and trees -------------------------------------------------------------------------------------------------
 */

int userns_check(const struct identity *who, struct err *e)
{
    bool beyond = who->uid >= IDS_RANGE || who->gid >= IDS_RANGE;

    for (size_t i = 0; i < who->ngroups; i++)
        beyond |= who->groups[i] >= IDS_RANGE;
    return beyond ? err_field(e, "/user", "in a user namespace ids are 0 to %d", IDS_RANGE - 1) : 0;
}

void userns_shift(const struct userns *u, struct identity *who)
{
    uint32_t base = u ? u->base : 0;

    who->uid = ids_shift(base, who->uid);
    who->gid = ids_shift(base, who->gid);
    for (size_t i = 0; i < who->ngroups; i++)
        who->groups[i] = ids_shift(base, who->groups[i]);
}

int userns_map_tree(const struct userns *u, int tree_fd, bool recursive)
{
    struct stat before, after;

    if (fstat(tree_fd, &before) < 0 || tree_map_ids(tree_fd, u->fd, recursive) < 0 || fstat(tree_fd, &after) < 0)
        return -1;
    /* Ids beyond the range are nobody's: the kernel shows its overflow id (proc_sys_fs(5)). */
    if ((before.st_uid >= IDS_RANGE || after.st_uid == u->base + before.st_uid) &&
        (before.st_gid >= IDS_RANGE || after.st_gid == u->base + before.st_gid))
        return 0;
    errno = EPROTO;
    return -1;
}
