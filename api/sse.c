#include "api/sse.h"

#include <string.h>

void sse_record(struct buf *b, const char *id, const char *event, const char *data)
{
    if (id)
        buf_printf(b, "id: %s\n", id);
    if (event)
        buf_printf(b, "event: %s\n", event);
    for (const char *line = data;; line++) {
        size_t n = strcspn(line, "\r\n");

        buf_puts(b, "data: ");
        buf_append(b, line, n);
        buf_puts(b, "\n");
        line += n;
        if (line[0] == '\r' && line[1] == '\n')
            line++;
        if (!*line)
            break;
    }
    buf_puts(b, "\n");
}

void sse_ping(struct buf *b)
{
    buf_puts(b, ": ping\n\n");
}
