#include "base/id.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

void id_new(char out[ID_LEN + 1])
{
    uint8_t b[16];
    uint64_t ns = (uint64_t)clock_real_ns();
    uint64_t ms = ns / 1000000;

    if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
        abort(); /* ids that are not random would collide */
    for (int i = 0; i < 6; i++)
        b[i] = (uint8_t)(ms >> (40 - 8 * i));
    /* rand_a holds the fraction of the millisecond (RFC 9562, 6.2, method 3): ids sort within it too. */
    uint64_t fraction = (ns % 1000000) * 4096 / 1000000;
    b[6] = (uint8_t)(0x70 | (fraction >> 8));
    b[7] = (uint8_t)fraction;
    b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));
    char *p = out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        p += snprintf(p, 3, "%02x", b[i]);
    }
}

bool id_valid(const char *s)
{
    static const char form[] = "xxxxxxxx-xxxx-7xxx-yxxx-xxxxxxxxxxxx";

    if (!s || strnlen(s, ID_LEN + 1) != ID_LEN)
        return false;
    for (int i = 0; i < ID_LEN; i++) {
        const char *allowed = form[i] == 'x' ? "0123456789abcdef" : form[i] == 'y' ? "89ab" : NULL;

        if (allowed ? !strchr(allowed, s[i]) : s[i] != form[i])
            return false;
    }
    return true;
}
