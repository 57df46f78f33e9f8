/* The forms of the operator's options: id ranges, network modes, names and subnets; what the operator has named. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/ids.h"
#include "isolation/policy.h"

/* Strict decimal of 32 bits at *text, which is moved behind it. */
static int parse_id(const char **text, uint32_t *id)
{
    const char *s = *text;
    uint64_t v = 0;

    if (*s < '0' || *s > '9')
        return -1;
    for (; *s >= '0' && *s <= '9'; s++) {
        v = v * 10 + (uint64_t)(*s - '0');
        if (v > UINT32_MAX)
            return -1;
    }
    *text = s;
    *id = (uint32_t)v;
    return 0;
}

static void skip_spaces(const char **text)
{
    while (**text == ' ' || **text == '\t')
        ++*text;
}

static int parse_range(const char **text, struct id_range *range)
{
    skip_spaces(text);
    if (parse_id(text, &range->low) < 0)
        return -1;
    range->high = range->low;
    if (**text == '-') {
        ++*text;
        if (parse_id(text, &range->high) < 0 || range->high < range->low)
            return -1;
    }
    skip_spaces(text);
    return 0;
}

int id_ranges_parse(const char *text, struct id_ranges *r)
{
    *r = (struct id_ranges){0};
    if (!text)
        return 0;
    skip_spaces(&text);
    if (!*text)
        return 0;
    for (;;) {
        struct id_range range;

        if (parse_range(&text, &range) < 0 || (*text && *text != ','))
            break;
        r->v = xrealloc(r->v, (r->n + 1) * sizeof(*r->v));
        r->v[r->n++] = range;
        if (!*text)
            return 0;
        text++;
    }
    free(r->v);
    *r = (struct id_ranges){0};
    errno = EINVAL;
    return -1;
}

bool id_ranges_have(const struct id_ranges *r, uint32_t id)
{
    for (size_t i = 0; i < r->n; i++)
        if (id >= r->v[i].low && id <= r->v[i].high)
            return true;
    return false;
}

static uint64_t slots_of(const struct id_range *r)
{
    uint64_t first = ((uint64_t)r->low + IDS_RANGE - 1) / IDS_RANGE, end = ((uint64_t)r->high + 1) / IDS_RANGE;

    return end > first ? end - first : 0;
}

uint64_t id_ranges_slots(const struct id_ranges *r)
{
    uint64_t n = 0;

    for (size_t i = 0; i < r->n; i++)
        n += slots_of(&r->v[i]);
    return n;
}

uint32_t id_ranges_slot(const struct id_ranges *r, uint64_t n)
{
    for (size_t i = 0; i < r->n; i++) {
        if (n < slots_of(&r->v[i]))
            return (uint32_t)((((uint64_t)r->v[i].low + IDS_RANGE - 1) / IDS_RANGE + n) * IDS_RANGE);
        n -= slots_of(&r->v[i]);
    }
    return 0;
}

const struct chroot *policy_chroot(const struct policy *p, const char *name)
{
    for (size_t i = 0; i < p->nchroots; i++)
        if (strcmp(p->chroots[i].name, name) == 0)
            return &p->chroots[i];
    return NULL;
}

const struct volume *policy_volume(const struct policy *p, const char *name)
{
    for (size_t i = 0; i < p->nvolumes; i++)
        if (strcmp(p->volumes[i].name, name) == 0)
            return &p->volumes[i];
    return NULL;
}

static const char *const net_modes[NET_MODES] = {
    [NET_HOST] = "host", [NET_NONE] = "none", [NET_GROUP] = "group", [NET_BRIDGE] = "bridge"};

enum net_mode net_mode_parse(const char *name)
{
    for (int m = NET_HOST; m < NET_MODES; m++)
        if (strcmp(net_modes[m], name) == 0)
            return (enum net_mode)m;
    return NET_DEFAULT;
}

const char *net_mode_name(enum net_mode mode)
{
    return mode < NET_MODES ? net_modes[mode] : NULL;
}

bool interface_name_valid(const char *text)
{
    size_t n = strlen(text);

    if (n == 0 || n >= IFNAMSIZ || strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        return false;
    for (const char *p = text; *p; p++)
        if (*p <= ' ' || *p > '~' || *p == '/' || *p == ':' || *p == '"' || *p == '\\')
            return false;
    return true;
}

bool subnet_valid(const char *text)
{
    char address[INET6_ADDRSTRLEN];
    unsigned char bytes[16];
    size_t len = strcspn(text, "/");

    if (text[len] != '/' || len >= sizeof(address))
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    const char *digits = text + len + 1;
    size_t n = strspn(digits, "0123456789");
    if (n == 0 || n > 3 || digits[n])
        return false;
    long prefix = strtol(digits, NULL, 10);
    if (inet_pton(AF_INET, address, bytes) == 1)
        return prefix >= 8 && prefix <= 29;
    return inet_pton(AF_INET6, address, bytes) == 1 && prefix >= 16 && prefix <= 120;
}
