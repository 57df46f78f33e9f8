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

/* Digits of a number of exactly n; -1 when there are fewer. */
static int fixed(const char **p, int n)
{
    int value = 0;

    for (; n > 0; n--, (*p)++) {
        if (!is_digit(**p))
            return -1;
        value = value * 10 + (**p - '0');
    }
    return value;
}

static bool skip(const char **p, const char *any)
{
    if (!**p || !strchr(any, **p))
        return false;
    (*p)++;
    return true;
}

/* "Z", "+02:00" to seconds east of UTC. */
static int parse_offset(const char **p, int *seconds)
{
    int sign = **p == '-' ? -1 : 1;

    *seconds = 0;
    if (skip(p, "Zz"))
        return 0;
    if (!skip(p, "+-"))
        return -1;
    int h = fixed(p, 2), colon = skip(p, ":"), m = fixed(p, 2);
    *seconds = sign * (h * 3600 + m * 60);
    return h >= 0 && h <= 23 && colon && m >= 0 && m <= 59 ? 0 : -1;
}

int clock_parse(const char *text, int64_t *real_ns)
{
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const char *p = text;
    int64_t fraction = 0, unit = 100000000;
    int offset;
    struct tm t = {.tm_year = fixed(&p, 4) - 1900};
    bool ok = skip(&p, "-");

    t.tm_mon = fixed(&p, 2) - 1;
    ok = skip(&p, "-") && ok;
    t.tm_mday = fixed(&p, 2);
    ok = skip(&p, "Tt ") && ok;
    t.tm_hour = fixed(&p, 2);
    ok = skip(&p, ":") && ok;
    t.tm_min = fixed(&p, 2);
    ok = skip(&p, ":") && ok;
    t.tm_sec = fixed(&p, 2);
    if (skip(&p, ".")) {
        ok = ok && is_digit(*p);
        for (; is_digit(*p); p++, unit /= 10)
            fraction += (*p - '0') * unit;
    }
    ok = parse_offset(&p, &offset) == 0 && ok && !*p;
    if (!ok || t.tm_year < 70 || t.tm_year > 300 || t.tm_mon < 0 || t.tm_mon > 11 || t.tm_mday < 1 ||
        t.tm_mday > days[t.tm_mon] || t.tm_hour < 0 || t.tm_hour > 23 || t.tm_min < 0 || t.tm_min > 59 ||
        t.tm_sec < 0 || t.tm_sec > 60)
        return -1;
    *real_ns = ((int64_t)timegm(&t) - offset) * 1000000000 + fraction;
    return 0;
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
