/* What a profile's document means on this machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/buf.h"
#include "isolation/caps.h"
#include "isolation/seccomp_document.h"

struct loaded { /* a profile's owner */
    struct seccomp_document document;
    struct seccomp_rule *rules; /* those in force on this machine */
};

static const struct { /* x32 is never let in */
    const char *go;   /* the name in includes and excludes */
    const char *native, *sibling;
} machines[] = {
    [MACHINE_OTHER] = {"", "", ""},
    [MACHINE_AMD64] = {"amd64", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86"},
    [MACHINE_ARM64] = {"arm64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"},
};

bool seccomp_permits(enum seccomp_action a)
{
    return a == ACTION_ALLOW || a == ACTION_LOG;
}

static bool has(const struct strings *s, const char *text)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i], text) == 0)
            return true;
    return false;
}

static uint64_t caps_of(const struct strings *names)
{
    uint64_t set = 0;

    for (size_t i = 0; i < names->n; i++)
        set |= caps_parse(names->v[i]);
    return set;
}

static bool kernel_is(const char *version)
{
    struct utsname u;
    unsigned want[2] = {0}, is[2] = {0};

    return uname(&u) == 0 && sscanf(version, "%u.%u", &want[0], &want[1]) == 2 &&
           sscanf(u.release, "%u.%u", &is[0], &is[1]) == 2 &&
           (is[0] > want[0] || (is[0] == want[0] && is[1] >= want[1]));
}

/* The conditions that hold, or do not, for all tasks of a host. */
static bool in_force(const struct seccomp_syscalls *s, enum seccomp_machine m)
{
    const struct seccomp_condition *in = &s->includes, *ex = &s->excludes;

    if ((in->arches.n && !has(&in->arches, machines[m].go)) || (in->min_kernel && !kernel_is(in->min_kernel)))
        return false;
    return !has(&ex->arches, machines[m].go) && !(ex->min_kernel && kernel_is(ex->min_kernel));
}

/* libseccomp keeps one of two rules for a call when one of them has no condition on arguments, and drops the other in
 * silence. Rules that need and exclude the same capability are never in force together. */
static bool contradict(const struct seccomp_rule *a, const struct seccomp_rule *b)
{
    bool same = a->action == b->action && (a->action != ACTION_ERRNO || a->value == b->value);

    return !same && (a->nargs == 0 || b->nargs == 0) && !(a->caps & b->not_caps) && !(b->caps & a->not_caps);
}

static bool names(const struct seccomp_rule *r, const char *name)
{
    for (const char *const *n = r->names; *n; n++)
        if (strcmp(*n, name) == 0)
            return true;
    return false;
}

/* Whether the last rule of p, which stands at syscalls[i] of the document, will do what it says. */
static int check_rule(const struct seccomp_profile *p, const struct seccomp_rule *r, size_t i, struct err *e)
{
    char pointer[RECORD_POINTER];

    for (size_t k = 0; r->names[k]; k++) {
        snprintf(pointer, sizeof(pointer), "/syscalls/%zu/names/%zu", i, k);
        /* To allow what is not known here is to do nothing; not to deny it would be a hole. */
        if (!seccomp_permits(r->action) && seccomp_permits(p->action) && !seccomp_knows(r->names[k]))
            return err_field(e, pointer, "\"%.64s\" is unknown to libseccomp: it cannot be denied", r->names[k]);
        for (const struct seccomp_rule *before = p->rules; before < r; before++)
            if (contradict(before, r) && names(before, r->names[k]))
                return err_field(e, pointer, "\"%.64s\" has a rule with another action before", r->names[k]);
    }
    return 0;
}

static bool wants_sibling(const struct seccomp_document *d, enum seccomp_machine m)
{
    const struct seccomp_arch_map *maps = d->arch_map.v;

    for (size_t i = 0; i < d->arch_map.n; i++)
        if (strcmp(maps[i].architecture, machines[m].native) == 0 && has(&maps[i].sub, machines[m].sibling))
            return true;
    return has(&d->architectures, machines[m].sibling);
}

static int convert(struct loaded *l, enum seccomp_machine m, struct seccomp_profile *p, struct err *e)
{
    const struct seccomp_document *d = &l->document;
    const struct seccomp_syscalls *all = d->syscalls.v;

    p->action = d->action;
    p->value = d->value;
    p->sibling = wants_sibling(d, m);
    for (size_t i = 0; i < d->flags.n; i++) {
        unsigned flag = 0;

        seccomp_document_flag(d->flags.v[i], &flag);
        p->flags |= flag;
    }
    p->rules = l->rules = xcalloc(d->syscalls.n + 1, sizeof(*l->rules));
    for (size_t i = 0; i < d->syscalls.n; i++) {
        struct seccomp_rule *r = &l->rules[p->n];

        if (!in_force(&all[i], m))
            continue;
        *r = (struct seccomp_rule){
            .names = (const char *const *)all[i].names.v, /* ends with NULL, record_decode */
            .action = all[i].action,
            .value = all[i].value,
            .args = all[i].args.v,
            .nargs = all[i].args.n,
            .caps = caps_of(&all[i].includes.caps),
            .not_caps = caps_of(&all[i].excludes.caps),
        };
        p->n++;
        if (check_rule(p, r, i, e) < 0)
            return -1;
    }
    return 0;
}

int seccomp_profile_parse(const char *text, size_t len, enum seccomp_machine m, struct seccomp_profile *p,
                          struct err *e)
{
    struct loaded *l = xcalloc(1, sizeof(*l));

    *p = (struct seccomp_profile){.owner = l};
    if (seccomp_document_decode(text, len, &l->document, e) == 0 && convert(l, m, p, e) == 0)
        return 0;
    seccomp_profile_free(p);
    return -1;
}

void seccomp_profile_free(struct seccomp_profile *p)
{
    struct loaded *l = p->owner;

    if (l) {
        free(l->rules);
        seccomp_document_free(&l->document);
        free(l);
    }
    *p = (struct seccomp_profile){0};
}
