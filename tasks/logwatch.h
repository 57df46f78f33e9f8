/* Tells when a log grows: one inotify(7) instance for all, one watch for all who follow the same directory. */
#ifndef CLOISTER_TASKS_LOGWATCH_H
#define CLOISTER_TASKS_LOGWATCH_H

#include <stdbool.h>

#include "base/loop.h"

struct logwatch;
struct logwatcher;

/* After bytes have come; names: files have come or gone too. It must not call logwatch_remove. */
typedef void (*logwatch_fn)(void *arg, bool names);

struct logwatch *logwatch_new(struct loop *l);
void logwatch_free(struct logwatch *w); /* after all watchers have been removed; NULL is allowed */
/* Changes after the call are told; several within a few ms at once. NULL with errno (ENOENT: no directory yet; EMFILE,
 * ENOSPC: the limits of inotify(7)): then the caller has to look for itself. */
struct logwatcher *logwatch_add(struct logwatch *w, const char *dir, logwatch_fn fn, void *arg);
void logwatch_remove(struct logwatcher *x); /* NULL is allowed */

#endif
