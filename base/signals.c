#include "base/signals.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int number(const char *s, int low, int high)
{
    char *end;
    long n = strtol(s, &end, 10);

    return *s >= '0' && *s <= '9' && !*end && n >= low && n <= high ? (int)n : -1;
}

static int realtime(const char *name)
{
    int span = SIGRTMAX - SIGRTMIN, n;

    if (strncasecmp(name, "RTMIN", 5) == 0) {
        n = !name[5] ? 0 : name[5] == '+' ? number(name + 6, 0, span) : -1;
        return n < 0 ? -1 : SIGRTMIN + n;
    }
    if (strncasecmp(name, "RTMAX", 5) == 0) {
        n = !name[5] ? 0 : name[5] == '-' ? number(name + 6, 0, span) : -1;
        return n < 0 ? -1 : SIGRTMAX - n;
    }
    return -1;
}

int signal_parse(const char *name)
{
    int n = number(name, 1, SIGRTMAX);

    if (n > 0)
        return n < 32 || n >= SIGRTMIN ? n : -1;
    if (strncasecmp(name, "SIG", 3) == 0)
        name += 3;
    for (int i = 1; i < 32; i++) {
        const char *abbreviation = sigabbrev_np(i);

        if (abbreviation && strcasecmp(abbreviation, name) == 0)
            return i;
    }
    if (strcasecmp(name, "IOT") == 0)
        return SIGABRT;
    if (strcasecmp(name, "IO") == 0)
        return SIGIO;
    if (strcasecmp(name, "CLD") == 0)
        return SIGCHLD;
    return realtime(name);
}

const char *signal_name(int signum)
{
    static char text[24];
    const char *abbreviation = signum > 0 && signum < 32 ? sigabbrev_np(signum) : NULL;

    if (abbreviation)
        snprintf(text, sizeof(text), "SIG%s", abbreviation);
    else if (signum == SIGRTMIN)
        snprintf(text, sizeof(text), "SIGRTMIN");
    else if (signum > SIGRTMIN && signum <= SIGRTMAX)
        snprintf(text, sizeof(text), "SIGRTMIN+%d", signum - SIGRTMIN);
    else
        snprintf(text, sizeof(text), "SIG?");
    return text;
}
