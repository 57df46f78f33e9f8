/* The profiles by name, and the programs that were made of them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "isolation/seccomp_profile.h"

enum { FILE_MAX = 1 << 20 };

struct built {
    uint64_t caps; /* as far as they matter to the profile */
    struct seccomp_program program;
    struct built *next; /* where it is never moves: tasks point to it */
};

struct named {
    char *name;
    struct seccomp_profile profile;
    uint64_t matters; /* capabilities that its rules ask for */
    struct built *built;
};

struct seccomp_policy {
    bool available, allow_unconfined;
    struct named *v;
    size_t n;
};

static void add(struct seccomp_policy *p, const char *name, const struct seccomp_profile *profile)
{
    struct named n = {.name = xstrdup(name), .profile = *profile};

    for (size_t i = 0; i < profile->n; i++)
        n.matters |= profile->rules[i].caps | profile->rules[i].not_caps;
    p->v = xrealloc(p->v, (p->n + 1) * sizeof(*p->v));
    p->v[p->n++] = n;
}

static struct named *find(const struct seccomp_policy *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->v[i].name, name) == 0)
            return &p->v[i];
    return NULL;
}

struct seccomp_policy *seccomp_policy_new(bool allow_unconfined)
{
    struct seccomp_policy *p = xcalloc(1, sizeof(*p));

    p->available = seccomp_available();
    p->allow_unconfined = allow_unconfined;
    add(p, SECCOMP_DEFAULT, &seccomp_default_profile);
    return p;
}

int seccomp_policy_add(struct seccomp_policy *p, const char *name, const char *file, struct err *e)
{
    struct seccomp_profile profile;
    _cleanup_free_ char *text = NULL;
    struct err inner = {0};
    size_t len = 0;

    if (!*name || strlen(name) > 128)
        return err_set(e, 400, "config", "seccomp_profiles: \"%.140s\" is no name of 1 to 128 bytes", name);
    if (strcmp(name, SECCOMP_UNCONFINED) == 0 || find(p, name))
        return err_set(e, 400, "config", "seccomp_profiles: the name \"%s\" is taken", name);
    if (file[0] != '/')
        return err_set(e, 400, "config", "seccomp_profiles: \"%s\" is no absolute path", file);
    if (file_read(AT_FDCWD, file, FILE_MAX, &text, &len) < 0)
        return err_set(e, 400, "config", "seccomp_profiles: %s: %s", file, strerror(errno));
    if (seccomp_profile_parse(text, len, seccomp_machine(), &profile, &inner) < 0)
        return err_set(e, 400, "config", "seccomp_profiles: %s: %s%s%s", file, inner.pointer,
                       inner.pointer[0] ? ": " : "", inner.detail);
    add(p, name, &profile);
    return 0;
}

/* The program of a profile for a bounding set, made now if it was not yet. */
static const struct seccomp_program *program_for(struct named *n, uint64_t caps, struct err *e)
{
    uint64_t matter = caps & n->matters;

    for (const struct built *b = n->built; b; b = b->next)
        if (b->caps == matter)
            return &b->program;
    struct built *b = xcalloc(1, sizeof(*b));
    b->caps = matter;
    if (seccomp_build(&n->profile, seccomp_machine(), matter, &b->program, e) < 0) {
        free(b);
        return NULL;
    }
    b->next = n->built;
    n->built = b;
    return &b->program;
}

int seccomp_policy_prepare(struct seccomp_policy *p, uint64_t caps, struct err *e)
{
    struct err inner = {0};

    for (size_t i = 0; p->available && i < p->n; i++)
        if (!program_for(&p->v[i], caps, &inner))
            return err_set(e, 400, "config", "seccomp_profiles: %s: %s", p->v[i].name, inner.detail);
    return 0;
}

void seccomp_policy_free(struct seccomp_policy *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n; i++) {
        for (struct built *b = p->v[i].built, *next; b; b = next) {
            next = b->next;
            free(b->program.bpf.filter);
            free(b);
        }
        free(p->v[i].name);
        seccomp_profile_free(&p->v[i].profile);
    }
    free(p->v);
    free(p);
}

int seccomp_check(const struct seccomp_policy *p, const char *name, struct err *e)
{
    if (strcmp(name, SECCOMP_UNCONFINED) == 0) {
        if (p->allow_unconfined)
            return 0;
        err_set(e, 403, "seccomp_denied",
                "the policy (allow_seccomp_unconfined) does not allow tasks without a filter");
        memcpy(e->pointer, "/seccomp", sizeof("/seccomp"));
        return -1;
    }
    if (!find(p, name))
        return err_field(e, "/seccomp", "no profile \"%.128s\" is configured (seccomp_profiles)", name);
    return p->available ? 0 : err_field(e, "/seccomp", "this host has no seccomp filters");
}

int seccomp_choose(struct seccomp_policy *p, const char *name, uint64_t caps, const struct seccomp_program **out,
                   struct err *e)
{
    *out = NULL;
    if (seccomp_check(p, name, e) < 0)
        return -1;
    if (strcmp(name, SECCOMP_UNCONFINED) == 0)
        return 0;
    *out = program_for(find(p, name), caps, e);
    return *out ? 0 : -1;
}
