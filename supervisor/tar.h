/* The form of tar archives: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block". */
#ifndef CLOISTER_SUPERVISOR_TAR_H
#define CLOISTER_SUPERVISOR_TAR_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TAR_BLOCK = 512 };

struct tar_header { /* one block, as it is in the archive */
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6], version[2];
    char user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "a header is one block");

enum tar_type { TAR_FILE = '0', TAR_SYMLINK = '2', TAR_DIRECTORY = '5', TAR_PAX = 'x', TAR_PAX_GLOBAL = 'g' };

struct tar_entry { /* what a header, and the pax header before it, tell */
    char path[PATH_MAX], link[PATH_MAX];
    char type; /* enum tar_type, or another that the archive has */
    uint32_t mode;
    uint64_t size, uid, gid;
    int64_t mtime;
};

/* The header of e: path and link cut, numbers that do not fit 0. */
void tar_fill(struct tar_header *h, const struct tar_entry *e);
/* False when its checksum or magic is wrong. */
bool tar_parse(const struct tar_header *h, struct tar_entry *e);
/* The records of a pax header over what e says; -1 when they are malformed. */
int tar_parse_pax(const char *text, size_t len, struct tar_entry *e, bool *has_size);

#endif
