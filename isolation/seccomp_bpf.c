/* The classic BPF that is put before libseccomp's program, and the loading of both. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "isolation/seccomp_profile.h"

/* 32-bit ARM has calls of its own from here on (arch/arm/include/uapi/asm/unistd.h); they are no new ones. */
#define ARM_PRIVATE 0x0f0000

static size_t emit(struct sock_filter *out, size_t n, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
    out[n] = (struct sock_filter){code, jt, jf, k};
    return n + 1;
}

static size_t load(struct sock_filter *out, size_t n, size_t offset)
{
    return emit(out, n, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

static size_t answer(struct sock_filter *out, size_t n, int errnum)
{
    return emit(out, n, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | (uint32_t)errnum);
}

static size_t refuse(struct sock_filter *out, size_t n, int nr, const struct seccomp_refusal *r)
{
    n = emit(out, n, BPF_JMP | BPF_JEQ | BPF_K, 0, 4, (uint32_t)nr);
    /* Both machines are little-endian: the low half comes first. */
    n = load(out, n, offsetof(struct seccomp_data, args) + r->index * sizeof(uint64_t));
    n = emit(out, n, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, r->value);
    n = answer(out, n, EPERM);
    return load(out, n, offsetof(struct seccomp_data, nr));
}

size_t seccomp_prologue(const struct seccomp_prologue *p, struct sock_filter out[SECCOMP_PROLOGUE_MAX])
{
    size_t n = load(out, 0, offsetof(struct seccomp_data, arch));
    size_t test = n;

    n = emit(out, n, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, p->arch);
    n = load(out, n, offsetof(struct seccomp_data, nr));
    if (p->highest != UINT32_MAX) {
        if (p->arch == AUDIT_ARCH_ARM)
            n = emit(out, n, BPF_JMP | BPF_JGE | BPF_K, 2, 0, ARM_PRIVATE);
        n = emit(out, n, BPF_JMP | BPF_JGT | BPF_K, 0, 1, p->highest);
        n = answer(out, n, ENOSYS);
    }
    for (size_t i = 0; i < p->n; i++)
        n = refuse(out, n, p->refused[i].nr, p->refused[i].refusal);
    out[test].jf = (uint8_t)(n - test - 1); /* another architecture: to the end */
    return n;
}

bool seccomp_available(void)
{
    uint32_t action = SECCOMP_RET_ERRNO;

    return seccomp_machine() != MACHINE_OTHER && syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

int seccomp_install(const struct seccomp_program *p, struct err *e)
{
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, p->flags, &p->bpf) != 0)
        return err_step(e, "seccomp", errno, "cannot install the filter");
    /* Read back; an error is the new filter's own answer, since PR_GET_SECCOMP has no other here (prctl(2)). A profile
     * that kills for prctl(2) is taken at seccomp(2)'s word. */
    if (p->answers_prctl && prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == SECCOMP_MODE_DISABLED)
        return err_step(e, "seccomp", EPERM, "the filter is not in force");
    return 0;
}
