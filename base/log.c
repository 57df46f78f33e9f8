#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* Set once at the start of each process, read-only afterwards. */
static const char *proc_name = "cloisterd";
static enum log_level least = LOG_LEVEL_INFO;

void log_init(const char *proc)
{
    proc_name = proc;
}

int log_set_level(const char *name)
{
    for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++)
        if (strcmp(level_names[i], name) == 0) {
            least = (enum log_level)i;
            return 0;
        }
    return -1;
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
    _cleanup_buf_ struct buf b = {0};
    char message[1024], when[CLOCK_TEXT];
    va_list ap;

    if (level > least)
        return;
    va_start(ap, fmt);
    vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    clock_format(clock_real_ns(), when);
    buf_printf(&b, "time=%s level=%s proc=%s msg=\"", when, level_names[level], proc_name);
    put_escaped(&b, message);
    buf_puts(&b, "\"\n");
    if (write(STDERR_FILENO, b.data, b.len) < 0)
        return; /* nowhere left to say it */
}
