#include "base/footprint.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { GAP_STEP = 16, GAP_MAX = 2048, TOP = 4096, STACK = 128 << 10 };

void footprint_close_gaps(void)
{
    void *top = malloc(TOP), *p;

    for (size_t size = GAP_MAX; size > 0; size -= GAP_STEP) {
        do
            p = malloc(size);
        while (p && (uintptr_t)p < (uintptr_t)top);
        free(p);
    }
    free(top);
}

void footprint_trim(void)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t end = ((uintptr_t)__builtin_frame_address(0) & ~(page - 1)) - page;

    malloc_trim(0);
    /* Pages that are touched again are new ones (madvise(2)). What of the range is not mapped is skipped. */
    madvise((void *)(end - STACK), STACK, MADV_DONTNEED);
}
