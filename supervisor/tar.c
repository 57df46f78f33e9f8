#include "supervisor/tar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(f) (f), sizeof(f)

/* 0 for what is no octal number; base-256 (GNU's) is read too. */
static uint64_t read_number(const char *field, size_t n)
{
    uint64_t v = 0;

    if ((unsigned char)field[0] & 0x80) { /* base-256 */
        v = (unsigned char)field[0] & 0x3f;
        for (size_t i = 1; i < n; i++)
            v = v << 8 | (unsigned char)field[i];
        return v;
    }
    for (size_t i = 0; i < n && (field[i] == ' ' || (field[i] >= '0' && field[i] <= '7')); i++)
        if (field[i] != ' ')
            v = v << 3 | (uint64_t)(field[i] - '0');
    return v;
}

static unsigned int checksum(const struct tar_header *h)
{
    const unsigned char *p = (const unsigned char *)h;
    size_t from = offsetof(struct tar_header, checksum);
    unsigned int sum = 0;

    for (size_t i = 0; i < sizeof(*h); i++)
        sum += i >= from && i < from + sizeof(h->checksum) ? ' ' : p[i];
    return sum;
}

static void put_number(char *field, size_t n, uint64_t v)
{
    if (v >> (3 * (n - 1)))
        v = 0; /* a pax header tells it */
    field[n - 1] = '\0';
    for (size_t i = n - 1; i-- > 0; v >>= 3)
        field[i] = (char)('0' + (v & 7));
}

static void put_text(char *field, size_t n, const char *text)
{
    size_t len = strlen(text);

    memcpy(field, text, len < n ? len : n);
}

void tar_fill(struct tar_header *h, const struct tar_entry *e)
{
    memset(h, 0, sizeof(*h));
    put_text(FIELD(h->name), e->path);
    put_text(FIELD(h->link), e->link);
    put_number(FIELD(h->mode), e->mode);
    put_number(FIELD(h->uid), e->uid);
    put_number(FIELD(h->gid), e->gid);
    put_number(FIELD(h->size), e->size);
    put_number(FIELD(h->mtime), e->mtime > 0 ? (uint64_t)e->mtime : 0);
    h->type = e->type;
    memcpy(h->magic, "ustar", 6);
    memcpy(h->version, "00", 2);
    put_number(FIELD(h->major), 0);
    put_number(FIELD(h->minor), 0);
    put_number(h->checksum, 7, checksum(h));
    h->checksum[7] = ' ';
}

bool tar_parse(const struct tar_header *h, struct tar_entry *e)
{
    if (memcmp(h->magic, "ustar", 5) != 0 || read_number(FIELD(h->checksum)) != checksum(h))
        return false;
    /* In GNU's own format other things are where the prefix is. */
    bool prefix = h->prefix[0] && !h->magic[5];
    snprintf(e->path, sizeof(e->path), "%.*s%s%.*s", prefix ? (int)sizeof(h->prefix) : 0, h->prefix, prefix ? "/" : "",
             (int)sizeof(h->name), h->name);
    snprintf(e->link, sizeof(e->link), "%.*s", (int)sizeof(h->link), h->link);
    e->type = h->type ? h->type : (char)TAR_FILE;
    e->mode = (uint32_t)read_number(FIELD(h->mode));
    e->size = read_number(FIELD(h->size));
    e->uid = read_number(FIELD(h->uid));
    e->gid = read_number(FIELD(h->gid));
    e->mtime = (int64_t)read_number(FIELD(h->mtime));
    return true;
}

static int take(const char *key, size_t nkey, const char *value, size_t len, struct tar_entry *e, bool *has_size)
{
    char number[24];
    char *text = nkey == 4 && memcmp(key, "path", 4) == 0       ? e->path
                 : nkey == 8 && memcmp(key, "linkpath", 8) == 0 ? e->link
                                                                : NULL;

    if (text) {
        if (len >= PATH_MAX || memchr(value, 0, len))
            return -1;
        memcpy(text, value, len);
        text[len] = '\0';
        return 0;
    }
    bool size = nkey == 4 && memcmp(key, "size", 4) == 0, mtime = nkey == 5 && memcmp(key, "mtime", 5) == 0;
    if (!size && !mtime)
        return 0; /* owners and what others have added is not taken over */
    snprintf(number, sizeof(number), "%.*s", (int)(len < sizeof(number) ? len : sizeof(number) - 1), value);
    if (mtime)
        e->mtime = strtoll(number, NULL, 10);
    else
        e->size = strtoull(number, NULL, 10);
    *has_size = *has_size || size;
    return 0;
}

int tar_parse_pax(const char *text, size_t len, struct tar_entry *e, bool *has_size)
{
    while (len > 0) { /* "LENGTH KEY=VALUE\n", where LENGTH counts all of it */
        size_t digits = 0, record = 0;

        while (digits < len && digits < 7 && text[digits] >= '0' && text[digits] <= '9')
            record = record * 10 + (size_t)(text[digits++] - '0');
        if (digits == 0 || record <= digits + 2 || record > len || text[digits] != ' ' || text[record - 1] != '\n')
            return -1;
        const char *key = text + digits + 1, *end = text + record - 1;
        const char *equals = memchr(key, '=', (size_t)(end - key));
        if (!equals || take(key, (size_t)(equals - key), equals + 1, (size_t)(end - equals - 1), e, has_size) < 0)
            return -1;
        text += record;
        len -= record;
    }
    return 0;
}
