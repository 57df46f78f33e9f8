/* The headers of a file's contents: type, validators, ranges (RFC 9110). */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/files.h"
#include "api/log_position.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/utf8.h"

enum { SAMPLE = 4096, TAG_MAX = 80 };
static const int64_t NS_PER_S = 1000000000;

/* Text when its begin is UTF-8 without NUL, but for a character that the sample cuts. No browser is to find a page or a
 * script in it: nosniff is set on every reply. */
static const char *type_of(int fd)
{
    char sample[SAMPLE];
    ssize_t n = pread(fd, sample, sizeof(sample), 0);
    size_t len = n > 0 ? (size_t)n : 0;

    for (size_t cut = 0; cut < 4 && cut <= len; cut++)
        if ((cut == 0 || len == SAMPLE) && utf8_is_text(sample, len - cut))
            return "text/plain; charset=utf-8";
    return "application/octet-stream";
}

/* A name for whoever saves it, in the one form that needs no quoting (RFC 8187). */
static void set_name(struct request *q)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    const char *path = request_param(q, 1), *slash = strrchr(path, '/');
    struct buf b = {0};

    buf_puts(&b, "attachment; filename*=UTF-8''");
    for (const char *p = slash ? slash + 1 : path; *p; p++)
        if (strchr(plain, *p))
            buf_append(&b, p, 1);
        else
            buf_printf(&b, "%%%02X", (unsigned char)*p);
    reply_header(q, "Content-Disposition", b.data);
    buf_free(&b);
}

/* ETag and Last-Modified; true when If-None-Match names the former. It tells contents by the time of their last change,
 * which tasks cannot set. A change within the kernel's tick would not show, so until a second after one it is weak
 * (RFC 9110, 8.8.1), and If-Range does not match: nor does it a date, which has whole seconds. */
static bool set_validators(struct request *q, const struct stat *st, char tag[TAG_MAX])
{
    const char *have = request_header(q, "If-None-Match");
    bool settled = clock_real_ns() - (st->st_ctim.tv_sec * NS_PER_S + st->st_ctim.tv_nsec) >= NS_PER_S;
    char text[80];
    struct tm tm;

    gmtime_r(&st->st_mtim.tv_sec, &tm);
    strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    reply_header(q, "Last-Modified", text);
    int weak = snprintf(tag, TAG_MAX, "%s", settled ? "" : "W/");
    snprintf(tag + weak, TAG_MAX - (size_t)weak, "\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 "%08lx\"", (uint64_t)st->st_ino,
             (uint64_t)st->st_size, (uint64_t)st->st_ctim.tv_sec, (unsigned long)st->st_ctim.tv_nsec);
    reply_header(q, "ETag", tag);
    return have && (strstr(have, tag + weak) || strcmp(have, "*") == 0);
}

bool file_reply_begins(struct request *q, int fd, int *status, const char **type, uint64_t *first, uint64_t *end)
{
    struct log_range part;
    struct err e = {0};
    struct stat st;
    char text[80], tag[TAG_MAX];

    if (fstat(fd, &st) < 0) {
        err_set(&e, 500, "file_failed", "the file cannot be examined");
        reply_problem(q, &e);
        return false;
    }
    uint64_t size = (uint64_t)st.st_size;
    if (set_validators(q, &st, tag)) {
        reply_empty(q, 304);
        return false;
    }
    reply_header(q, "Accept-Ranges", "bytes");
    int rc = log_range(q, 0, size, tag[0] == '"' ? tag : NULL, &part, &e);
    if (rc < 0) {
        snprintf(text, sizeof(text), "bytes */%" PRIu64, size);
        reply_header(q, "Content-Range", text);
        reply_problem(q, &e);
        return false;
    }
    set_name(q);
    *status = rc > 0 ? 206 : 200;
    *type = type_of(fd);
    *first = rc > 0 ? part.first : 0;
    *end = rc > 0 ? part.last + 1 : size;
    if (rc > 0) {
        snprintf(text, sizeof(text), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, part.first, part.last, size);
        reply_header(q, "Content-Range", text);
    }
    return true;
}
