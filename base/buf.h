/* A growing byte buffer, always NUL-terminated after its last byte. Aborts the process when memory is out. */
#ifndef CLOISTER_BASE_BUF_H
#define CLOISTER_BASE_BUF_H

#include <stddef.h>

struct buf {
    char *data; /* NULL while empty and never grown */
    size_t len;
    size_t cap;
};

void buf_append(struct buf *b, const void *data, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Releases the memory; the buffer is empty and usable again. */
void buf_free(struct buf *b);
/* Hands the memory (NUL-terminated, never NULL) to the caller, who frees it; *len may be NULL. */
char *buf_take(struct buf *b, size_t *len);

/* malloc family that aborts when memory is out; results are freed with free(). */
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define _cleanup_buf_ __attribute__((cleanup(buf_free)))

#endif
