/* From a profile to a program, by libseccomp: the only file that includes it. It resolves names and puts the rules
 * together; the result is exported and loaded without it, because its own loading would be done in every child. */
#include <errno.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "isolation/seccomp_profile.h"

static void context_free(scmp_filter_ctx *c)
{
    if (*c)
        seccomp_release(*c);
}
#define _cleanup_context_ __attribute__((cleanup(context_free)))

static const struct {
    uint32_t native, sibling;
} machines[] = {
    [MACHINE_AMD64] = {SCMP_ARCH_X86_64, SCMP_ARCH_X86},
    [MACHINE_ARM64] = {SCMP_ARCH_AARCH64, SCMP_ARCH_ARM},
};

enum seccomp_machine seccomp_machine(void)
{
    uint32_t native = seccomp_arch_native();

    return native == SCMP_ARCH_X86_64 ? MACHINE_AMD64 : native == SCMP_ARCH_AARCH64 ? MACHINE_ARM64 : MACHINE_OTHER;
}

bool seccomp_knows(const char *name)
{
    return seccomp_syscall_resolve_name(name) != __NR_SCMP_ERROR;
}

static uint32_t action_of(enum seccomp_action a, int64_t value)
{
    switch (a) {
    case ACTION_KILL:
    case ACTION_KILL_THREAD:
        return SCMP_ACT_KILL_THREAD;
    case ACTION_TRAP:
        return SCMP_ACT_TRAP;
    case ACTION_ERRNO:
        return SCMP_ACT_ERRNO((uint32_t)value);
    case ACTION_TRACE:
        return SCMP_ACT_TRACE((uint32_t)value);
    case ACTION_ALLOW:
        return SCMP_ACT_ALLOW;
    case ACTION_LOG:
        return SCMP_ACT_LOG;
    case ACTION_KILL_PROCESS:
        break;
    }
    return SCMP_ACT_KILL_PROCESS;
}

static struct scmp_arg_cmp comparison(const struct seccomp_arg *a)
{
    static const enum scmp_compare ops[] = {
        [OP_NE] = SCMP_CMP_NE,
        [OP_LT] = SCMP_CMP_LT,
        [OP_LE] = SCMP_CMP_LE,
        [OP_EQ] = SCMP_CMP_EQ,
        [OP_GE] = SCMP_CMP_GE,
        [OP_GT] = SCMP_CMP_GT,
        [OP_MASKED_EQ] = SCMP_CMP_MASKED_EQ,
    };

    return (struct scmp_arg_cmp){(unsigned)a->index, ops[a->op], (uint64_t)a->value, (uint64_t)a->value_two};
}

static bool alternatives(const struct seccomp_rule *r)
{
    unsigned seen = 0;

    for (size_t i = 0; i < r->nargs; seen |= 1U << r->args[i++].index)
        if (seen & 1U << r->args[i].index)
            return true;
    return false;
}

static int add_call(scmp_filter_ctx ctx, uint32_t action, int nr, const struct seccomp_rule *r)
{
    struct scmp_arg_cmp args[SECCOMP_ARGS];
    bool apart = alternatives(r);
    int rc = 0;

    for (size_t i = 0; i < r->nargs; i++)
        args[i] = comparison(&r->args[i]);
    if (!apart)
        return seccomp_rule_add_array(ctx, action, nr, (unsigned)r->nargs, args);
    for (size_t i = 0; i < r->nargs && rc == 0; i++)
        rc = seccomp_rule_add_array(ctx, action, nr, 1, &args[i]);
    return rc;
}

static int add_rules(scmp_filter_ctx ctx, const struct seccomp_profile *p, uint64_t caps, struct err *e)
{
    uint32_t otherwise = action_of(p->action, p->value);

    for (size_t i = 0; i < p->n; i++) {
        const struct seccomp_rule *r = &p->rules[i];
        uint32_t action = action_of(r->action, r->value);

        /* libseccomp takes no rule that says what happens anyway (seccomp_rule_add(3)). */
        if ((r->caps & ~caps) || (r->not_caps & caps) || action == otherwise)
            continue;
        for (const char *const *name = r->names; *name; name++) {
            int nr = seccomp_syscall_resolve_name(*name);
            int rc = nr == __NR_SCMP_ERROR ? 0 : add_call(ctx, action, nr, r);

            if (rc < 0)
                return err_step(e, "seccomp", -rc, "rule %zu cannot be made for %.64s", i, *name);
        }
    }
    return 0;
}

/* The newest call that the profile names, in force or not: of what came after it, it can know nothing. Programs take
 * ENOSYS for an older kernel and do without; EPERM they take for a failure. */
static uint32_t highest(const struct seccomp_profile *p, uint32_t arch)
{
    int most = -1;

    if (p->action != ACTION_ERRNO)
        return UINT32_MAX;
    for (size_t i = 0; i < p->n; i++)
        for (const char *const *name = p->rules[i].names; *name; name++) {
            int nr = seccomp_syscall_resolve_name_arch(arch, *name);

            if (nr > most && nr < 0x0f0000) /* not 32-bit ARM's private calls */
                most = nr;
        }
    return most < 0 ? UINT32_MAX : (uint32_t)most;
}

static size_t add_prologue(const struct seccomp_profile *p, uint32_t arch, struct sock_filter *out)
{
    struct seccomp_prologue front = {.arch = arch, .highest = highest(p, arch)};

    for (size_t i = 0; i < p->refusals_n; i++) {
        int nr = seccomp_syscall_resolve_name_arch(arch, p->refusals[i].name);

        if (nr < 0) /* not a call of this architecture */
            continue;
        front.refused[front.n].nr = nr;
        front.refused[front.n++].refusal = &p->refusals[i];
    }
    return seccomp_prologue(&front, out);
}

/* libseccomp 2.5 exports to an fd only. */
static int append(scmp_filter_ctx ctx, struct sock_filter *front, size_t n, struct sock_fprog *out)
{
    _cleanup_close_ int fd = memfd_create("seccomp", MFD_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return -errno;
    int rc = seccomp_export_bpf(ctx, fd);
    if (rc < 0 || fstat(fd, &st) < 0)
        return rc < 0 ? rc : -errno;
    size_t size = (size_t)st.st_size, count = n + size / sizeof(*front);
    if (size == 0 || size % sizeof(*front) || count > BPF_MAXINSNS)
        return -E2BIG;
    _cleanup_free_ struct sock_filter *all = xcalloc(count, sizeof(*all));
    memcpy(all, front, n * sizeof(*front));
    ssize_t got = pread(fd, all + n, size, 0);
    if (got != (ssize_t)size)
        return got < 0 ? -errno : -EIO;
    *out = (struct sock_fprog){.len = (unsigned short)count, .filter = all};
    all = NULL; /* theirs now */
    return 0;
}

static bool answers_prctl(const struct seccomp_profile *p)
{
    enum seccomp_action always = p->action;
    bool answers = true;

    for (size_t i = 0; i < p->n; i++)
        for (const char *const *name = p->rules[i].names; *name; name++)
            if (strcmp(*name, "prctl") == 0) {
                always = p->rules[i].nargs ? always : p->rules[i].action;
                answers = answers && (seccomp_permits(p->rules[i].action) || p->rules[i].action == ACTION_ERRNO);
            }
    return answers && (seccomp_permits(always) || always == ACTION_ERRNO);
}

/* The rules for one architecture. */
static int context_new(const struct seccomp_profile *p, uint32_t arch, uint64_t caps, scmp_filter_ctx *ctx,
                       struct err *e)
{
    uint32_t native = seccomp_arch_native();
    int rc = 0;

    *ctx = seccomp_init(action_of(p->action, p->value));
    if (!*ctx)
        return err_step(e, "seccomp", EINVAL, "libseccomp cannot make a filter");
    if ((rc = seccomp_attr_set(*ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS)) < 0 ||
        (rc = seccomp_attr_set(*ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2)) < 0 || /* a binary tree of numbers */
        (arch != native && ((rc = seccomp_arch_add(*ctx, arch)) < 0 || (rc = seccomp_arch_remove(*ctx, native)) < 0)))
        return err_step(e, "seccomp", -rc, "libseccomp cannot make a filter");
    return add_rules(*ctx, p, caps, e);
}

int seccomp_build(const struct seccomp_profile *p, enum seccomp_machine m, uint64_t caps, struct seccomp_program *out,
                  struct err *e)
{
    struct sock_filter front[2 * SECCOMP_PROLOGUE_MAX];
    _cleanup_context_ scmp_filter_ctx ctx = NULL, sibling = NULL;
    int rc = 0;

    *out = (struct seccomp_program){.flags = p->flags, .answers_prctl = answers_prctl(p)};
    if (m == MACHINE_OTHER)
        return err_step(e, "seccomp", ENOTSUP, "no filter can be made for this machine");
    if (context_new(p, machines[m].native, caps, &ctx, e) < 0)
        return -1;
    size_t n = add_prologue(p, machines[m].native, front);
    if (p->sibling) {
        /* One by one and merged, as the time to add a rule grows faster than the number of architectures. */
        if (context_new(p, machines[m].sibling, caps, &sibling, e) < 0)
            return -1;
        n += add_prologue(p, machines[m].sibling, front + n);
        if ((rc = seccomp_merge(ctx, sibling)) == 0)
            sibling = NULL; /* ctx has it now */
    }
    if (rc < 0 || (rc = append(ctx, front, n, &out->bpf)) < 0)
        return err_step(e, "seccomp", -rc, "libseccomp cannot export the filter");
    return 0;
}
