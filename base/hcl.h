/* The configuration language: a subset of HCL (blocks, attributes, lists, objects, heredocs, comments) without
 * interpolation. It yields the same tree that a .json file does. */
#ifndef CLOISTER_BASE_HCL_H
#define CLOISTER_BASE_HCL_H

#include <stddef.h>

#include "base/json.h"

/* Text to a tree: a block `a "l" { x = 1 }` becomes {"a": {"l": {"x": 1}}}; a repeated block with another label joins
 * the first, a repeated attribute or block with the same labels is an error. Status 400, code "config_syntax",
 * the detail starts with "FILE:LINE:COL: ". `${` in a string is refused. */
struct json *hcl_parse(const char *file, const char *text, size_t len, struct err *e);

#endif
