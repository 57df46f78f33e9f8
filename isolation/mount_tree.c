#include "isolation/mount_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"

enum { TABLE_MAX = 64 << 20 };

static const struct {
    const char *name;
    uint64_t attr;
    unsigned long flag;
} options[] = {
    {"ro", MOUNT_ATTR_RDONLY, MS_RDONLY},
    {"nosuid", MOUNT_ATTR_NOSUID, MS_NOSUID},
    {"nodev", MOUNT_ATTR_NODEV, MS_NODEV},
    {"noexec", MOUNT_ATTR_NOEXEC, MS_NOEXEC},
};
enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

/* Blanks and backslashes are written as \NNN. */
static void decode(char *s)
{
    char *to = s;

    for (; *s; to++) {
        bool octal =
            s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7';

        *to = octal ? (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0')) : s[0];
        s += octal ? 4 : 1;
    }
    *to = '\0';
}

static uint64_t parse_options(char *text)
{
    char *save = NULL;
    uint64_t attrs = 0;

    for (const char *o = strtok_r(text, ",", &save); o; o = strtok_r(NULL, ",", &save))
        for (size_t i = 0; i < OPTIONS; i++)
            if (strcmp(o, options[i].name) == 0)
                attrs |= options[i].attr;
    return attrs;
}

/* ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - ... */
static int parse_line(char *line, struct mount_entry *m)
{
    char *field[6], *save = NULL;

    for (size_t i = 0; i < 6; i++) {
        field[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
        if (!field[i])
            return -1;
    }
    *m = (struct mount_entry){.id = (int)strtol(field[0], NULL, 10)};
    for (const char *tag; (tag = strtok_r(NULL, " ", &save)) && strcmp(tag, "-") != 0;) {
        m->shared |= strncmp(tag, "shared:", 7) == 0;
        m->slave |= strncmp(tag, "master:", 7) == 0;
    }
    decode(field[4]);
    m->point = xstrdup(field[4]);
    m->attrs = parse_options(field[5]);
    return 0;
}

int mount_table_read(struct mount_table *t)
{
    _cleanup_free_ char *text = NULL;
    char *save = NULL;

    *t = (struct mount_table){0};
    if (file_read(AT_FDCWD, "/proc/self/mountinfo", TABLE_MAX, &text, NULL) < 0)
        return -1;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        t->v = xrealloc(t->v, (t->n + 1) * sizeof(*t->v));
        if (parse_line(line, &t->v[t->n]) < 0) {
            mount_table_free(t);
            errno = EPROTO;
            return -1;
        }
        t->n++;
    }
    return 0;
}

void mount_table_free(struct mount_table *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->v[i].point);
    free(t->v);
    *t = (struct mount_table){0};
}

int tree_path(int fd, char path[PATH_MAX])
{
    char self[40];

    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(self, path, PATH_MAX - 1);
    if (n < 0)
        return -1;
    path[n] = '\0';
    return 0;
}

int tree_clone(int dirfd, const char *path, uint64_t attrs, uint64_t propagation)
{
    struct mount_attr set = {.attr_set = attrs, .propagation = propagation};

    /* A tree that cannot be attached is of no use. */
    if (move_mount(AT_FDCWD, "", AT_FDCWD, "", 0) < 0 && errno == ENOSYS)
        return -1;
    _cleanup_close_ int fd =
        open_tree(dirfd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | (*path ? 0 : AT_EMPTY_PATH));

    if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &set, sizeof(set)) < 0)
        return -1;
    return take_fd(&fd);
}

int tree_clone_top(int fd)
{
    return open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
}

int tree_map_ids(int tree_fd, int userns_fd, bool recursive)
{
    struct mount_attr set = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns_fd};

    return mount_setattr(tree_fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &set, sizeof(set));
}

int tree_attach(int tree_fd, int dst_fd)
{
    return move_mount(tree_fd, "", dst_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* mount(2) sets flags anew when it remounts: those that the mount has are given again. */
static int remount(const char *point, uint64_t attrs)
{
    unsigned long flags = MS_REMOUNT | MS_BIND;

    for (size_t i = 0; i < OPTIONS; i++)
        flags |= attrs & options[i].attr ? options[i].flag : 0;
    return mount(NULL, point, NULL, flags, NULL);
}

/* The way of kernels before Linux 5.12: mount(2) changes one mount at a time. */
static int bind_each(int src_fd, int dst_fd, uint64_t attrs)
{
    _cleanup_mounts_ struct mount_table t = {0};
    char src[40], dst[40], point[PATH_MAX];

    snprintf(src, sizeof(src), "/proc/self/fd/%d", src_fd);
    snprintf(dst, sizeof(dst), "/proc/self/fd/%d", dst_fd);
    if (tree_path(dst_fd, point) < 0 || mount(src, dst, NULL, MS_BIND | MS_REC, NULL) < 0 ||
        mount(NULL, point, NULL, MS_PRIVATE | MS_REC, NULL) < 0 || mount_table_read(&t) < 0)
        return -1;
    for (size_t i = 0; i < t.n; i++)
        if (file_below(t.v[i].point, point) && remount(t.v[i].point, t.v[i].attrs | attrs) < 0)
            return -1;
    return 0;
}

int tree_bind(int src_fd, int dst_fd, uint64_t attrs)
{
    _cleanup_close_ int fd = tree_clone(src_fd, "", attrs, MS_PRIVATE);

    if (fd >= 0 && tree_attach(fd, dst_fd) == 0)
        return 0;
    return errno == ENOSYS ? bind_each(src_fd, dst_fd, attrs) : -1;
}

int tree_overlay(const int *lower, size_t n, int upper, int work, int dst_fd)
{
    _cleanup_buf_ struct buf data = {0};
    char dst[40];

    buf_puts(&data, "lowerdir=");
    for (size_t i = 0; i < n; i++)
        buf_printf(&data, "%s/proc/self/fd/%d", i > 0 ? ":" : "", lower[i]);
    /* volatile: the layer is scratch, and without it each end of a task would write out the whole file system that
     * holds it (Documentation/filesystems/overlayfs.rst, "Volatile mount"). */
    if (upper >= 0)
        buf_printf(&data, ",upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d,volatile", upper, work);
    snprintf(dst, sizeof(dst), "/proc/self/fd/%d", dst_fd);
    return mount("overlay", dst, "overlay", MS_NOSUID | MS_NODEV | (upper < 0 ? MS_RDONLY : 0), data.data);
}

int tree_protect(int fd, uint64_t attrs)
{
    struct mount_attr set = {.attr_set = attrs};
    char point[40];

    if (mount_setattr(fd, "", AT_EMPTY_PATH, &set, sizeof(set)) == 0)
        return 0;
    snprintf(point, sizeof(point), "/proc/self/fd/%d", fd);
    return errno == ENOSYS ? remount(point, attrs) : -1;
}

int tree_check(int fd, uint64_t attrs)
{
    uint64_t has = 0;
    struct statvfs st;

    if (fstatvfs(fd, &st) < 0)
        return -1;
    for (size_t i = 0; i < OPTIONS; i++) /* ST_* of statvfs(3) are the MS_* of the same name */
        has |= st.f_flag & options[i].flag ? options[i].attr : 0;
    errno = EPROTO;
    return (has & attrs) == attrs ? 0 : -1;
}

int tree_verify(int fd, uint64_t attrs)
{
    _cleanup_mounts_ struct mount_table t = {0};
    char path[PATH_MAX];
    bool found = false;

    if (tree_path(fd, path) < 0 || mount_table_read(&t) < 0)
        return -1;
    for (size_t i = 0; i < t.n; i++) {
        if (!file_below(t.v[i].point, path))
            continue;
        found = true;
        if ((t.v[i].attrs & attrs) != attrs) {
            errno = EPROTO;
            return -1;
        }
    }
    errno = EPROTO;
    return found ? 0 : -1;
}
