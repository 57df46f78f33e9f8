#include "api/accept.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct range { /* one element of the header */
    const char *type;
    size_t len;
    int quality; /* thousandths */
};

/* Between 0 and 1 (RFC 9110, 12.4.2), also when the client sends infinity or no number. */
static int thousandths(double q)
{
    return q >= 1 ? 1000 : q > 0 ? (int)(q * 1000 + 0.5) : 0;
}

static const char *next_range(const char *p, struct range *r)
{
    p += strspn(p, " \t,");
    r->type = p;
    r->len = strcspn(p, " \t,;");
    r->quality = 1000;
    p += r->len;
    while (*p && *p != ',') {
        p += strspn(p, " \t;");
        if ((p[0] == 'q' || p[0] == 'Q') && p[1] == '=')
            r->quality = thousandths(strtod(p + 2, NULL));
        p += strcspn(p, ",;");
    }
    return p;
}

/* How exactly a range names the type: 0 not at all, else more for more of it. */
static int fits(const struct range *r, const char *media)
{
    size_t slash = strcspn(media, "/") + 1;

    if (r->len == strlen(media) && strncasecmp(r->type, media, r->len) == 0)
        return 3;
    if (r->len == slash + 1 && strncasecmp(r->type, media, slash) == 0 && r->type[slash] == '*')
        return 2;
    return r->len == 3 && memcmp(r->type, "*/*", 3) == 0;
}

static int quality_of(const char *accept, const char *media)
{
    int best = 0, quality = 0;
    struct range r;

    for (const char *p = accept; *(p += strspn(p, " \t,"));) {
        p = next_range(p, &r);
        int exact = fits(&r, media);

        if (exact > best) {
            best = exact;
            quality = r.quality;
        }
    }
    return quality;
}

int accept_pick(const char *accept, const char *const *media)
{
    int picked = -1, best = 0;

    if (!accept || !accept[strspn(accept, " \t,")])
        return 0;
    for (int i = 0; media[i]; i++) {
        int quality = quality_of(accept, media[i]);

        if (quality > best) {
            best = quality;
            picked = i;
        }
    }
    return picked;
}
