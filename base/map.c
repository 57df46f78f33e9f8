#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

enum { FIRST_CAP = 16 };

/* FNV-1a, 64 bits. It does not withstand keys made to collide: our keys are ids that we make, and the keys of
 * operators, who may use up our time in other ways too. */
static uint64_t hash_of(const char *key)
{
    uint64_t h = 0xcbf29ce484222325U;

    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * 0x100000001b3U;
    return h;
}

/* The slot that holds the key, or the free one where it would be. There always is a free one. */
static size_t find(const struct map *m, const char *key, uint64_t hash)
{
    size_t i = hash & (m->cap - 1);

    while (m->slots[i].key && (m->slots[i].hash != hash || strcmp(m->slots[i].key, key) != 0))
        i = (i + 1) & (m->cap - 1);
    return i;
}

static void grow(struct map *m)
{
    struct map bigger = {.cap = m->cap ? 2 * m->cap : FIRST_CAP, .n = m->n};

    bigger.slots = xcalloc(bigger.cap, sizeof(*bigger.slots));
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].key)
            bigger.slots[find(&bigger, m->slots[i].key, m->slots[i].hash)] = m->slots[i];
    free(m->slots);
    *m = bigger;
}

void map_put(struct map *m, const char *key, void *value)
{
    uint64_t hash = hash_of(key);

    if (2 * (m->n + 1) > m->cap)
        grow(m);
    struct map_slot *s = &m->slots[find(m, key, hash)];
    if (!s->key) {
        *s = (struct map_slot){.key = key, .hash = hash};
        m->n++;
    }
    s->value = value;
}

void *map_get(const struct map *m, const char *key)
{
    return m->cap ? m->slots[find(m, key, hash_of(key))].value : NULL;
}

void map_remove(struct map *m, const char *key)
{
    size_t mask = m->cap - 1, gap = m->cap ? find(m, key, hash_of(key)) : 0;

    if (!m->cap || !m->slots[gap].key)
        return;
    /* What follows moves up into the gap, unless its own place lies behind the gap: no search may end too early. */
    for (size_t i = (gap + 1) & mask; m->slots[i].key; i = (i + 1) & mask) {
        if (((i - m->slots[i].hash) & mask) < ((i - gap) & mask))
            continue;
        m->slots[gap] = m->slots[i];
        gap = i;
    }
    m->slots[gap] = (struct map_slot){0};
    m->n--;
}

void map_free(struct map *m)
{
    free(m->slots);
    *m = (struct map){0};
}
