/* Private to the process that serves a request about files. Its root directory holds the task's. Functions return 0 or
 * an fd (the caller's, CLOEXEC), or -1 with e. */
#ifndef CLOISTER_SUPERVISOR_FILES_INTERNAL_H
#define CLOISTER_SUPERVISOR_FILES_INTERNAL_H

#include <sys/stat.h>

#include "supervisor/messages.h"

struct files_job {
    int channel, root; /* root: O_PATH of "/" */
    uid_t uid;         /* owner of what is made */
    gid_t gid;
    struct files_request request;
};

/* files_path.c: how a path is followed. Its first component is one of the directories that are the task's own ("local",
 * "alloc", "tmp"), and nothing leads out of that (openat2(2), RESOLVE_BENEATH), nor into another mount. */
/* What errno tells of an access: 404, 403, 409 or 507 with a code. */
int files_fail(struct err *e, int errnum);
bool files_is_top(const char *name);
/* For reading: links are followed beneath. flags as for open(2). */
int files_open(const struct files_job *job, int flags, struct err *e);
/* A directory for writing: no link is followed; with make, missing ones are made. path is relative to dirfd. */
int files_directory(const struct files_job *job, int dirfd, const char *path, bool make, struct err *e);
/* The directory that holds the last component, *name of the request's path; no link is followed. 409 when the path is a
 * task's directory itself. */
int files_parent(const struct files_job *job, bool make, const char **name, struct err *e);
/* The top directory of the request's path, as files_directory does; *rest is what follows, maybe "". */
int files_top(const struct files_job *job, const char **rest, struct err *e);

/* Sends an answer, with fd when it is not -1. */
int files_answer(const struct files_job *job, enum files_what what, int fd, bool created);

/* The operations. */
int files_get(struct files_job *job, struct err *e);            /* files_get.c */
int files_put(struct files_job *job, struct err *e);            /* files_put.c */
int files_delete(struct files_job *job, struct err *e);         /* files_put.c */
int files_tar(struct files_job *job, int dirfd, struct err *e); /* files_tar.c: answers when it begins; owns dirfd */
int files_untar(struct files_job *job, struct err *e);          /* files_untar.c */

#endif
