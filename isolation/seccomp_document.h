/* Private to the seccomp module: a profile's JSON document as it is written. */
#ifndef CLOISTER_ISOLATION_SECCOMP_DOCUMENT_H
#define CLOISTER_ISOLATION_SECCOMP_DOCUMENT_H

#include "base/record.h"
#include "isolation/seccomp_profile.h"

struct seccomp_condition {       /* includes, excludes */
    struct strings caps, arches; /* "CAP_CHOWN", "amd64" */
    char *min_kernel;            /* "4.8" */
};

struct seccomp_syscalls {
    struct strings names;
    enum seccomp_action action;
    int64_t value;
    struct records args; /* struct seccomp_arg */
    struct seccomp_condition includes, excludes;
    char *comment;
};

struct seccomp_arch_map {
    char *architecture;
    struct strings sub;
};

struct seccomp_document {
    enum seccomp_action action;
    int64_t value;
    struct strings architectures, flags;
    struct records arch_map; /* struct seccomp_arch_map */
    struct records syscalls; /* struct seccomp_syscalls */
};

/* -1 with e: 422 or 400 with the JSON pointer. Free it also then. */
int seccomp_document_decode(const char *text, size_t len, struct seccomp_document *d, struct err *e);
void seccomp_document_free(struct seccomp_document *d);
/* The SECCOMP_FILTER_FLAG_* of a name; false when there is none. */
bool seccomp_document_flag(const char *name, unsigned *flag);

#endif
