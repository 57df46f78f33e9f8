/* Capabilities. libcap-ng changes them; what the kernel holds afterwards is read back without it, because
 * capng_apply(3) returns 0 also where it has done nothing (no CAP_SETPCAP) and its state keeps the thread id of before
 * a fork. */
#include <cap-ng.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "isolation/caps.h"

enum { CAP_BITS = 64 };

struct cap_state {
    uint64_t permitted, effective, inheritable, bounding, ambient;
};

static uint64_t bit(int cap)
{
    return (uint64_t)1 << cap;
}

static int read_state(struct cap_state *s)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};

    *s = (struct cap_state){0};
    if (syscall(SYS_capget, &head, data) < 0)
        return -1;
    s->permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    s->effective = data[0].effective | (uint64_t)data[1].effective << 32;
    s->inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
    for (int i = 0; i < CAP_BITS; i++) {
        int in_bounds = prctl(PR_CAPBSET_READ, i, 0, 0, 0);

        if (in_bounds < 0) /* EINVAL: the kernel knows no more */
            return errno == EINVAL ? 0 : -1;
        int in_ambient = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0);
        if (in_ambient < 0)
            return -1;
        s->bounding |= in_bounds ? bit(i) : 0;
        s->ambient |= in_ambient ? bit(i) : 0;
    }
    return 0;
}

uint64_t caps_kernel(void)
{
    uint64_t set = 0;

    for (int i = 0; i < CAP_BITS && (prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0 || errno != EINVAL); i++)
        set |= bit(i);
    return set;
}

uint64_t caps_held(void)
{
    struct cap_state s;

    return read_state(&s) < 0 ? 0 : s.permitted & s.bounding;
}

/* kernel: the capabilities that it has, which takes a call for each to find out. */
static uint64_t parse(uint64_t kernel, const char *name)
{
    if (strcasecmp(name, "all") == 0)
        return kernel;
    if (strncasecmp(name, "cap_", 4) == 0)
        name += 4;
    for (int i = 0; i < CAP_BITS; i++) {
        const char *known = kernel & bit(i) ? capng_capability_to_name((unsigned)i) : NULL;

        if (known && strcasecmp(known, name) == 0)
            return bit(i);
    }
    return 0;
}

uint64_t caps_parse(const char *name)
{
    return parse(caps_kernel(), name);
}

uint64_t caps_default(void)
{
    static const char *const names[] = {CAPS_DEFAULT_NAMES};
    uint64_t set = 0, kernel = caps_kernel();

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        set |= parse(kernel, names[i]);
    return set;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void caps_names(uint64_t set, struct strings *s)
{
    *s = (struct strings){.v = xcalloc(CAP_BITS, sizeof(char *))};
    for (int i = 0; i < CAP_BITS; i++) {
        const char *name = set & bit(i) ? capng_capability_to_name((unsigned)i) : NULL;

        if (name)
            s->v[s->n++] = xstrdup(name);
    }
    qsort(s->v, s->n, sizeof(*s->v), compare_names);
}

static int parse_field(const char *field, size_t i, const char *name, uint64_t *set, struct err *e)
{
    char pointer[32];

    *set = caps_parse(name);
    if (*set)
        return 0;
    snprintf(pointer, sizeof(pointer), "/%s/%zu", field, i);
    return err_field(e, pointer, "\"%.64s\" is not a capability of this kernel", name);
}

int caps_check(const struct spec *s, uint64_t allow, struct err *e)
{
    uint64_t set;

    for (size_t i = 0; i < s->cap_drop.n; i++)
        if (parse_field("cap_drop", i, s->cap_drop.v[i], &set, e) < 0)
            return -1;
    for (size_t i = 0; i < s->cap_add.n; i++) {
        if (parse_field("cap_add", i, s->cap_add.v[i], &set, e) < 0)
            return -1;
        if (!(set & ~allow))
            continue;
        err_set(e, 403, "capability_denied", "the policy (allow_caps) does not allow the capability \"%.64s\"",
                s->cap_add.v[i]);
        snprintf(e->pointer, sizeof(e->pointer), "/cap_add/%zu", i);
        return -1;
    }
    return 0;
}

int caps_compute(const struct spec *s, uint64_t allow, uint64_t *result, uint64_t *added, struct err *e)
{
    uint64_t drop = 0, add = 0;
    struct cap_state own;
    char pointer[32];

    if (caps_check(s, allow, e) < 0)
        return -1;
    if (read_state(&own) < 0)
        return err_step(e, "capabilities", errno, "cannot read our own");
    uint64_t held = own.permitted & own.bounding;
    for (size_t i = 0; i < s->cap_drop.n; i++)
        drop |= caps_parse(s->cap_drop.v[i]);
    for (size_t i = 0; i < s->cap_add.n; i++) {
        uint64_t set = caps_parse(s->cap_add.v[i]);

        snprintf(pointer, sizeof(pointer), "/cap_add/%zu", i);
        if (!(set & held))
            return err_field(e, pointer, "this host cannot give the capability \"%.64s\"", s->cap_add.v[i]);
        add |= set & held; /* "all" means all that there is to give */
    }
    *added = add;
    *result = ((caps_default() & allow & ~drop) | add) & held;
    return 0;
}

int caps_raise(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};

    if (syscall(SYS_capget, &head, data) < 0)
        return -1;
    data[0].effective = data[0].permitted;
    data[1].effective = data[1].permitted;
    return syscall(SYS_capset, &head, data) < 0 ? -1 : 0;
}

static void update(uint64_t set, int types)
{
    for (int i = 0; i < CAP_BITS; i++)
        if (set & bit(i))
            capng_update(CAPNG_ADD, (capng_type_t)types, (unsigned)i);
}

static int compare_state(const struct cap_state *want, struct err *e)
{
    struct cap_state is;

    if (read_state(&is) < 0)
        return err_step(e, "capabilities", errno, "capget");
    const struct {
        const char *name;
        uint64_t want, is;
    } sets[] = {
        {"bounding", want->bounding, is.bounding},    {"permitted", want->permitted, is.permitted},
        {"effective", want->effective, is.effective}, {"inheritable", want->inheritable, is.inheritable},
        {"ambient", want->ambient, is.ambient},
    };
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
        if (sets[i].want != sets[i].is)
            return err_step(e, "capabilities", EPERM, "the %s set is %llx, not %llx", sets[i].name,
                            (unsigned long long)sets[i].is, (unsigned long long)sets[i].want);
    return 0;
}

static int become(uid_t uid, struct err *e)
{
    uid_t real, effective, saved;

    /* Without it the change from uid 0 would empty the permitted set (capabilities(7)). */
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setresuid(uid, uid, uid) < 0)
        return err_step(e, "capabilities", errno, "cannot become uid %u", uid);
    if (getresuid(&real, &effective, &saved) < 0 || real != uid || effective != uid || saved != uid)
        return err_step(e, "capabilities", EPERM, "uid %u was not taken", uid);
    return 0;
}

int caps_apply(uint64_t bounding, uint64_t ambient, uid_t uid, struct err *e)
{
    struct cap_state want = {.bounding = bounding, .permitted = bounding, .effective = bounding};

    if (uid != 0) {
        ambient &= bounding;
        want.permitted = want.effective = want.inheritable = want.ambient = ambient;
    }
    capng_setpid((int)gettid());
    capng_clear(CAPNG_SELECT_ALL);
    update(want.permitted, CAPNG_PERMITTED | CAPNG_EFFECTIVE);
    update(want.inheritable, CAPNG_INHERITABLE);
    update(want.bounding, CAPNG_BOUNDING_SET);
    update(want.ambient, CAPNG_AMBIENT);
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return err_step(e, "capabilities", errno, "cannot clear the ambient set");
    if (capng_apply(CAPNG_SELECT_BOUNDS) < 0) /* needs CAP_SETPCAP: while root */
        return err_step(e, "capabilities", errno, "cannot drop the bounding set");
    if (become(uid, e) < 0)
        return -1;
    if (capng_apply(CAPNG_SELECT_CAPS) < 0)
        return err_step(e, "capabilities", errno, "capset");
    if (capng_apply(CAPNG_SELECT_AMBIENT) < 0)
        return err_step(e, "capabilities", errno, "cannot raise the ambient set");
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0 || prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0) != 0)
        return err_step(e, "capabilities", errno, "cannot clear keepcaps");
    return compare_state(&want, e);
}
