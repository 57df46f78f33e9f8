/* The built-in profile and the choice of a filter by name. */
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/seccomp_judge.h"

#define ALL_CAPS UINT64_MAX

/* Numbers: arch/x86/entry/syscalls/syscall_64.tbl and scripts/syscall.tbl of the kernel. */
static const struct {
    const char *name;
    int amd64, arm64; /* -1: not there */
    uint64_t arg0, arg1;
    uint64_t caps;
    uint32_t want;
} calls[] = {
    {"read", 0, 63, 0, 0, 0, ALLOWED},
    {"open", 2, -1, 0, 0, 0, ALLOWED},
    {"openat", 257, 56, 0, 0, 0, ALLOWED},
    {"execve", 59, 221, 0, 0, 0, ALLOWED},
    {"exit_group", 231, 94, 0, 0, 0, ALLOWED},
    {"futex", 202, 98, 0, 0, 0, ALLOWED},
    {"setgroups", 116, 159, 0, 0, 0, ALLOWED},
    {"seccomp", 317, 277, 0, 0, 0, ALLOWED},
    {"ioctl TCGETS", 16, 29, 0, 0x5401, 0, ALLOWED},
    {"ioctl TIOCSTI", 16, 29, 0, 0x5412, ALL_CAPS, ERRNO(EPERM)},
    {"ioctl TIOCSTI with more", 16, 29, 0, 0x100005412, ALL_CAPS, ERRNO(EPERM)},
    {"ioctl TIOCLINUX", 16, 29, 0, 0x541c, ALL_CAPS, ERRNO(EPERM)},
    {"clone fork", 56, 220, 17, 0, 0, ALLOWED},
    {"clone thread", 56, 220, 0x3d0f00, 0, 0, ALLOWED},
    {"clone NEWUSER", 56, 220, 0x10000011, 0, 0, ERRNO(EPERM)},
    {"clone NEWNS", 56, 220, 0x20011, 0, 0, ERRNO(EPERM)},
    {"clone NEWNS", 56, 220, 0x20011, 0, CAP(SYS_ADMIN), ALLOWED},
    {"clone3", 435, 435, 0, 0, 0, ERRNO(ENOSYS)},
    {"clone3", 435, 435, 0, 0, CAP(SYS_ADMIN), ALLOWED},
    {"unshare FS", 272, 97, 0x200, 0, 0, ALLOWED},
    {"unshare NEWUSER", 272, 97, 0x10000000, 0, 0, ERRNO(EPERM)},
    {"unshare NEWTIME", 272, 97, 0x80, 0, 0, ERRNO(EPERM)},
    {"unshare NEWUSER", 272, 97, 0x10000000, 0, CAP(SYS_ADMIN), ALLOWED},
    {"socket UNIX", 41, 198, 1, 0, 0, ALLOWED},
    {"socket INET", 41, 198, 2, 0, 0, ALLOWED},
    {"socket INET6", 41, 198, 10, 0, 0, ALLOWED},
    {"socket NETLINK", 41, 198, 16, 0, 0, ALLOWED},
    {"socket PACKET", 41, 198, 17, 0, 0, ERRNO(EPERM)},
    {"socket PACKET", 41, 198, 17, 0, CAP(NET_RAW), ALLOWED},
    {"socket ALG", 41, 198, 38, 0, ALL_CAPS, ERRNO(EPERM)},
    {"socket VSOCK", 41, 198, 40, 0, ALL_CAPS, ERRNO(EPERM)},
    {"socketpair UNIX", 53, 199, 1, 0, 0, ALLOWED},
    {"socketpair TIPC", 53, 199, 30, 0, ALL_CAPS, ERRNO(EPERM)},
    {"personality query", 135, 92, 0xffffffff, 0, 0, ALLOWED},
    {"personality READ_IMPLIES_EXEC", 135, 92, 0x400000, 0, ALL_CAPS, ERRNO(EPERM)},
    {"personality ADDR_NO_RANDOMIZE", 135, 92, 0x40000, 0, ALL_CAPS, ERRNO(EPERM)},
    {"mount", 165, 40, 0, 0, ~CAP(SYS_ADMIN), ERRNO(EPERM)},
    {"mount", 165, 40, 0, 0, CAP(SYS_ADMIN), ALLOWED},
    {"setns", 308, 268, 0, 0, ~CAP(SYS_ADMIN), ERRNO(EPERM)},
    {"chroot", 161, 51, 0, 0, 0, ERRNO(EPERM)},
    {"chroot", 161, 51, 0, 0, CAP(SYS_CHROOT), ALLOWED},
    {"ptrace", 101, 117, 0, 0, ~CAP(SYS_PTRACE), ERRNO(EPERM)},
    {"ptrace", 101, 117, 0, 0, CAP(SYS_PTRACE), ALLOWED},
    {"finit_module", 313, 273, 0, 0, ~CAP(SYS_MODULE), ERRNO(EPERM)},
    {"finit_module", 313, 273, 0, 0, CAP(SYS_MODULE), ALLOWED},
    {"clock_settime", 227, 112, 0, 0, ~CAP(SYS_TIME), ERRNO(EPERM)},
    {"clock_settime", 227, 112, 0, 0, CAP(SYS_TIME), ALLOWED},
    {"open_by_handle_at", 304, 265, 0, 0, ~CAP(DAC_READ_SEARCH), ERRNO(EPERM)},
    {"open_by_handle_at", 304, 265, 0, 0, CAP(DAC_READ_SEARCH), ALLOWED},
    {"syslog", 103, 116, 0, 0, ~CAP(SYSLOG), ERRNO(EPERM)},
    {"syslog", 103, 116, 0, 0, CAP(SYSLOG), ALLOWED},
    {"bpf", 321, 280, 0, 0, ~(CAP(BPF) | CAP(SYS_ADMIN)), ERRNO(EPERM)},
    {"bpf", 321, 280, 0, 0, CAP(BPF), ALLOWED},
    {"perf_event_open", 298, 241, 0, 0, 0, ERRNO(EPERM)},
    {"perf_event_open", 298, 241, 0, 0, CAP(PERFMON), ALLOWED},
    {"reboot", 169, 142, 0, 0, CAP(SYS_BOOT), ALLOWED},
    {"vhangup", 153, 58, 0, 0, CAP(SYS_TTY_CONFIG), ALLOWED},
    {"mbind", 237, 235, 0, 0, CAP(SYS_NICE), ALLOWED},
    {"iopl", 172, -1, 0, 0, ~CAP(SYS_RAWIO), ERRNO(EPERM)},
    {"iopl", 172, -1, 0, 0, CAP(SYS_RAWIO), ALLOWED},
    {"add_key", 248, 217, 0, 0, ALL_CAPS, ERRNO(EPERM)},
    {"request_key", 249, 218, 0, 0, ALL_CAPS, ERRNO(EPERM)},
    {"keyctl", 250, 219, 0, 0, ALL_CAPS, ERRNO(EPERM)},
    {"io_uring_setup", 425, 425, 0, 0, ALL_CAPS, ERRNO(EPERM)},
    {"io_uring_enter", 426, 426, 0, 0, ALL_CAPS, ERRNO(EPERM)},
    {"io_uring_register", 427, 427, 0, 0, ALL_CAPS, ERRNO(EPERM)},
    {"userfaultfd", 323, 282, 0, 0, ALL_CAPS, ERRNO(EPERM)},
    {"kexec_load", 246, 104, 0, 0, ALL_CAPS, ERRNO(EPERM)},
    {"swapon", 167, 224, 0, 0, ALL_CAPS, ERRNO(EPERM)},
    {"newer than all", 1000, 1000, 0, 0, ALL_CAPS, ERRNO(ENOSYS)},
    {"no call at all", -2, -2, 0, 0, ALL_CAPS, ERRNO(ENOSYS)},
    {"x32 read", X32_BIT, -1, 0, 0, ALL_CAPS, ERRNO(ENOSYS)},
    {"x32 mount", X32_BIT | 165, -1, 0, 0, ALL_CAPS, ERRNO(ENOSYS)},
    {"x32 ioctl", X32_BIT | 514, -1, 0, 0, ALL_CAPS, ERRNO(ENOSYS)},
};

static void the_built_in_profile(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(calls); i++) {
        _cleanup_program_ struct seccomp_program amd64 = build(&seccomp_default_profile, MACHINE_AMD64, calls[i].caps);
        _cleanup_program_ struct seccomp_program arm64 = build(&seccomp_default_profile, MACHINE_ARM64, calls[i].caps);
        uint32_t on_amd64 = judge(&amd64, AUDIT_ARCH_X86_64, (uint32_t)calls[i].amd64, calls[i].arg0, calls[i].arg1);
        uint32_t on_arm64 = judge(&arm64, AUDIT_ARCH_AARCH64, (uint32_t)calls[i].arm64, calls[i].arg0, calls[i].arg1);

        if (on_amd64 != calls[i].want || (calls[i].arm64 != -1 && on_arm64 != calls[i].want))
            fail_msg("%s: %#x on amd64, %#x on arm64, not %#x", calls[i].name, on_amd64, on_arm64, calls[i].want);
    }
}

static void other_architectures_are_killed(void **state)
{
    static const uint32_t others[] = {AUDIT_ARCH_I386, AUDIT_ARCH_ARM, AUDIT_ARCH_AARCH64, AUDIT_ARCH_X86_64, 0};

    (void)state;
    for (enum seccomp_machine m = MACHINE_AMD64; m <= MACHINE_ARM64; m++) {
        uint32_t own = m == MACHINE_AMD64 ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_AARCH64;
        _cleanup_program_ struct seccomp_program p = build(&seccomp_default_profile, m, ALL_CAPS);

        for (size_t i = 0; i < COUNT(others); i++)
            for (uint32_t nr = 0; nr < 512 && others[i] != own; nr++)
                assert_int_equal(judge(&p, others[i], nr, 0, 0), SECCOMP_RET_KILL_PROCESS);
    }
}

/* A name that is spelled wrong would be passed over like one that libseccomp is too old for. */
static void all_names_are_of_calls(void **state)
{
    static const char *const newer[] = {"getxattrat", "setxattrat", "listxattrat",    "removexattrat",
                                        "statmount",  "listmount",  "file_getattr",   "file_setattr",
                                        "mseal",      "uretprobe",  "open_tree_attr", "uprobe"};
    size_t names = 0;

    (void)state;
    for (size_t i = 0; i < seccomp_default_profile.n; i++)
        for (const char *const *name = seccomp_default_profile.rules[i].names; *name; name++) {
            bool listed = false;

            for (size_t k = 0; k < COUNT(newer); k++)
                listed = listed || strcmp(newer[k], *name) == 0;
            if (!listed && !seccomp_knows(*name))
                fail_msg("%s is no system call", *name);
            names++;
        }
    assert_in_range(names, 300, 450);
}

static void a_profile_is_chosen_by_name(void **state)
{
    struct seccomp_policy *strict = seccomp_policy_new(false), *loose = seccomp_policy_new(true);
    const struct seccomp_program *a, *b, *c;
    struct err e = {0};

    (void)state;
    if (!seccomp_available())
        skip();
    assert_int_equal(seccomp_policy_prepare(strict, CAP(CHOWN) | CAP(SYS_CHROOT), &e), 0);
    assert_int_equal(seccomp_choose(strict, "default", CAP(SYS_CHROOT), &a, &e), 0);
    assert_int_equal(seccomp_choose(strict, "default", CAP(SYS_CHROOT) | CAP(KILL), &b, &e), 0);
    assert_int_equal(seccomp_choose(strict, "default", 0, &c, &e), 0);
    assert_ptr_equal(a, b); /* CAP_KILL does not matter to it */
    assert_ptr_not_equal(a, c);
    assert_int_equal(seccomp_choose(strict, "unconfined", 0, &a, &e), -1);
    assert_int_equal(e.status, 403);
    assert_string_equal(e.code, "seccomp_denied");
    assert_string_equal(e.pointer, "/seccomp");
    assert_int_equal(seccomp_choose(loose, "unconfined", 0, &a, &e), 0);
    assert_null(a);
    assert_int_equal(seccomp_choose(strict, "other", 0, &a, &e), -1);
    assert_int_equal(e.status, 422);
    assert_string_equal(e.pointer, "/seccomp");
    seccomp_policy_free(strict);
    seccomp_policy_free(loose);
}

/* The number of the first check that fails, 0 when all hold. */
static int confined(const struct seccomp_program *p)
{
    struct err e = {0};

    if (syscall(SYS_io_uring_setup, 1, NULL) != -1 || (errno != EFAULT && errno != ENOSYS && errno != EPERM))
        return 1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || seccomp_install(p, &e) < 0)
        return 2;
    if (syscall(SYS_io_uring_setup, 1, NULL) != -1 || errno != EPERM)
        return 3;
    if (syscall(1000) != -1 || errno != ENOSYS)
        return 4;
    return getppid() > 0 ? 0 : 5;
}

static void the_kernel_takes_it(void **state)
{
    int status = -1;

    (void)state;
    if (!seccomp_available())
        skip();
    _cleanup_program_ struct seccomp_program p = build(&seccomp_default_profile, seccomp_machine(), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(confined(&p));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void what_the_kernel_refuses_is_a_failed_step(void **state)
{
    struct sock_filter nonsense = {.code = 0xffff};
    struct seccomp_program p = {.bpf = {.len = 1, .filter = &nonsense}};
    struct err e = {0};

    (void)state;
    if (!seccomp_available())
        skip();
    assert_int_equal(seccomp_install(&p, &e), -1);
    assert_string_equal(e.step, "seccomp");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_built_in_profile),   cmocka_unit_test(other_architectures_are_killed),
        cmocka_unit_test(all_names_are_of_calls), cmocka_unit_test(a_profile_is_chosen_by_name),
        cmocka_unit_test(the_kernel_takes_it),    cmocka_unit_test(what_the_kernel_refuses_is_a_failed_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
