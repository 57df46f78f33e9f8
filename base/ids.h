/* User and group ids in a range of the host's that stands for a task's own (user_namespaces(7)). */
#ifndef CLOISTER_BASE_IDS_H
#define CLOISTER_BASE_IDS_H

#include <stdint.h>

enum { IDS_RANGE = 65536, IDS_NOBODY = 65534 };

/* The id that stands for id in the range from base on; base 0: id itself. One beyond the range is nobody's. */
static inline uint32_t ids_shift(uint32_t base, uint32_t id)
{
    return base == 0 ? id : base + (id < IDS_RANGE ? id : IDS_NOBODY);
}

#endif
