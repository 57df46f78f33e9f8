/* UTF-8 (RFC 3629). */
#ifndef CLOISTER_BASE_UTF8_H
#define CLOISTER_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Length of the valid sequence at p (1-4), or 0: overlong forms, surrogates and values beyond U+10FFFF are invalid. */
size_t utf8_sequence(const unsigned char *p, size_t left);
/* Valid UTF-8 throughout, without NUL. */
bool utf8_is_text(const char *s, size_t len);
/* Each byte that is part of no valid sequence becomes '?': for what goes into JSON, which has no other place for it. */
void utf8_repair(char *s);

#endif
