/* Files written as a whole, and removed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/msg.h"
#include "supervisor/files_internal.h"

/* Only a regular file is replaced. */
static int check_old(int dirfd, const char *name, bool *created, struct err *e)
{
    struct stat st;

    *created = fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0;
    if (*created)
        return errno == ENOENT ? 0 : files_fail(e, errno);
    return S_ISREG(st.st_mode) ? 0 : files_fail(e, S_ISDIR(st.st_mode) ? EISDIR : S_ISLNK(st.st_mode) ? ELOOP : ENXIO);
}

/* Waits until the server has written all of it. False when it has not: it has died, or its client has left. */
static bool is_whole(const struct files_job *job)
{
    struct files_request r;
    int fds[MSG_FDS_MAX];
    size_t nfds = 0;

    ssize_t n = msg_recv(job->channel, &r, sizeof(r), fds, &nfds);
    for (size_t i = 0; i < nfds; i++)
        close(fds[i]);
    return n == sizeof(r) && r.version == FILES_VERSION && r.op == FILES_COMMIT;
}

/* The task sees the temporary name, and may have moved something else there. */
static int give_name(const struct files_job *job, int dirfd, int fd, const char *temporary, const char *name,
                     struct err *e)
{
    struct stat written, there;

    if (fchown(fd, job->uid, job->gid) < 0 || fchmod(fd, job->request.mode) < 0 || fstat(fd, &written) < 0 ||
        fstatat(dirfd, temporary, &there, AT_SYMLINK_NOFOLLOW) < 0)
        return files_fail(e, errno);
    if (there.st_ino != written.st_ino || there.st_dev != written.st_dev)
        return err_set(e, 409, "files_changing", "the file was moved away while it was written");
    return renameat(dirfd, temporary, dirfd, name) < 0 ? files_fail(e, errno) : 0;
}

int files_put(struct files_job *job, struct err *e)
{
    char temporary[40];
    uint64_t number;
    bool created;
    const char *name;
    _cleanup_close_ int dir = files_parent(job, job->request.flags & FILES_MKDIRS, &name, e);

    if (dir < 0 || check_old(dir, name, &created, e) < 0)
        return -1;
    if (getrandom(&number, sizeof(number), 0) != sizeof(number))
        return files_fail(e, EIO);
    snprintf(temporary, sizeof(temporary), ".upload-%016llx", (unsigned long long)number);
    _cleanup_close_ int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return files_fail(e, errno);
    if (files_answer(job, FILES_IS_FILE, fd, created) < 0 || !is_whole(job)) {
        unlinkat(dir, temporary, 0);
        return 0;
    }
    if (check_old(dir, name, &created, e) < 0 || give_name(job, dir, fd, temporary, name, e) < 0) {
        unlinkat(dir, temporary, 0);
        return -1;
    }
    files_answer(job, FILES_IS_DONE, -1, created);
    return 0;
}

int files_delete(struct files_job *job, struct err *e)
{
    struct stat st;
    const char *name;
    _cleanup_close_ int dir = files_parent(job, false, &name, e);

    if (dir < 0)
        return -1;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return files_fail(e, errno);
    int rc = job->request.flags & FILES_RECURSIVE ? file_remove_tree(dir, name)
                                                  : unlinkat(dir, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
    if (rc < 0)
        return files_fail(e, errno);
    files_answer(job, FILES_IS_DONE, -1, false);
    return 0;
}
