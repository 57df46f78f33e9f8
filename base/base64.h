/* Base64 (RFC 4648, sections 4 and 5). */
#ifndef CLOISTER_BASE_BASE64_H
#define CLOISTER_BASE_BASE64_H

#include "base/buf.h"

/* Appends the encoded bytes. */
void base64_encode(struct buf *b, const void *data, size_t len);
/* Appends the decoded bytes. -1 when text is not base64 with its padding; b then holds a part. */
int base64_decode(struct buf *b, const char *text, size_t len);
/* The same of the alphabet that is safe in URLs and tokens, without padding (section 5). */
int base64url_decode(struct buf *b, const char *text, size_t len);

#endif
