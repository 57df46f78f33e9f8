/* SHA-256, and SHA-1 where a protocol wants it, through nettle: the only file that includes it is hash.c. */
#ifndef CLOISTER_BASE_HASH_H
#define CLOISTER_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>

/* Lower-case hex of the SHA-256 of data. */
void hash_sha256_hex(const void *data, size_t len, char out[65]);
/* SHA-1 of data: no protection, but what the handshake of RFC 6455 is made of. */
void hash_sha1(const void *data, size_t len, unsigned char out[20]);
/* Compares two texts in time that depends on their lengths only. */
bool hash_equal(const char *a, const char *b);

#endif
