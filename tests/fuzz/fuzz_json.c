/* Whatever the bytes: no crash; and what the strict scan accepts, cJSON reads, prints, and the scan accepts again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    struct json *j = json_parse((const char *)data, size, &e);

    if (!j)
        return 0;
    char *text = json_print(j);
    if (json_check(text, strlen(text), &e) < 0)
        abort();
    free(text);
    json_free(j);
    return 0;
}
