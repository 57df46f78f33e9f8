#include "base/hash.h"

#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>

void hash_sha256_hex(const void *data, size_t len, char out[65])
{
    struct sha256_ctx c;
    uint8_t digest[SHA256_DIGEST_SIZE];

    sha256_init(&c);
    sha256_update(&c, len, data);
    sha256_digest(&c, sizeof(digest), digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void hash_sha1(const void *data, size_t len, unsigned char out[20])
{
    struct sha1_ctx c;

    sha1_init(&c);
    sha1_update(&c, len, data);
    sha1_digest(&c, SHA1_DIGEST_SIZE, out);
}

bool hash_equal(const char *a, const char *b)
{
    size_t n = strlen(a);
    unsigned difference = 0;

    if (n != strlen(b))
        return false;
    for (size_t i = 0; i < n; i++)
        difference |= (unsigned char)a[i] ^ (unsigned char)b[i];
    return difference == 0;
}
