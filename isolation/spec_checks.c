/* The forms that texts in a spec must have. */
#include "isolation/spec_checks.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

static bool is_name(const char *s, const char *more)
{
    if (!isalnum((unsigned char)s[0]))
        return false;
    size_t n = 0;
    for (; s[n]; n++) {
        if (!isalnum((unsigned char)s[n]) && !strchr("_.-", s[n]) && !strchr(more, s[n]))
            return false;
    }
    return n <= SPEC_NAME_MAX;
}

int spec_check_name(const char *pointer, const char *text, struct err *e)
{
    if (is_name(text, ""))
        return 0;
    return err_field(e, pointer, "must match ^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$");
}

int spec_check_label(const char *pointer, const char *text, struct err *e)
{
    if (is_name(text, "/"))
        return 0;
    return err_field(e, pointer, "a label's key must match ^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}$");
}

int spec_check_env(const char *pointer, const char *text, struct err *e)
{
    if (*text && !strchr(text, '='))
        return 0;
    return err_field(e, pointer, "a variable's name must not be empty nor contain '='");
}

int spec_check_path(const char *pointer, const char *text, struct err *e)
{
    if (text[0] != '/')
        return err_field(e, pointer, "must be an absolute path");
    for (const char *p = strstr(text, "/.."); p; p = strstr(p + 1, "/..")) {
        if (p[3] == '/' || p[3] == '\0')
            return err_field(e, pointer, "must not have a \"..\" component");
    }
    return 0;
}

int spec_check_destination(const char *pointer, const char *text, struct err *e)
{
    static const struct {
        const char *path;
        bool below; /* what is below it is refused too */
    } taken[] = {
        {"/proc", true},   {"/sys", true},    {"/dev", true},      {"/", false},
        {"/local", false}, {"/alloc", false}, {"/secrets", false}, {"/tmp", false},
    };

    if (spec_check_path(pointer, text, e) < 0)
        return -1;
    _cleanup_free_ char *path = file_clean_path(text);
    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
        const char *rest = file_below(path, taken[i].path);

        if (rest && (!*rest || taken[i].below))
            return err_field(e, pointer, "must not be at %s%s", taken[i].below ? "or below " : "", taken[i].path);
    }
    return 0;
}

int spec_check_hostname(const char *pointer, const char *text, struct err *e)
{
    char before = '.';
    for (const char *p = text;; p++) {
        bool edge = before == '.' || before == '-';
        bool end = *p == '.' || *p == '\0';
        bool good = end ? !edge : *p == '-' ? before != '.' : isalnum((unsigned char)*p) != 0;
        if (!good)
            return err_field(e, pointer, "must be a host name as in RFC 1123");
        if (*p == '\0')
            return 0;
        before = *p;
    }
}

int spec_check_device(const char *pointer, const char *text, struct err *e)
{
    size_t major = strspn(text, "0123456789");
    size_t minor = text[major] == ':' ? strspn(text + major + 1, "0123456789") : 0;
    bool numbers = major > 0 && minor > 0 && major < 8 && minor < 8 && !text[major + 1 + minor];

    if (numbers || (strncmp(text, "/dev/", 5) == 0 && !strstr(text, "/..") && text[5]))
        return 0;
    return err_field(e, pointer, "must be a block device as \"/dev/sda\" or \"8:0\"");
}

int spec_check_page_size(const char *pointer, const char *text, struct err *e)
{
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits;

    if (digits > 0 && digits < 8 && (!strcmp(unit, "KB") || !strcmp(unit, "MB") || !strcmp(unit, "GB")))
        return 0;
    return err_field(e, pointer, "must be a page size as \"2MB\" or \"1GB\"");
}

int spec_check_address(const char *pointer, const char *text, struct err *e)
{
    unsigned char bytes[16];

    if (inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1)
        return 0;
    return err_field(e, pointer, "must be an IP address");
}

int spec_check_domain(const char *pointer, const char *text, struct err *e)
{
    for (const char *p = text; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("_.-", *p))
            return err_field(e, pointer, "must be a domain name");
    return *text && strlen(text) <= 253 ? 0 : err_field(e, pointer, "must be a domain name");
}

int spec_check_dns_option(const char *pointer, const char *text, struct err *e)
{
    size_t name = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
    const char *rest = text + name;

    if (name > 0 && (!*rest || (*rest == ':' && rest[1] && !rest[1 + strspn(rest + 1, "0123456789")])))
        return 0;
    return err_field(e, pointer, "must be an option of resolv.conf as \"ndots:2\"");
}
