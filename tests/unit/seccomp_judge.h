/* Judges calls by a filter as the kernel would, so that programs for another machine can be tested too. */
#ifndef CLOISTER_TESTS_UNIT_SECCOMP_JUDGE_H
#define CLOISTER_TESTS_UNIT_SECCOMP_JUDGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/seccomp.h>

#include "isolation/seccomp_profile.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define CAP(name) (UINT64_C(1) << CAP_##name)
#define X32_BIT 0x40000000
#define ALLOWED SECCOMP_RET_ALLOW
#define ERRNO(n) (SECCOMP_RET_ERRNO | (n))

static inline bool jumps(const struct sock_filter *in, uint32_t a)
{
    switch (BPF_OP(in->code)) {
    case BPF_JEQ:
        return a == in->k;
    case BPF_JGT:
        return a > in->k;
    case BPF_JGE:
        return a >= in->k;
    case BPF_JSET:
        return a & in->k;
    default:
        fail_msg("unknown jump %#x", in->code);
        return false;
    }
}

/* The kernel's Documentation/networking/filter.rst, as far as seccomp has it. */
static inline uint32_t run(const struct seccomp_program *p, const struct seccomp_data *data)
{
    uint32_t a = 0;

    for (size_t at = 0; at < p->bpf.len; at++) {
        const struct sock_filter *in = &p->bpf.filter[at];

        if (in->code == (BPF_RET | BPF_K))
            return in->k;
        if (in->code == (BPF_LD | BPF_W | BPF_ABS)) {
            assert_in_range(in->k, 0, sizeof(*data) - sizeof(a));
            memcpy(&a, (const char *)data + in->k, sizeof(a));
        } else if (in->code == (BPF_ALU | BPF_AND | BPF_K)) {
            a &= in->k;
        } else if (in->code == (BPF_JMP | BPF_JA)) {
            at += in->k;
        } else {
            assert_int_equal(BPF_CLASS(in->code), BPF_JMP);
            at += jumps(in, a) ? in->jt : in->jf;
        }
    }
    fail_msg("the program runs off its end");
    return 0;
}

static inline uint32_t judge(const struct seccomp_program *p, uint32_t arch, uint32_t nr, uint64_t arg0, uint64_t arg1)
{
    return run(p, &(struct seccomp_data){.nr = (int)nr, .arch = arch, .args = {arg0, arg1}});
}

static inline struct seccomp_program build(const struct seccomp_profile *profile, enum seccomp_machine m, uint64_t caps)
{
    struct seccomp_program p;
    struct err e = {0};

    if (seccomp_build(profile, m, caps, &p, &e) < 0)
        fail_msg("%s", e.detail);
    return p;
}

static inline void program_free(struct seccomp_program *p)
{
    free(p->bpf.filter);
}
#define _cleanup_program_ __attribute__((cleanup(program_free)))

#endif
