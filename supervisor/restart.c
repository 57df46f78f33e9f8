#include "supervisor/restart.h"

static int64_t next_delay(const struct restart_policy *p, struct restart_history *h)
{
    int64_t delay = p->delay_ms;

    if (h->count > 1 && p->delay_function == DELAY_EXPONENTIAL)
        delay = h->last * 2;
    else if (h->count > 1 && p->delay_function == DELAY_FIBONACCI)
        delay = h->last + h->previous;
    if (p->delay_function != DELAY_CONSTANT && delay > p->max_delay_ms)
        delay = p->max_delay_ms;
    h->previous = h->count > 1 ? h->last : 0;
    h->last = delay;
    return delay;
}

bool restart_decide(const struct restart_policy *p, struct restart_history *h, int64_t now_ms, bool failed,
                    uint32_t random, int64_t *delay_ms)
{
    if (p->attempts == 0 || (!failed && p->condition == RESTART_ON_FAILURE))
        return false;
    if (h->count == 0 || now_ms - h->interval_start >= p->interval_ms)
        *h = (struct restart_history){.interval_start = now_ms};
    h->count++;
    if (h->count > p->attempts) {
        if (p->mode == RESTART_FAIL)
            return false;
        *delay_ms = h->interval_start + p->interval_ms - now_ms;
        *h = (struct restart_history){0};
    } else {
        *delay_ms = next_delay(p, h);
    }
    *delay_ms += (int64_t)((double)*delay_ms / 4 * random / UINT32_MAX);
    return true;
}
