#include "base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name;
    double ms;
} units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"ms", 1}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}};

static const double LONGEST_MS = 10.0 * 366 * 24 * 3600e3;

int64_t clock_real_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_mono_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t clock_mono_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void clock_format(int64_t real_ns, char out[CLOCK_TEXT])
{
    time_t s = (time_t)(real_ns / 1000000000);
    struct tm tm;
    char date[24];

    gmtime_r(&s, &tm);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, CLOCK_TEXT, "%s.%09dZ", date, (int)(real_ns % 1000000000));
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* One "12.5m"; advances *p. Locale-free on purpose. */
static int parse_part(const char **p, double *ms)
{
    double value = 0, scale = 0.1;
    const char *s = *p;
    size_t best = 0, len = 0;

    if (!is_digit(*s))
        return -1;
    while (is_digit(*s))
        value = value * 10 + (*s++ - '0');
    if (*s == '.') {
        if (!is_digit(*++s))
            return -1;
        for (; is_digit(*s); s++, scale /= 10)
            value += (*s - '0') * scale;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t n = strlen(units[i].name);

        if (strncmp(s, units[i].name, n) == 0 && n > len) {
            best = i;
            len = n;
        }
    }
    if (len == 0)
        return -1;
    *ms += value * units[best].ms;
    *p = s + len;
    return 0;
}

int duration_parse(const char *text, int64_t *ms)
{
    double sum = 0;

    if (strcmp(text, "0") == 0) {
        *ms = 0;
        return 0;
    }
    if (!*text)
        return -1;
    while (*text)
        if (parse_part(&text, &sum) < 0 || sum > LONGEST_MS)
            return -1;
    *ms = (int64_t)(sum + 0.5);
    return 0;
}

void duration_format(int64_t ms, char out[CLOCK_TEXT])
{
    int64_t h = ms / 3600000, m = ms / 60000 % 60, s = ms / 1000 % 60, rest = ms % 1000;
    int n = 0;

    out[0] = '\0';
    if (h)
        n += snprintf(out + n, CLOCK_TEXT - (size_t)n, "%lldh", (long long)h);
    if (m)
        n += snprintf(out + n, CLOCK_TEXT - (size_t)n, "%dm", (int)m);
    if (s)
        n += snprintf(out + n, CLOCK_TEXT - (size_t)n, "%ds", (int)s);
    if (rest)
        n += snprintf(out + n, CLOCK_TEXT - (size_t)n, "%dms", (int)rest);
    if (n == 0)
        snprintf(out, CLOCK_TEXT, "0s");
}
