/* What is made on the host before a task starts: its directories, and the trees that are mounted in it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "isolation/steps.h"

static int make_plain(int dirfd, const char *name, mode_t mode, uint32_t owner)
{
    _cleanup_close_ int fd = make_dir(dirfd, name, mode, owner, owner);

    return fd < 0 ? -1 : 0;
}

/* The upper directory gives the merged one its mode and owner. A work directory is made anew: the mark of a volatile
 * overlay that an earlier run of the task left would forbid the next one. */
static int make_layers(const struct sandbox *b, int upper, int work)
{
    for (size_t i = 0; i < b->chroot->map.n; i++) {
        char real[PATH_MAX], name[24];
        struct stat st;

        if (rootfs_source(&b->chroot->map.v[i], real, &st) != SOURCE_DIR)
            continue;
        snprintf(name, sizeof(name), "%zu", i);
        _cleanup_close_ int fd =
            make_dir(upper, name, st.st_mode, sandbox_host_id(b, st.st_uid), sandbox_host_id(b, st.st_gid));
        if (fd < 0 || file_remove_tree(work, name) < 0 || make_plain(work, name, 0700, 0) < 0)
            return -1;
    }
    return 0;
}

int sandbox_prepare_dirs(const struct sandbox *b, struct err *e)
{
    static const struct {
        const char *name;
        mode_t mode;
    } dirs[] = {
        {"root", 0755}, {"local", 0777}, {"alloc", 0777}, {"alloc/data", 0777}, {"alloc/tmp", 0777}, {"tmp", 01777},
    };
    _cleanup_close_ int fd = open(b->data_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return err_step(e, "task_directory", errno, "cannot open %s", b->data_dir);
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
        if (make_plain(fd, dirs[i].name, dirs[i].mode, sandbox_host_id(b, 0)) < 0)
            return err_step(e, "task_directory", errno, "cannot make %s", dirs[i].name);
    _cleanup_close_ int upper = make_dir(fd, "upper", 0700, 0, 0);
    _cleanup_close_ int work = make_dir(fd, "work", 0700, 0, 0);
    if (upper < 0 || work < 0 || (b->spec->root == ROOT_OVERLAY && make_layers(b, upper, work) < 0))
        return err_step(e, "task_directory", errno, "cannot make the layers");
    if (b->userns && (make_plain(fd, "lower", 0700, 0) < 0 || layers_copy(b, upper) < 0))
        return err_step(e, "task_directory", errno, "cannot make the layers of the user namespace");
    return 0;
}
