/* Whatever the bytes: a tree or an error with its place, no crash and no leak. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hcl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    struct json *j = hcl_parse("fuzz", (const char *)data, size, &e);

    if (!j && (e.status != 400 || strncmp(e.detail, "fuzz:", 5) != 0))
        abort();
    json_free(j);
    return 0;
}
