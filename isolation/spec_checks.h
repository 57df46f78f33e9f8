/* Private to the spec: the forms that its texts must have. Each is 0, or -1 with e naming the pointer. */
#ifndef CLOISTER_ISOLATION_SPEC_CHECKS_H
#define CLOISTER_ISOLATION_SPEC_CHECKS_H

#include "base/err.h"
#include "base/record.h"

enum { SPEC_NAME_MAX = 128, SPEC_IO_LIMITS = 8, SPEC_HUGETLB_LIMITS = 4 };

int spec_check_name(const char *pointer, const char *text, struct err *e);
int spec_check_label(const char *pointer, const char *text, struct err *e);
int spec_check_env(const char *pointer, const char *text, struct err *e);
/* An absolute path without "..". */
int spec_check_path(const char *pointer, const char *text, struct err *e);
/* Where a volume may go: spec_check_path, and neither the root nor a directory of our own, nor at or below one that the
 * kernel fills (CVE-2019-16884 is what mounts over /proc lead to). */
int spec_check_destination(const char *pointer, const char *text, struct err *e);
/* RFC 1123 section 2.1. */
int spec_check_hostname(const char *pointer, const char *text, struct err *e);
/* A block device: "/dev/NAME" or "MAJOR:MINOR". */
int spec_check_device(const char *pointer, const char *text, struct err *e);
/* As in the names of hugetlb's control files: "64KB", "2MB", "1GB". */
int spec_check_page_size(const char *pointer, const char *text, struct err *e);
/* An address as inet_pton(3) reads it, version 4 or 6. */
int spec_check_address(const char *pointer, const char *text, struct err *e);
/* A domain of resolv.conf(5)'s search list. */
int spec_check_domain(const char *pointer, const char *text, struct err *e);
/* An option of resolv.conf(5): "ndots:2". */
int spec_check_dns_option(const char *pointer, const char *text, struct err *e);

extern const struct record_codec input_codec;        /* spec_input.c: struct input_spec */
extern const struct record_table network_spec_table; /* spec_network.c: struct network_spec */

#endif
