#include "base/utf8.h"

#include <string.h>

size_t utf8_sequence(const unsigned char *p, size_t left)
{
    unsigned char c = left ? *p : 0xff;
    size_t more = c < 0x80 ? 0 : c < 0xc2 ? 9 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf5 ? 3 : 9;
    unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;

    if (more >= left)
        return 0;
    for (size_t i = 1; i <= more; i++) {
        if (p[i] < low || p[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return more + 1;
}

bool utf8_is_text(const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s;

    while (len > 0) {
        size_t n = *p ? utf8_sequence(p, len) : 0;

        if (n == 0)
            return false;
        p += n;
        len -= n;
    }
    return true;
}

void utf8_repair(char *s)
{
    size_t left = strlen(s);

    while (left > 0) {
        size_t n = utf8_sequence((const unsigned char *)s, left);

        if (n == 0) {
            *s = '?';
            n = 1;
        }
        s += n;
        left -= n;
    }
}
