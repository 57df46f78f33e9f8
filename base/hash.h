/* SHA-256 through nettle: the only file that includes it is hash.c. */
#ifndef CLOISTER_BASE_HASH_H
#define CLOISTER_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>

/* Lower-case hex of the SHA-256 of data. */
void hash_sha256_hex(const void *data, size_t len, char out[65]);
/* Compares two texts in time that depends on their lengths only. */
bool hash_equal(const char *a, const char *b);

#endif
