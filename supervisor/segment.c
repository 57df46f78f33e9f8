#include "supervisor/segment.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 20 };

static const char INDEX[] = ".index";

void segment_name(const char *stream, uint64_t start, bool index, char out[SEGMENT_NAME])
{
    snprintf(out, SEGMENT_NAME, "%.15s.%020" PRIu64 "%s", stream, start, index ? INDEX : "");
}

bool segment_parse(const char *name, const char *stream, uint64_t *start, bool *index)
{
    size_t n = strlen(stream);

    if (strncmp(name, stream, n) != 0 || name[n] != '.' || strspn(name + n + 1, "0123456789") != DIGITS)
        return false;
    const char *rest = name + n + 1 + DIGITS;
    *index = strcmp(rest, INDEX) == 0;
    *start = strtoull(name + n + 1, NULL, 10);
    return *index || *rest == '\0';
}
