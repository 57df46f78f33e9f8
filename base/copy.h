/* Copies of file trees, as real files of their own: a hard link to the source is never made. */
#ifndef CLOISTER_BASE_COPY_H
#define CLOISTER_BASE_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct file_id {
    dev_t dev;
    ino_t ino;
};

struct copy {                   /* one copy; zeroed but for what the caller sets */
    const struct file_id *skip; /* left out, by whatever name they are met */
    size_t nskip;
    /* Called after each entry and each 8 MiB; other than 0 ends the copy with ECANCELED. May be NULL. */
    int (*progress)(void *arg, const struct copy *c);
    void *arg;
    uint32_t id_base;     /* owners become ids_shift(id_base, owner): base/ids.h */
    int64_t files, bytes; /* so far: entries made, and bytes of file contents */
    char failed[256];     /* name of the entry that could not be copied */
};

/* Copies what src_fd (a directory, O_RDONLY) holds into dst_fd, and gives dst_fd its mode, owner and times. Regular
 * files (FICLONE where the file system can, else copy_file_range(2); holes stay holes), directories and symbolic links
 * keep mode, owner, modification time, "user." attributes and access lists; other attributes (capabilities(7) of files,
 * labels) are not copied, nor are sockets, FIFOs and devices. Does not follow links, nor enter what is mounted below; a
 * mounted file is copied. What vanishes meanwhile is skipped. 0, or -1 with errno. */
int copy_directory(struct copy *c, int src_fd, int dst_fd);
/* One regular file, src_name in src_dir, to the new name dst_name in dst_dir. */
int copy_file(struct copy *c, int src_dir, const char *src_name, int dst_dir, const char *dst_name);

#endif
