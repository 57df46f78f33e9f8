/* How often things took how long, in buckets of fixed bounds: what a Prometheus histogram wants. */
#ifndef CLOISTER_BASE_HISTOGRAM_H
#define CLOISTER_BASE_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BOUNDS = 15 };

extern const double histogram_bounds[HISTOGRAM_BOUNDS]; /* seconds, rising: upper bounds, inclusive */

struct histogram {                        /* zeroed: empty */
    uint64_t count[HISTOGRAM_BOUNDS + 1]; /* of each bucket alone; the last is beyond all bounds */
    double sum;                           /* seconds */
};

void histogram_add(struct histogram *h, int64_t ns);

#endif
