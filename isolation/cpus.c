#include "isolation/cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

enum { GUESS_MHZ = 1000, TEXT_MAX = 1 << 23 };

static bool has(const struct cpus *c, size_t i)
{
    return c->w[i / 64] >> (i % 64) & 1;
}

static void set(struct cpus *c, size_t i)
{
    c->w[i / 64] |= UINT64_C(1) << (i % 64);
}

static int parse_number(const char **at, size_t *n)
{
    char *end;
    unsigned long v = strtoul(*at, &end, 10);

    if (**at < '0' || **at > '9' || v >= CPUS_MAX)
        return -1;
    *n = v;
    *at = end;
    return 0;
}

int cpus_parse(const char *text, struct cpus *c)
{
    *c = (struct cpus){{0}};
    while (*text && *text != '\n') {
        size_t low, high;

        if (parse_number(&text, &low) < 0)
            return -1;
        high = low;
        if (*text == '-' && (text++, parse_number(&text, &high) < 0 || high < low))
            return -1;
        for (size_t i = low; i <= high; i++)
            set(c, i);
        if (*text == ',')
            text++;
        else if (*text && *text != '\n')
            return -1;
    }
    return 0;
}

int cpus_format(const struct cpus *c, char *out, size_t n)
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < CPUS_MAX; i++) {
        if (!has(c, i))
            continue;
        size_t first = i;
        while (i + 1 < CPUS_MAX && has(c, i + 1))
            i++;
        len += (size_t)(i > first ? snprintf(out + len, n - len, "%s%zu-%zu", len ? "," : "", first, i)
                                  : snprintf(out + len, n - len, "%s%zu", len ? "," : "", first));
        if (len >= n) {
            errno = EOVERFLOW;
            return -1;
        }
    }
    return 0;
}

size_t cpus_count(const struct cpus *c)
{
    size_t n = 0;

    for (size_t i = 0; i < CPUS_MAX / 64; i++)
        n += (size_t)__builtin_popcountll(c->w[i]);
    return n;
}

void cpus_add(struct cpus *c, const struct cpus *more)
{
    for (size_t i = 0; i < CPUS_MAX / 64; i++)
        c->w[i] |= more->w[i];
}

void cpus_remove(struct cpus *c, const struct cpus *less)
{
    for (size_t i = 0; i < CPUS_MAX / 64; i++)
        c->w[i] &= ~less->w[i];
}

static struct cpus both(const struct cpus *a, const struct cpus *b)
{
    struct cpus c;

    for (size_t i = 0; i < CPUS_MAX / 64; i++)
        c.w[i] = a->w[i] & b->w[i];
    return c;
}

static size_t take(struct cpus *free, const struct cpus *of, size_t n, struct cpus *picked)
{
    size_t taken = 0;

    for (size_t i = 0; i < CPUS_MAX && taken < n; i++) {
        if (!has(free, i) || !has(of, i))
            continue;
        set(picked, i);
        free->w[i / 64] &= ~(UINT64_C(1) << (i % 64));
        taken++;
    }
    return taken;
}

/* The node to take from next: the smallest that suffices, else the largest. */
static const struct cpus *next_node(const struct cpus *free, size_t n, const struct cpus *nodes, size_t count)
{
    const struct cpus *fits = NULL, *largest = NULL;
    size_t fits_size = 0, largest_size = 0;

    for (size_t i = 0; i < count; i++) {
        struct cpus here = both(free, &nodes[i]);
        size_t size = cpus_count(&here);

        if (size >= n && (!fits || size < fits_size))
            fits = &nodes[i], fits_size = size;
        if (size > largest_size)
            largest = &nodes[i], largest_size = size;
    }
    return fits ? fits : largest;
}

bool cpus_pick(const struct cpus *free, size_t n, const struct cpus *nodes, size_t node_count, struct cpus *picked)
{
    struct cpus left = *free;

    *picked = (struct cpus){{0}};
    if (cpus_count(&left) < n)
        return false;
    while (n > 0) {
        const struct cpus *node = next_node(&left, n, nodes, node_count);

        n -= take(&left, node ? node : free, n, picked);
    }
    return true;
}

size_t cpus_nodes(struct cpus *nodes, size_t max)
{
    size_t n = 0;

    for (int i = 0; n < max; i++) {
        _cleanup_free_ char *text = NULL;
        char path[64];

        snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", i);
        if (file_read(AT_FDCWD, path, 4096, &text, NULL) < 0)
            break;
        if (cpus_parse(text, &nodes[n]) == 0)
            n++;
    }
    if (n == 0)
        memset(&nodes[n++], 0xff, sizeof(nodes[0]));
    return n;
}

int64_t cpus_mhz(void)
{
    static const char *const files[] = {"/sys/devices/system/cpu/cpu0/cpufreq/base_frequency",
                                        "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"};
    _cleanup_free_ char *info = NULL;

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        _cleanup_free_ char *khz = NULL;

        if (file_read(AT_FDCWD, files[i], 64, &khz, NULL) == 0 && strtoll(khz, NULL, 10) >= 1000)
            return strtoll(khz, NULL, 10) / 1000;
    }
    if (file_read(AT_FDCWD, "/proc/cpuinfo", TEXT_MAX, &info, NULL) < 0)
        return GUESS_MHZ;
    const char *line = strstr(info, "cpu MHz");
    const char *colon = line ? strchr(line, ':') : NULL;
    int64_t mhz = colon ? strtoll(colon + 1, NULL, 10) : 0;
    return mhz > 0 ? mhz : GUESS_MHZ;
}
