/* How the paths of requests about files are followed. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "supervisor/files_internal.h"

static const char *const tops[] = {"alloc", "local", "tmp"}; /* the task's own; its secrets are never among them */

static const struct {
    int errnum, status;
    const char *code, *detail;
} failures[] = {
    {ENOENT, 404, "file_not_found", "there is no such file"},
    {ENOTDIR, 404, "file_not_found", "a part of the path is no directory"},
    {ENAMETOOLONG, 404, "file_not_found", "the path is longer than any that there is"},
    {EXDEV, 403, "path_outside", "the path leads out of the task's directory"},
    {ELOOP, 409, "symbolic_link", "a part of the path is a symbolic link that is not followed"},
    {EACCES, 403, "file_denied", "the file cannot be opened"},
    {EPERM, 403, "file_denied", "the file cannot be changed"},
    {ENXIO, 409, "not_a_file", "it is neither a regular file nor a directory"},
    {EISDIR, 409, "is_directory", "it is a directory"},
    {ENOTEMPTY, 409, "directory_not_empty", "the directory is not empty"},
    {EROFS, 409, "read_only", "the file system can only be read"},
    {EEXIST, 409, "file_exists", "the name is taken"},
    {ENOSPC, 507, "no_space", "there is no room on the disk"},
    {EDQUOT, 507, "no_space", "the quota is used up"},
    {EAGAIN, 503, "files_changing", "directories are being renamed; try again"},
};

int files_fail(struct err *e, int errnum)
{
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
        if (failures[i].errnum == errnum)
            return err_set(e, failures[i].status, failures[i].code, "%s", failures[i].detail);
    err_set(e, 500, "file_failed", "the access to the file failed: %s", strerror(errnum));
    e->errnum = errnum;
    return -1;
}

bool files_is_top(const char *name)
{
    for (size_t i = 0; i < sizeof(tops) / sizeof(tops[0]); i++)
        if (strcmp(tops[i], name) == 0)
            return true;
    return false;
}

static int open_beneath(int dirfd, const char *path, int flags, uint64_t more)
{
    return file_open_resolve(dirfd, *path ? path : ".", flags,
                             RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV | more);
}

int files_top(const struct files_job *job, const char **rest, struct err *e)
{
    const char *path = job->request.path;
    size_t len = strcspn(path, "/");
    char name[8] = "";

    if (len < sizeof(name))
        memcpy(name, path, len);
    if (!files_is_top(name))
        return files_fail(e, ENOENT);
    *rest = path[len] ? path + len + 1 : path + len;
    int fd = open_beneath(job->root, name, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
    return fd < 0 ? files_fail(e, errno) : fd;
}

int files_open(const struct files_job *job, int flags, struct err *e)
{
    const char *rest;
    _cleanup_close_ int top = files_top(job, &rest, e);
    int fd = top < 0 ? -1 : open_beneath(top, rest, flags, 0);

    return top >= 0 && fd < 0 ? files_fail(e, errno) : fd;
}

/* Makes the directory unless there is one; it is the task's. */
static int make(const struct files_job *job, int dirfd, const char *name)
{
    if (mkdirat(dirfd, name, 0755) < 0)
        return errno == EEXIST ? 0 : -1;
    _cleanup_close_ int fd = open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
    return fd < 0 ? -1 : fchown(fd, job->uid, job->gid);
}

int files_directory(const struct files_job *job, int dirfd, const char *path, bool create, struct err *e)
{
    _cleanup_close_ int fd = fcntl(dirfd, F_DUPFD_CLOEXEC, 3);

    while (fd >= 0 && *path) {
        size_t len = strcspn(path, "/");
        char name[FILES_NAME];

        if (len >= sizeof(name))
            return files_fail(e, ENAMETOOLONG);
        memcpy(name, path, len);
        name[len] = '\0';
        if (!len || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            return files_fail(e, EXDEV);
        if (create && make(job, fd, name) < 0)
            return files_fail(e, errno);
        int next = open_beneath(fd, name, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
        close(fd);
        fd = next;
        path += len + (path[len] == '/');
    }
    return fd < 0 ? files_fail(e, errno) : take_fd(&fd);
}

int files_parent(const struct files_job *job, bool create, const char **name, struct err *e)
{
    char directory[FILES_PATH];
    const char *rest;
    _cleanup_close_ int top = files_top(job, &rest, e);

    if (top < 0)
        return -1;
    if (!*rest)
        return err_set(e, 409, "is_directory", "the directory is the task's own, and stays");
    const char *slash = strrchr(rest, '/');
    *name = slash ? slash + 1 : rest;
    if (!**name || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
        return files_fail(e, EXDEV);
    memcpy(directory, rest, (size_t)(*name - rest));
    directory[slash ? slash - rest : 0] = '\0';
    return files_directory(job, top, directory, create, e);
}
