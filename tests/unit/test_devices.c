/* The device policy: the table, its v1 lines, its BPF program (run by a small interpreter here, and by the kernel). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "isolation/cgroup_internal.h"
#include "isolation/devices.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Wildcards, a block device, and less than all access, of which the table of the program has none or few. */
static const struct device mixed[] = {
    {"any", 'c', DEVICE_ANY, DEVICE_ANY, DEVICE_MKNOD, false},
    {"disk", 'b', 8, DEVICE_ANY, DEVICE_READ, false},
    {"disk1", 'b', 8, 1, DEVICE_READ | DEVICE_WRITE, false},
    {"null", 'c', 1, 3, DEVICE_ALL, true},
};

/* What a list allows, said again in the plainest way: one entry must grant all of the access. */
static bool allows(const struct device *d, size_t n, char type, int major, int minor, unsigned access)
{
    for (size_t i = 0; i < n; i++)
        if (d[i].type == type && (d[i].major == DEVICE_ANY || d[i].major == major) &&
            (d[i].minor == DEVICE_ANY || d[i].minor == minor) && (d[i].access & access) == access)
            return true;
    return false;
}

static bool jumps(const struct bpf_insn *in, uint64_t dst)
{
    switch (BPF_OP(in->code)) {
    case BPF_JNE:
        return dst != (uint64_t)(int64_t)in->imm;
    case BPF_JSET:
        return dst & (uint64_t)(int64_t)in->imm;
    default:
        fail_msg("unknown jump %#x", in->code);
        return false;
    }
}

static uint64_t alu(const struct bpf_insn *in, uint64_t dst, uint64_t src)
{
    uint64_t operand = BPF_SRC(in->code) == BPF_X ? src : (uint64_t)(int64_t)in->imm;

    switch (BPF_OP(in->code)) {
    case BPF_MOV:
        return operand;
    case BPF_AND:
        return dst & operand;
    case BPF_RSH:
        return dst >> operand;
    default:
        fail_msg("unknown operation %#x", in->code);
        return 0;
    }
}

/* Runs the program on ctx: linux/bpf.h and the kernel's Documentation/bpf/standardization/instruction-set.rst. */
static uint64_t run(const struct bpf_insn *program, size_t n, const struct bpf_cgroup_dev_ctx *ctx)
{
    uint64_t r[11] = {0};

    for (size_t at = 0; at < n; at++) {
        const struct bpf_insn *in = &program[at];

        if (in->code == (BPF_JMP | BPF_EXIT))
            return r[0];
        if (in->code == (BPF_LDX | BPF_MEM | BPF_W)) {
            uint32_t word;
            assert_int_equal(in->src_reg, BPF_REG_1);
            assert_in_range(in->off, 0, sizeof(*ctx) - sizeof(word));
            memcpy(&word, (const char *)ctx + in->off, sizeof(word));
            r[in->dst_reg] = word;
        } else if (BPF_CLASS(in->code) == BPF_ALU64) {
            r[in->dst_reg] = alu(in, r[in->dst_reg], r[in->src_reg]);
        } else {
            assert_int_equal(BPF_CLASS(in->code), BPF_JMP);
            assert_true(in->off >= 0); /* only forward: it ends */
            at += jumps(in, r[in->dst_reg]) ? (size_t)in->off : 0;
        }
    }
    fail_msg("the program runs off its end");
    return 0;
}

static void compare(const struct device *d, size_t n)
{
    static const uint32_t numbers[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 135, 136, 137, 200, 254, 0x7ffff, 0xfffff};
    struct bpf_insn program[DEVICES_BPF_MAX];
    size_t len = devices_bpf_program(d, n, program), allowed = 0;

    assert_in_range(len, 1, DEVICES_BPF_MAX);
    for (unsigned type = BPF_DEVCG_DEV_BLOCK; type <= BPF_DEVCG_DEV_CHAR; type++)
        for (size_t i = 0; i < COUNT(numbers) * COUNT(numbers) * 7; i++) {
            struct bpf_cgroup_dev_ctx ctx = {
                .access_type = (uint32_t)(i % 7 + 1) << 16 | type,
                .major = numbers[i / 7 % COUNT(numbers)],
                .minor = numbers[i / 7 / COUNT(numbers)],
            };
            bool want = allows(d, n, type == BPF_DEVCG_DEV_BLOCK ? 'b' : 'c', (int)ctx.major, (int)ctx.minor,
                               (unsigned)(i % 7 + 1));

            assert_int_equal(run(program, len, &ctx), want);
            allowed += want;
        }
    assert_true(n == 0 || allowed > 0);
}

static void the_program_decides_as_the_list_says(void **state)
{
    size_t n;
    const struct device *d = devices_table(&n);

    (void)state;
    compare(d, n);
    compare(mixed, COUNT(mixed));
    compare(NULL, 0);
}

static void a_list_too_long_makes_no_program(void **state)
{
    struct bpf_insn program[DEVICES_BPF_MAX];
    struct device d[64];

    (void)state;
    for (size_t i = 0; i < COUNT(d); i++)
        d[i] = (struct device){"x", 'c', 1, (int)i, DEVICE_READ, false}; /* six instructions each */
    assert_int_equal(devices_bpf_program(d, COUNT(d), program), 0);
    assert_int_not_equal(devices_bpf_program(d, 41, program), 0);
    assert_int_equal(devices_bpf_program(d, 42, program), 0);
}

static void the_table_is_what_the_contract_lists(void **state)
{
    static const char *const want[] = {"null c 1:3 rwm",    "zero c 1:5 rwm", "full c 1:7 rwm", "random c 1:8 rwm",
                                       "urandom c 1:9 rwm", "tty c 5:0 rwm",  "ptmx c 5:2 rwm", "pts/* c 136:* rwm"};
    char line[DEVICES_V1_LINE], text[64];
    size_t n;
    const struct device *d = devices_table(&n);

    (void)state;
    assert_int_equal(n, COUNT(want));
    for (size_t i = 0; i < n; i++) {
        devices_v1_line(&d[i], line);
        snprintf(text, sizeof(text), "%s %s", d[i].name, line);
        assert_string_equal(text, want[i]);
    }
}

static void lines_of_v1(void **state)
{
    static const char *const want[] = {"c *:* m", "b 8:* r", "b 8:1 rw", "c 1:3 rwm"};
    char line[DEVICES_V1_LINE];

    (void)state;
    for (size_t i = 0; i < COUNT(want); i++) {
        devices_v1_line(&mixed[i], line);
        assert_string_equal(line, want[i]);
    }
    assert_true(devices_v1_same("c *:* m\nb 8:* r\nb 8:1 rw\nc 1:3 rwm", mixed, 4));
    assert_true(devices_v1_same("c 1:3 rwm\nb 8:1 rw\nb 8:* r\nc *:* m\n", mixed, 4));
    assert_false(devices_v1_same("c *:* m\nb 8:* r\nb 8:1 rw\nc 1:3 rwm\nc 1:11 r", mixed, 4));
    assert_false(devices_v1_same("c *:* m\nb 8:* r\nb 8:1 rw", mixed, 4));
    assert_false(devices_v1_same("c *:* m\nb 8:* rw\nb 8:1 rw\nc 1:3 rwm", mixed, 4));
    assert_false(devices_v1_same("a *:* rwm", mixed, 4));
    assert_false(devices_v1_same("", mixed, 4));
    assert_true(devices_v1_same("", mixed, 0));
    assert_false(devices_v1_same("a *:* rwm", mixed, 0));
}

static void a_host_without_any_way_says_so(void **state)
{
    struct cgroup_host h = {.parent = "none"};
    struct err e = {0};

    (void)state;
    devices_init(&h);
    assert_int_equal(h.devices, DEVICES_FREE);
    assert_int_equal(h.devices_fd, -1);
    assert_string_not_equal(h.devices_why, "");
    assert_int_equal(devices_apply(&h, "task", &e), 0);
    snprintf(h.v2_mount, sizeof(h.v2_mount), "/proc/self"); /* no cgroup2 there */
    devices_init(&h);
    assert_int_equal(h.devices, DEVICES_FREE);
    assert_int_equal(h.devices_fd, -1);
    assert_non_null(strstr(h.devices_why, "bpf(2)"));
}

struct tree { /* a parent group of our own in the v2 tree of this host, and nothing of v1 */
    struct cgroup_host h;
    char dir[CG_PATH], share[CG_FILE];
};

/* Whether the kernel lets us try; the tests of the API run in a guest where it must. */
static bool tree_open(struct tree *t)
{
    memset(t, 0, sizeof(*t));
    t->h.mode = "v2";
    snprintf(t->h.parent, sizeof(t->h.parent), "cloister-unit-%d", (int)getpid());
    cg_v2_mount(t->h.v2_mount, sizeof(t->h.v2_mount));
    cg_dir(&t->h, t->h.v2_mount, NULL, t->dir);
    snprintf(t->share, sizeof(t->share), "%s/" CG_SHARE, t->dir);
    if (!t->h.v2_mount[0] || mkdir(t->dir, 0755) < 0)
        return false;
    mkdir(t->share, 0755);
    devices_init(&t->h);
    return t->h.devices == DEVICES_BPF;
}

static void tree_close(struct tree *t)
{
    if (t->h.devices == DEVICES_BPF)
        close(t->h.devices_fd);
    rmdir(t->share);
    rmdir(t->dir);
}

/* 0 or the errno of opening or making a node. */
static int open_node(const char *dir, const char *name, int flags)
{
    char path[64];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    _cleanup_close_ int fd = open(path, flags | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? errno : 0;
}

static int make_node(const char *dir, const char *name, unsigned minor)
{
    char path[64];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return mknod(path, S_IFCHR | 0600, makedev(1, minor)) < 0 ? errno : 0;
}

/* The number of the first check that fails in a member of the group, 0 when all hold. */
static int as_member(const struct tree *t, const char *nodes)
{
    struct err e = {0};
    int checks[] = {
        cgroup_attach(&t->h, "task", getpid(), &e),
        open_node(nodes, "kmsg", O_WRONLY) != EPERM,
        open_node(nodes, "null", O_RDWR),
        make_node(nodes, "kmsg2", 11) != EPERM,
        make_node(nodes, "null2", 3),
    };

    for (int i = 0; i < (int)COUNT(checks); i++)
        if (checks[i])
            return i + 1;
    return 0;
}

static void the_kernel_runs_the_program(void **state)
{
    static const char *const made[] = {"null", "kmsg", "null2", "kmsg2"};
    char nodes[] = "/tmp/cloister-unit-XXXXXX", path[64], cores[CGROUP_CORES_TEXT];
    struct resources r = {0};
    struct err e = {0};
    struct tree t;
    int status = -1;

    (void)state;
    assert_non_null(mkdtemp(nodes));
    bool can = tree_open(&t) && make_node(nodes, "null", 3) == 0 && make_node(nodes, "kmsg", 11) == 0 &&
               open_node(nodes, "kmsg", O_WRONLY) == 0; /* the control: without the program it opens */
    int created = can ? cgroup_create(&t.h, "task", &r, cores, &e) : 0;
    if (can && created == 0) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(as_member(&t, nodes));
        waitpid(pid, &status, 0);
        cgroup_remove(&t.h, "task");
    }
    for (size_t i = 0; i < COUNT(made); i++) {
        snprintf(path, sizeof(path), "%s/%s", nodes, made[i]);
        unlink(path);
    }
    rmdir(nodes);
    tree_close(&t);
    if (!can)
        skip();
    assert_int_equal(created, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* A program attached to the parent without BPF_F_ALLOW_MULTI forbids any below it. */
static int attach_alone(const struct tree *t)
{
    union bpf_attr attr;
    _cleanup_close_ int group = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    memset(&attr, 0, sizeof(attr));
    attr.target_fd = (uint32_t)group;
    attr.attach_bpf_fd = (uint32_t)t->h.devices_fd;
    attr.attach_type = BPF_CGROUP_DEVICE;
    return (int)syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof(attr));
}

static void a_program_that_cannot_be_attached_ends_the_start(void **state)
{
    char cores[CGROUP_CORES_TEXT], dir[CG_PATH];
    struct resources r = {0};
    struct err e = {0};
    struct tree t;

    (void)state;
    bool can = tree_open(&t) && attach_alone(&t) == 0;
    int created = can ? cgroup_create(&t.h, "task", &r, cores, &e) : -1;
    cg_dir(&t.h, t.h.v2_mount, "task", dir);
    bool left = access(dir, F_OK) == 0;
    tree_close(&t);
    if (!can)
        skip();
    assert_int_equal(created, -1);
    assert_string_equal(e.step, "devices");
    assert_int_equal(e.errnum, EPERM);
    assert_false(left);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_what_the_contract_lists),
        cmocka_unit_test(lines_of_v1),
        cmocka_unit_test(the_program_decides_as_the_list_says),
        cmocka_unit_test(a_list_too_long_makes_no_program),
        cmocka_unit_test(a_host_without_any_way_says_so),
        cmocka_unit_test(the_kernel_runs_the_program),
        cmocka_unit_test(a_program_that_cannot_be_attached_ends_the_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
