/* The built-in profile: an allowlist of what ordinary programs call. What is in no group is refused with EPERM, and
 * what is newer than all of it with ENOSYS. A call that a task could only abuse, or that only an administrator's
 * program needs, hangs on the capability that it needs anyway: the capability opens it. 64-bit calls only. Names that a
 * machine or libseccomp does not have are passed over. docs/seccomp.md publishes the list; a test compares. */
#include <errno.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/socket.h>

#include "isolation/seccomp_profile.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define CAP(name) (UINT64_C(1) << CAP_##name)
#define NAMES(...)                                                                                                     \
    (const char *const[])                                                                                              \
    {                                                                                                                  \
        __VA_ARGS__, NULL                                                                                              \
    }
#define ALLOW(...)                                                                                                     \
    {                                                                                                                  \
        .names = NAMES(__VA_ARGS__), .action = ACTION_ALLOW                                                            \
    }
#define ALLOW_WITH(set, ...)                                                                                           \
    {                                                                                                                  \
        .names = NAMES(__VA_ARGS__), .action = ACTION_ALLOW, .caps = (set)                                             \
    }
/* One rule for a condition on one argument. */
#define ALLOW_IF(n, op_, value_, two)                                                                                  \
    .names = NAMES(n), .action = ACTION_ALLOW, .nargs = 1, .args = (const struct seccomp_arg[])                        \
    {                                                                                                                  \
        {                                                                                                              \
            0, op_, value_, two                                                                                        \
        }                                                                                                              \
    }
#define FAMILY(f)                                                                                                      \
    {                                                                                                                  \
        ALLOW_IF("socket", OP_EQ, f, 0)                                                                                \
    }
#define FAMILY_WITH(set, f)                                                                                            \
    {                                                                                                                  \
        ALLOW_IF("socket", OP_EQ, f, 0), .caps = (set)                                                                 \
    }
/* A protocol of AF_NETLINK, the third argument of socket(2). */
#define NETLINK(set, protocol)                                                                                         \
    {                                                                                                                  \
        .names = NAMES("socket"), .action = ACTION_ALLOW, .nargs = 2, .caps = (set),                                   \
        .args = (const struct seccomp_arg[])                                                                           \
        {                                                                                                              \
            {0, OP_EQ, AF_NETLINK, 0},                                                                                 \
            {                                                                                                          \
                2, OP_EQ, protocol, 0                                                                                  \
            }                                                                                                          \
        }                                                                                                              \
    }
#define PERSONALITY(p)                                                                                                 \
    {                                                                                                                  \
        ALLOW_IF("personality", OP_EQ, p, 0)                                                                           \
    }

/* Every namespace; CLONE_NEWTIME (0x80) is a signal number to clone(2), and a flag to unshare(2) only. */
#define NAMESPACES                                                                                                     \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)
#define NEW_TIME 0x80

static const struct seccomp_rule rules[] = {
    /* files: open, read and write */
    ALLOW("open", "openat", "openat2", "creat", "close", "close_range", "read", "write", "readv", "writev", "pread64",
          "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "lseek", "dup", "dup2", "dup3", "pipe", "pipe2",
          "fcntl", "ioctl", "flock", "sendfile", "splice", "tee", "vmsplice", "copy_file_range", "readahead",
          "fadvise64", "cachestat"),
    ALLOW("fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "fallocate", "truncate", "ftruncate"),
    /* files: names and attributes */
    ALLOW("stat", "fstat", "lstat", "newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2",
          "readlink", "readlinkat", "getdents", "getdents64", "getcwd", "chdir", "fchdir", "umask"),
    ALLOW("mkdir", "mkdirat", "rmdir", "mknod", "mknodat", "link", "linkat", "symlink", "symlinkat", "unlink",
          "unlinkat", "rename", "renameat", "renameat2"),
    ALLOW("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "utime", "utimes",
          "futimesat", "utimensat", "file_getattr", "file_setattr"),
    ALLOW("getxattr", "lgetxattr", "fgetxattr", "getxattrat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat",
          "listxattr", "llistxattr", "flistxattr", "listxattrat", "removexattr", "lremovexattr", "fremovexattr",
          "removexattrat"),
    ALLOW("inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch", "fanotify_mark",
          "name_to_handle_at", "statmount", "listmount"),
    /* waiting for files */
    ALLOW("poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait",
          "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "signalfd", "signalfd4", "timerfd_create",
          "timerfd_settime", "timerfd_gettime"),
    ALLOW("io_setup", "io_destroy", "io_submit", "io_cancel", "io_getevents", "io_pgetevents"),
    /* memory */
    ALLOW("brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "mincore", "msync", "mlock", "mlock2", "munlock",
          "mlockall", "munlockall", "remap_file_pages", "memfd_create", "memfd_secret", "membarrier", "mseal",
          "pkey_alloc", "pkey_free", "pkey_mprotect", "map_shadow_stack"),
    /* processes and threads */
    ALLOW("fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "getpid", "getppid", "gettid",
          "getpgid", "setpgid", "getpgrp", "getsid", "setsid", "pidfd_open", "pidfd_send_signal", "process_mrelease",
          "set_tid_address", "set_robust_list", "get_robust_list", "rseq", "prctl", "arch_prctl", "set_thread_area",
          "get_thread_area"),
    ALLOW("futex", "futex_waitv", "futex_wait", "futex_wake", "futex_requeue"),
    ALLOW("sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getattr", "sched_setattr", "sched_getparam",
          "sched_setparam", "sched_getscheduler", "sched_setscheduler", "sched_get_priority_max",
          "sched_get_priority_min", "sched_rr_get_interval", "getpriority", "setpriority", "ioprio_get", "ioprio_set",
          "getcpu"),
    ALLOW("getrlimit", "setrlimit", "prlimit64", "getrusage", "times", "uname", "sysinfo", "getrandom"),
    /* confining oneself further */
    ALLOW("seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"),
    /* signals */
    ALLOW("kill", "tkill", "tgkill", "pause", "rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigsuspend",
          "rt_sigtimedwait", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "rt_sigreturn", "sigaltstack", "restart_syscall"),
    /* ids and capabilities: the kernel's own checks decide */
    ALLOW("getuid", "geteuid", "getresuid", "setuid", "setreuid", "setresuid", "setfsuid", "getgid", "getegid",
          "getresgid", "setgid", "setregid", "setresgid", "setfsgid", "getgroups", "setgroups", "capget", "capset"),
    /* time */
    ALLOW("time", "gettimeofday", "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "alarm", "getitimer",
          "setitimer", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime",
          "adjtimex"),
    /* sockets, but for socket(2) itself */
    ALLOW("bind", "connect", "listen", "accept", "accept4", "getsockname", "getpeername", "getsockopt", "setsockopt",
          "shutdown", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg"),
    /* System V and POSIX message queues, semaphores and shared memory */
    ALLOW("msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt",
          "shmget", "mq_open", "mq_unlink", "mq_notify", "mq_getsetattr", "mq_timedsend", "mq_timedreceive"),
    /* the kernel's trampolines for probes that an administrator has set */
    ALLOW("uretprobe", "uprobe"),

    /* No new namespaces: in a user namespace of its own a task would hold every capability. clone3(2) hands its flags
     * over in memory, which a filter cannot read; told that there is no such call, C libraries use clone(2). */
    {ALLOW_IF("clone", OP_MASKED_EQ, NAMESPACES, 0), .not_caps = CAP(SYS_ADMIN)},
    {ALLOW_IF("unshare", OP_MASKED_EQ, NAMESPACES | NEW_TIME, 0), .not_caps = CAP(SYS_ADMIN)},
    {.names = NAMES("clone3"), .action = ACTION_ERRNO, .value = ENOSYS, .not_caps = CAP(SYS_ADMIN)},

    /* Families with uses in a task. AF_VSOCK reaches the hypervisor, AF_ALG has been the way to several exploits. */
    FAMILY(AF_UNIX),
    FAMILY(AF_INET),
    FAMILY(AF_INET6),
    NETLINK(0, NETLINK_ROUTE),
    NETLINK(0, NETLINK_SOCK_DIAG),
    NETLINK(0, NETLINK_AUDIT),
    NETLINK(0, NETLINK_KOBJECT_UEVENT),
    NETLINK(0, NETLINK_GENERIC),
    /* Packet filters and IPsec have been the way to many exploits, and are of use to an administrator alone. */
    NETLINK(CAP(NET_ADMIN), NETLINK_NETFILTER),
    NETLINK(CAP(NET_ADMIN), NETLINK_XFRM),
    FAMILY_WITH(CAP(NET_RAW), AF_PACKET),
    FAMILY_WITH(CAP(NET_ADMIN), AF_KEY),
    {ALLOW_IF("socketpair", OP_EQ, AF_UNIX, 0)},

    /* No READ_IMPLIES_EXEC, no ADDR_NO_RANDOMIZE; the last one asks what it is (personality(2)). */
    PERSONALITY(PER_LINUX),
    PERSONALITY(PER_LINUX32),
    PERSONALITY(UNAME26),
    PERSONALITY(PER_LINUX32 | UNAME26),
    PERSONALITY(0xffffffff),

    ALLOW_WITH(CAP(SYS_ADMIN), "clone", "clone3", "unshare", "setns", "mount", "umount2", "pivot_root", "mount_setattr",
               "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick", "quotactl",
               "quotactl_fd", "fanotify_init", "sethostname", "setdomainname", "bpf", "perf_event_open"),
    ALLOW_WITH(CAP(BPF), "bpf"),
    ALLOW_WITH(CAP(PERFMON), "perf_event_open"),
    ALLOW_WITH(CAP(SYSLOG), "syslog"),
    ALLOW_WITH(CAP(SYS_PTRACE), "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd",
               "kcmp"),
    ALLOW_WITH(CAP(SYS_CHROOT), "chroot"),
    ALLOW_WITH(CAP(SYS_NICE), "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "mbind", "move_pages",
               "migrate_pages"),
    ALLOW_WITH(CAP(SYS_TIME), "settimeofday", "clock_settime", "clock_adjtime"),
    ALLOW_WITH(CAP(SYS_MODULE), "init_module", "finit_module", "delete_module"),
    ALLOW_WITH(CAP(SYS_RAWIO), "iopl", "ioperm"),
    ALLOW_WITH(CAP(SYS_BOOT), "reboot"),
    ALLOW_WITH(CAP(SYS_PACCT), "acct"),
    ALLOW_WITH(CAP(SYS_TTY_CONFIG), "vhangup"),
    ALLOW_WITH(CAP(DAC_READ_SEARCH), "open_by_handle_at"),
};

static const struct seccomp_refusal refusals[] = {
    /* Input for a terminal from nowhere (CVE-2017-5226), and into the console's selection. */
    {"ioctl", 1, TIOCSTI},
    {"ioctl", 1, 0x541c /* TIOCLINUX, ioctl_console(2) */},
};

_Static_assert(COUNT(refusals) <= SECCOMP_REFUSALS, "there must be room for all");

const struct seccomp_profile seccomp_default_profile = {
    .action = ACTION_ERRNO,
    .value = EPERM,
    .rules = rules,
    .n = COUNT(rules),
    .refusals = refusals,
    .refusals_n = COUNT(refusals),
};
