/* What a process that waits for long costs in memory of its own. */
#ifndef CLOISTER_BASE_FOOTPRINT_H
#define CLOISTER_BASE_FOOTPRINT_H

/* For a process that forks many: takes the gaps that its own start has left in the heap, for good. What children
 * allocate then lies together, and does not make pages here and there their own: fork(2) shares them until they are
 * written to. */
void footprint_close_gaps(void);
/* Gives back what is free of the heap (malloc_trim(3)) and of the stack below the caller's frame. */
void footprint_trim(void);

#endif
