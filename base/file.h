/* Whole files and safe paths. Functions return 0 or an fd, or -1 with errno set. */
#ifndef CLOISTER_BASE_FILE_H
#define CLOISTER_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Reads at most max bytes of a file; caller frees *out (NUL-terminated). EFBIG when it is larger. */
int file_read(int dirfd, const char *path, size_t max, char **out, size_t *len);
/* The same for what is left to read of an open fd, which stays the caller's. */
int file_read_fd(int fd, size_t max, char **out, size_t *len);
/* Writes to a temporary name and renames it over name: all or nothing. durable: file and directory are fsynced, so that
 * it survives a power cut; otherwise it survives the death of any process. */
int file_write_atomic(int dirfd, const char *name, const void *data, size_t len, mode_t mode, bool durable);
/* Writes all of data to an existing file, as for cgroup and /proc files. */
int file_write_at(int dirfd, const char *path, const char *text);
/* mkdir -p of an absolute path with mode for new directories. */
int file_mkdirs(const char *path, mode_t mode);
/* Tells the file system that the directories in this one have nothing to do with each other, so that it puts them apart
 * (FS_TOPDIR_FL, the attribute T of chattr(1)). Those that know no such hint are left as they are. */
void file_set_topdir(const char *path);
/* openat2(2), close-on-exec, resolve as there. Where a ".." is kept below a directory EAGAIN says that something on the
 * host was renamed or mounted meanwhile: it is tried again. fd or -1. */
int file_open_resolve(int dirfd, const char *path, int flags, uint64_t resolve);
/* rm -rf of one name in dirfd (no path), never following links nor crossing into another mount. ENOENT is success. */
int file_remove_tree(int dirfd, const char *name);
/* Data in memory that nobody can change any more (memfd_create(2), sealed), to be read from its start. fd or -1. */
int memfd_sealed(const char *name, const void *data, size_t len);
/* The path with single slashes, without "." and without a slash at its end ("/" stays); caller frees. NULL when it is
 * not absolute or has a ".." component. */
char *file_clean_path(const char *path);
/* What of path lies below dir, both clean: "" when they are the same, NULL when it is elsewhere. */
const char *file_below(const char *path, const char *dir);
/* write(2) until all is written. */
int file_write_all(int fd, const void *data, size_t len);

#endif
