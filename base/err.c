#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

void err_terminate(struct err *e)
{
    e->code[sizeof(e->code) - 1] = e->step[sizeof(e->step) - 1] = '\0';
    e->pointer[sizeof(e->pointer) - 1] = e->detail[sizeof(e->detail) - 1] = '\0';
}

const char *err_errno_name(int errnum)
{
    const char *name = strerrorname_np(errnum);

    return name ? name : "E?";
}

/* Replies must stay UTF-8: a text that filled its array may have been cut within a character, and a caller's or a
 * file's text in it may be anything. */
static void make_text(char *s, size_t size)
{
    size_t n = strlen(s), tail = n;

    if (n + 1 == size) {
        while (tail > 0 && n - tail < 4 && ((unsigned char)s[tail - 1] & 0xc0) == 0x80)
            tail--;
        if (tail > 0 && (unsigned char)s[tail - 1] >= 0xc0 &&
            !utf8_sequence((unsigned char *)s + tail - 1, n - tail + 1))
            s[tail - 1] = '\0';
    }
    utf8_repair(s);
}

__attribute__((format(printf, 4, 0))) static void fill(struct err *e, int status, const char *code, const char *fmt,
                                                       va_list ap)
{
    memset(e, 0, sizeof(*e));
    e->status = status;
    snprintf(e->code, sizeof(e->code), "%s", code);
    vsnprintf(e->detail, sizeof(e->detail), fmt, ap);
    make_text(e->detail, sizeof(e->detail));
}

int err_set(struct err *e, int status, const char *code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fill(e, status, code, fmt, ap);
    va_end(ap);
    return -1;
}

int err_field(struct err *e, const char *pointer, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fill(e, 422, "invalid_field", fmt, ap);
    va_end(ap);
    snprintf(e->pointer, sizeof(e->pointer), "%s", pointer);
    make_text(e->pointer, sizeof(e->pointer));
    return -1;
}

int err_step(struct err *e, const char *step, int errnum, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fill(e, 500, "isolation_failed", fmt, ap);
    va_end(ap);
    e->errnum = errnum;
    snprintf(e->step, sizeof(e->step), "%s", step);
    if (errnum) {
        size_t len = strlen(e->detail);
        snprintf(e->detail + len, sizeof(e->detail) - len, ": %s", err_errno_name(errnum));
    }
    return -1;
}
