#include "base/base64.h"

#include <stdint.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buf *b, const void *data, size_t len)
{
    const unsigned char *p = data;

    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
                        left > 2 ? digits[v & 63] : '='};

        buf_append(b, four, 4);
    }
}

static int value(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

int base64_decode(struct buf *b, const char *text, size_t len)
{
    size_t pad = len > 0 && text[len - 1] == '=' ? (len > 1 && text[len - 2] == '=' ? 2 : 1) : 0;

    if (len % 4 != 0)
        return -1;
    for (size_t i = 0; i < len; i += 4) {
        size_t n = i + 4 == len ? 4 - pad : 4;
        uint32_t v = 0;

        for (size_t k = 0; k < 4; k++) {
            int d = k < n ? value(text[i + k]) : 0;

            if (d < 0)
                return -1;
            v = v << 6 | (uint32_t)d;
        }
        char three[3] = {(char)(v >> 16), (char)(v >> 8), (char)v};
        buf_append(b, three, n - 1);
    }
    return 0;
}

int base64url_decode(struct buf *b, const char *text, size_t len)
{
    _cleanup_buf_ struct buf plain = {0};

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '+' || c == '/' || c == '=')
            return -1;
        c = (char)(c == '-' ? '+' : c == '_' ? '/' : c);
        buf_append(&plain, &c, 1);
    }
    while (plain.len % 4 != 0)
        buf_append(&plain, "=", 1);
    return base64_decode(b, plain.data, plain.len);
}
