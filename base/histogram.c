#include "base/histogram.h"

const double histogram_bounds[HISTOGRAM_BOUNDS] = {
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10,
};

void histogram_add(struct histogram *h, int64_t ns)
{
    double seconds = (double)(ns > 0 ? ns : 0) / 1e9;
    int i = 0;

    while (i < HISTOGRAM_BOUNDS && seconds > histogram_bounds[i])
        i++;
    h->count[i]++;
    h->sum += seconds;
}
