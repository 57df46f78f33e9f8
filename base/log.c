#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

/* Set once at the start of each process, read-only afterwards. */
static const char *proc_name = "cloisterd";
static enum log_level least = LOG_LEVEL_INFO;

void log_init(const char *proc, enum log_level level)
{
    proc_name = proc;
    least = level;
}

static void put_escaped(struct buf *b, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            buf_printf(b, "\\x%02x", c);
        else
            buf_append(b, s, 1);
    }
}

void log_line(enum log_level level, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    _cleanup_buf_ struct buf b = {0};
    char message[1024], when[CLOCK_TEXT];
    va_list ap;

    if (level > least)
        return;
    va_start(ap, fmt);
    vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    clock_format(clock_real_ns(), when);
    buf_printf(&b, "time=%s level=%s proc=%s msg=\"", when, names[level], proc_name);
    put_escaped(&b, message);
    buf_puts(&b, "\"\n");
    if (write(STDERR_FILENO, b.data, b.len) < 0)
        return; /* nowhere left to say it */
}
