/* What the handlers of /v1/tasks/{id}/files share. */
#ifndef CLOISTER_API_FILES_H
#define CLOISTER_API_FILES_H

#include "api/common.h"
#include "tasks/files.h"

/* The path of the request ("" without one) into r. 404 when it is too long. */
int files_path(const struct request *q, struct files_request *r, struct err *e);
/* Whether format=tar is asked for; 400 for another. */
int files_format(const struct request *q, bool *tar, struct err *e);
/* Headers and body of a regular file, whole or in part; fd stays the caller's, who reads *first to *end of it when
 * true; else the reply has been given. */
bool file_reply_begins(struct request *q, int fd, int *status, const char **type, uint64_t *first, uint64_t *end);

#endif
