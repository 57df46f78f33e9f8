/* The device policy as a BPF program, for cgroup v2, which has no devices controller. The kernel runs it whenever a
 * member of the group opens or makes a device: its context is struct bpf_cgroup_dev_ctx of linux/bpf.h (access and type
 * in one word, major, minor). */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "isolation/devices.h"

/* What each register holds. r1 is the context at entry. */
enum {
    RESULT = BPF_REG_0,
    CONTEXT = BPF_REG_1,
    ACCESS = BPF_REG_2,
    TYPE = BPF_REG_3,
    MAJOR = BPF_REG_4,
    MINOR = BPF_REG_5
};

enum { LOAD_TRIES = 5, ACCESS_SHIFT = 16, TYPE_MASK = 0xffff };

struct program {
    struct bpf_insn *v;
    size_t n; /* beyond DEVICES_BPF_MAX: there was no room */
};

static void emit(struct program *p, int code, int dst, int src, int off, int imm)
{
    if (p->n < DEVICES_BPF_MAX)
        p->v[p->n] = (struct bpf_insn){
            .code = (__u8)code,
            .dst_reg = (__u8)(dst & 0xf),
            .src_reg = (__u8)(src & 0xf),
            .off = (__s16)off,
            .imm = imm,
        };
    p->n++;
}

static void emit_load(struct program *p, int reg, size_t off)
{
    emit(p, BPF_LDX | BPF_MEM | BPF_W, reg, CONTEXT, (int)off, 0);
}

static void emit_return(struct program *p, int value)
{
    emit(p, BPF_ALU64 | BPF_MOV | BPF_K, RESULT, 0, 0, value);
    emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* One rule: a row of checks, of which each that fails jumps to the next rule, then "return 1". */
static void emit_rule(struct program *p, const struct device *d)
{
    size_t jumps[4], n = 0;

    jumps[n++] = p->n;
    emit(p, BPF_JMP | BPF_JNE | BPF_K, TYPE, 0, 0, d->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
    if (d->major != DEVICE_ANY) {
        jumps[n++] = p->n;
        emit(p, BPF_JMP | BPF_JNE | BPF_K, MAJOR, 0, 0, d->major);
    }
    if (d->minor != DEVICE_ANY) {
        jumps[n++] = p->n;
        emit(p, BPF_JMP | BPF_JNE | BPF_K, MINOR, 0, 0, d->minor);
    }
    if (d->access != DEVICE_ALL) { /* is anything asked for that is not allowed? */
        jumps[n++] = p->n;
        emit(p, BPF_JMP | BPF_JSET | BPF_K, ACCESS, 0, 0, (int)(DEVICE_ALL & ~d->access));
    }
    emit_return(p, 1);
    for (size_t i = 0; i < n && p->n <= DEVICES_BPF_MAX; i++)
        p->v[jumps[i]].off = (__s16)(p->n - jumps[i] - 1); /* counted from the next instruction */
}

size_t devices_bpf_program(const struct device *d, size_t n, struct bpf_insn *out)
{
    struct program p = {out, 0};

    emit_load(&p, ACCESS, offsetof(struct bpf_cgroup_dev_ctx, access_type));
    emit(&p, BPF_ALU64 | BPF_MOV | BPF_X, TYPE, ACCESS, 0, 0);
    emit(&p, BPF_ALU64 | BPF_AND | BPF_K, TYPE, 0, 0, TYPE_MASK);
    emit(&p, BPF_ALU64 | BPF_RSH | BPF_K, ACCESS, 0, 0, ACCESS_SHIFT);
    emit_load(&p, MAJOR, offsetof(struct bpf_cgroup_dev_ctx, major));
    emit_load(&p, MINOR, offsetof(struct bpf_cgroup_dev_ctx, minor));
    for (size_t i = 0; i < n; i++)
        emit_rule(&p, &d[i]);
    emit_return(&p, 0);
    return p.n <= DEVICES_BPF_MAX ? p.n : 0;
}

static int bpf(enum bpf_cmd cmd, union bpf_attr *attr)
{
    return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

int devices_bpf_load(void)
{
    struct bpf_insn program[DEVICES_BPF_MAX];
    union bpf_attr attr;
    size_t n;
    const struct device *d = devices_table(&n);
    int fd = -1;

    n = devices_bpf_program(d, n, program);
    if (n == 0) {
        errno = E2BIG;
        return -1;
    }
    memset(&attr, 0, sizeof(attr));
    attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.insns = (__u64)(uintptr_t)program;
    attr.insn_cnt = (__u32)n;
    attr.license = (__u64)(uintptr_t) ""; /* it calls no function of the kernel */
    memcpy(attr.prog_name, "cloister_dev", sizeof("cloister_dev"));
    for (int i = 0; i < LOAD_TRIES && fd < 0; i++) {
        fd = bpf(BPF_PROG_LOAD, &attr);
        if (fd < 0 && errno != EAGAIN) /* EAGAIN: a signal has interrupted the verifier */
            return -1;
    }
    return fd;
}

/* The ids of the programs attached to the group itself, not to the groups above it: their number, or -1. */
static int attached(int group, __u32 *ids, size_t room)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.query.target_fd = (__u32)group;
    attr.query.attach_type = BPF_CGROUP_DEVICE;
    attr.query.prog_ids = (__u64)(uintptr_t)ids;
    attr.query.prog_cnt = (__u32)room;
    /* ENOSPC: there are more than room. */
    if (bpf(BPF_PROG_QUERY, &attr) < 0 && errno != ENOSPC)
        return -1;
    return (int)attr.query.prog_cnt;
}

static int program_id(int fd, __u32 *id)
{
    struct bpf_prog_info info;
    union bpf_attr attr;

    memset(&info, 0, sizeof(info));
    memset(&attr, 0, sizeof(attr));
    attr.info.bpf_fd = (__u32)fd;
    attr.info.info_len = sizeof(info);
    attr.info.info = (__u64)(uintptr_t)&info;
    if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) < 0)
        return -1;
    *id = info.id;
    return 0;
}

int devices_bpf_probe(const char *dir)
{
    __u32 ids[1];
    _cleanup_close_ int group = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return group < 0 || attached(group, ids, 1) < 0 ? -1 : 0;
}

int devices_bpf_apply(const char *dir, int program, struct err *e)
{
    union bpf_attr attr;
    __u32 ids[2] = {0}, id = 0;
    _cleanup_close_ int group = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (group < 0)
        return err_step(e, "devices", errno, "cannot open %s", dir);
    memset(&attr, 0, sizeof(attr));
    attr.target_fd = (__u32)group;
    attr.attach_bpf_fd = (__u32)program;
    attr.attach_type = BPF_CGROUP_DEVICE;
    /* Programs of the groups above (a service manager's) go on to hold too: all must allow. Unlike a link, the program
     * stays as long as the group does, even when its supervisor dies. */
    attr.attach_flags = BPF_F_ALLOW_MULTI;
    if (bpf(BPF_PROG_ATTACH, &attr) < 0)
        return err_step(e, "devices", errno, "cannot attach the device program to %s", dir);
    int n = attached(group, ids, 2);
    if (n < 0 || program_id(program, &id) < 0)
        return err_step(e, "devices", errno, "cannot read back which device program %s has", dir);
    if (n != 1 || ids[0] != id)
        return err_step(e, "devices", EINVAL, "%s has not the device program alone", dir);
    return 0;
}
