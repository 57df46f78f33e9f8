#include "base/footprint.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { GAP_STEP = 16, GAP_MAX = 2048, GAPS = 256, TOP = 4096, STACK = 128 << 10 };

void footprint_close_gaps(void)
{
#ifndef __SANITIZE_ADDRESS__ /* its heap is another, and calls lost what is never freed */
    void *top = malloc(TOP), *p = NULL;

    for (size_t size = GAP_MAX; size > 0; size -= GAP_STEP) {
        for (int n = 0; n < GAPS && (p = malloc(size)) && (uintptr_t)p < (uintptr_t)top; n++)
            p = NULL;
        free(p);
    }
    free(top);
#endif
}

void footprint_trim(void)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t end = ((uintptr_t)__builtin_frame_address(0) & ~(page - 1)) - page;

    malloc_trim(0);
    /* Pages that are touched again are new ones (madvise(2)). What of the range is not mapped is skipped. */
    madvise((void *)(end - STACK), STACK, MADV_DONTNEED);
}
