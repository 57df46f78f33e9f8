/* Clocks, durations and times as text. */
#ifndef CLOISTER_BASE_CLOCK_H
#define CLOISTER_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

enum { CLOCK_TEXT = 40 };

int64_t clock_real_ns(void); /* CLOCK_REALTIME, ns since the epoch */
int64_t clock_mono_ms(void); /* CLOCK_BOOTTIME, ms */
int64_t clock_mono_ns(void); /* CLOCK_MONOTONIC, ns: for measuring */
/* RFC 3339 with nanoseconds and Z. */
void clock_format(int64_t real_ns, char out[CLOCK_TEXT]);
/* An RFC 3339 time ("2026-11-27T14:03:19.35Z", any offset) to ns since the epoch. 0, or -1 when it is none. */
int clock_parse(const char *text, int64_t *real_ns);
/* "500ms", "5s", "1.5h", "1h30m" (units ns us ms s m h, Go's time.ParseDuration) to ms. 0, or -1 when it is none,
 * negative, or beyond ten years. */
int duration_parse(const char *text, int64_t *ms);
/* The shortest form that duration_parse reads back: "5s", "1h30m", "250ms". */
void duration_format(int64_t ms, char out[CLOCK_TEXT]);

#endif
