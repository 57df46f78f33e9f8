/* Layers that hide and add names (layers.c) for a task in a user namespace: copies whose directories have the owners
 * that the host's would show there. Not id-mapped mounts, as the run directory is a tmpfs, which has them only since
 * Linux 6.3. A layer holds some dozen names. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "isolation/steps.h"

static void dir_close(DIR **d)
{
    if (*d)
        closedir(*d);
}
#define _cleanup_dir_ __attribute__((cleanup(dir_close)))

static int copy_link(int from, int to, const char *name)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

    if (n < 0)
        return -1;
    target[n] = '\0';
    return symlinkat(target, to, name) < 0 && errno != EEXIST ? -1 : 0;
}

/* A whiteout, or an empty file that is one where device nodes cannot be made, or a place for a mount. */
static int copy_node(int to, const char *name, const struct stat *st)
{
    return mknodat(to, name, st->st_mode & (S_IFMT | 07777), st->st_rdev) < 0 && errno != EEXIST ? -1 : 0;
}

static int copy_directory(const struct sandbox *b, int from, int to_parent, const char *name);

static int copy_entry(const struct sandbox *b, int from, int to, const char *name)
{
    struct stat st;

    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    if (S_ISDIR(st.st_mode)) {
        _cleanup_close_ int fd = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -1 : copy_directory(b, fd, to, name);
    }
    if (S_ISLNK(st.st_mode) ? copy_link(from, to, name) < 0 : copy_node(to, name, &st) < 0)
        return -1;
    return fchownat(to, name, sandbox_host_id(b, st.st_uid), sandbox_host_id(b, st.st_gid), AT_SYMLINK_NOFOLLOW);
}

static int copy_directory(const struct sandbox *b, int from, int to_parent, const char *name)
{
    struct stat st;
    int own = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_dir_ DIR *d = own >= 0 ? fdopendir(own) : NULL;

    if (!d || fstat(own, &st) < 0)
        return -1;
    _cleanup_close_ int to =
        make_dir(to_parent, name, st.st_mode, sandbox_host_id(b, st.st_uid), sandbox_host_id(b, st.st_gid));
    if (to < 0)
        return -1;
    for (struct dirent *entry; (errno = 0, entry = readdir(d));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            copy_entry(b, own, to, entry->d_name) < 0)
            return -1;
    return errno ? -1 : 0;
}

int layers_copy(const struct sandbox *b, int upper)
{
    const struct sandbox host = {.policy = b->policy, .chroot = b->chroot};
    char name[32];

    for (size_t i = 0; i < b->chroot->map.n; i++) {
        _cleanup_close_ int path = layer_open(&host, i);
        _cleanup_close_ int from = path < 0 ? -1 : openat(path, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (path < 0 && errno == ENOENT)
            continue;
        snprintf(name, sizeof(name), "mask.%zu", i);
        if (from < 0 || copy_directory(b, from, upper, name) < 0)
            return -1;
    }
    return 0;
}
