/* A task's whole output as JSON, for the reply of wait=exited&output=true. */
#ifndef CLOISTER_API_OUTPUT_H
#define CLOISTER_API_OUTPUT_H

#include "api/api.h"

/* {stdout, stderr, encoding, truncated}: at most 1 MiB each, base64 when either is no UTF-8. Caller frees. */
struct json *output_view(struct registry *r, const struct task *t);
/* The same for a directory of log segments. */
struct json *output_of(const char *dir);

#endif
