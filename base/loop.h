/* The event loop: one epoll instance, fds and timers. Single-threaded. */
#ifndef CLOISTER_BASE_LOOP_H
#define CLOISTER_BASE_LOOP_H

#include <stdint.h>

#include "base/err.h"
#include "base/histogram.h"

struct loop;
struct loop_source;
typedef void (*loop_fn)(void *arg, uint32_t events); /* events: EPOLL*; 0 for a timer */

struct loop *loop_new(struct err *e); /* NULL on error (status 500) */
void loop_free(struct loop *l);
/* Watches fd (not owned). Returns NULL with errno set on failure. Valid until loop_remove. */
struct loop_source *loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fn fn, void *arg);
/* Changes what a source of loop_add_fd waits for. 0, or -1 with errno. */
int loop_set_events(struct loop_source *s, uint32_t events);
/* One shot after ms milliseconds of CLOCK_BOOTTIME; the source is released by the loop after fn has run. */
struct loop_source *loop_add_timer(struct loop *l, int64_t ms, loop_fn fn, void *arg);
/* Safe from within any callback, also its own; NULL is allowed. A fired timer must not be removed again. */
void loop_remove(struct loop_source *s);
/* fn runs before every wait and returns how many ms the wait may last at most (-1: no bound). */
void loop_set_prepare(struct loop *l, int64_t (*fn)(void *arg), void *arg);
/* How long the turns took, from the end of a wait to the next: so long an event may have to wait for its turn. */
const struct histogram *loop_turns(const struct loop *l);
/* Runs until loop_stop; returns its code. */
int loop_run(struct loop *l);
/* What is ready and due now, without waiting: for work that takes long between two waits. */
void loop_poll(struct loop *l);
/* One turn of loop_run, with its wait: for work that has to wait for something in between. Both may be called from a
 * callback. */
void loop_step(struct loop *l);
void loop_stop(struct loop *l, int code);

#endif
