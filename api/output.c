#include "api/output.h"

#include "api/common.h"

#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/utf8.h"
#include "tasks/logfile.h"

enum { OUTPUT_MAX = 1 << 20 };

/* True when there was more than fits. */
static bool read_stream(const char *dir, const char *stream, struct buf *b)
{
    struct logfile f;
    char chunk[16384];
    ssize_t n = 0;

    logfile_init(&f, dir, stream);
    while (b->len < OUTPUT_MAX && (n = logfile_read(&f, chunk, sizeof(chunk))) > 0)
        buf_append(b, chunk, (size_t)n);
    logfile_close(&f);
    bool more = b->len > OUTPUT_MAX || n > 0;
    if (b->len > OUTPUT_MAX) {
        b->len = OUTPUT_MAX;
        b->data[b->len] = '\0';
    }
    return more;
}

static char *base64(const struct buf *b)
{
    struct buf out = {0};

    base64_encode(&out, b->data, b->len);
    return buf_take(&out, NULL);
}

struct json *output_of(const char *dir)
{
    static const char *const streams[] = {"stdout", "stderr"};
    struct buf b[2] = {{0}, {0}};
    struct json *j = json_object();
    bool truncated = false, text = true;

    for (int i = 0; i < 2; i++) {
        truncated |= read_stream(dir, streams[i], &b[i]);
        text = text && utf8_is_text(b[i].data, b[i].len);
    }
    for (int i = 0; i < 2; i++) {
        char *value = text ? xstrdup(b[i].data ? b[i].data : "") : base64(&b[i]);

        json_set_string(j, streams[i], value);
        free(value);
        buf_free(&b[i]);
    }
    json_set_string(j, "encoding", text ? "utf-8" : "base64");
    json_set_bool(j, "truncated", truncated);
    return j;
}

struct json *output_view(struct registry *r, const struct task *t)
{
    char dir[256];

    logs_path(r, t->id, dir, sizeof(dir));
    return output_of(dir);
}
