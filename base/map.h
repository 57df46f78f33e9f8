/* A hash table from strings to pointers: open addressing, linear probing, at most half full. Find, put and remove take
 * constant time on average. */
#ifndef CLOISTER_BASE_MAP_H
#define CLOISTER_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map_slot {
    const char *key; /* NULL: free */
    void *value;
    uint64_t hash;
};

struct map { /* zeroed: empty */
    struct map_slot *slots;
    size_t cap, n; /* cap is a power of two, or 0 */
};

/* Borrows key, which must stay as it is until it is removed. A key that is there gets the new value and keeps its
 * text. value is not NULL. */
void map_put(struct map *m, const char *key, void *value);
void *map_get(const struct map *m, const char *key); /* NULL when it is not there */
void map_remove(struct map *m, const char *key);     /* nothing when it is not there */
void map_free(struct map *m);                        /* keys and values stay the caller's */

#endif
