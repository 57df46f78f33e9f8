/* Small things that several handlers need. */
#ifndef CLOISTER_API_COMMON_H
#define CLOISTER_API_COMMON_H

#include "api/api.h"

/* With all that has changed made durable (registry_settle). */
struct registry *request_registry(const struct request *q);
/* For changes that are answered when they are stored: many share the commit at the end of the turn. */
struct registry *unsettled_registry(const struct request *q);
/* The task of {id}, or NULL after a 404 has been replied. */
struct task *request_task(struct request *q);
/* "true"/"false" (absent: false); 400 code invalid_parameter. */
int query_bool(const struct request *q, const char *name, bool *out, struct err *e);
/* A whole number in [min, max]; absent: leaves *out. */
int query_int(const struct request *q, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e);
/* A duration, or whole seconds, in ms; absent: leaves *out. */
int query_duration(const struct request *q, const char *name, int64_t *out, struct err *e);
/* 400 for a query parameter, or a header. Returns -1. */
int bad_parameter(struct err *e, const char *name, const char *value);
int bad_header(struct err *e, const char *name, const char *value);
/* The body as an object; an empty one gives an empty object when `optional`. NULL with e. */
struct json *body_object(const struct request *q, bool optional, struct err *e);
/* 422 naming the first member whose name is neither a nor b ("" is none). */
int only_fields(const struct json *j, const char *a, const char *b, struct err *e);
/* Sets Cloister-Event-Seq: events after it tell of all changes after this reply's. */
void tell_event_seq(struct request *q);
/* Sets ETag and, when If-None-Match names it, replies 304 and returns true. */
bool not_modified(struct request *q, int64_t version);
/* RFC 9110 section 13.1.1; 412. */
int check_if_match(const struct request *q, int64_t version, struct err *e);

/* Directory of a task's log segments. */
void logs_path(struct registry *r, const char *id, char *out, size_t n);

#endif
