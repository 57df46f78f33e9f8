/* The floor: the system calls of a start on a v1 or hybrid host, and nothing else: directories, groups with limits and
 * device rules, clone3, the same mounts, capabilities, the same filter, exec of /bin/true, wait, removal of the groups.
 * No HTTP, durable row, record, log files, and nothing is read back. Usage: floor N DIR, prints the microseconds of
 * each of N rounds; what they made in DIR stays. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "isolation/seccomp.h"

static const char *const controllers[] = {"cpu", "cpuacct", "memory", "pids", "freezer", "devices", "blkio", "unified"};
enum { CONTROLLERS = sizeof(controllers) / sizeof(controllers[0]) };

static void check(long rc, const char *what)
{
    if (rc < 0) {
        perror(what);
        _exit(1);
    }
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        check(write(fd, text, strlen(text)), path);
        close(fd);
    }
}

static void group_path(char *out, size_t n, int i, const char *file)
{
    snprintf(out, n, "/sys/fs/cgroup/%s/cloister-floor%s%s", controllers[i], *file ? "/" : "", file);
}

static void overlay(const char *dir, const char *name)
{
    char options[1024], target[256];

    snprintf(target, sizeof(target), "%s/root/%s", dir, name);
    snprintf(options, sizeof(options), "lowerdir=/%s,upperdir=%s/upper/%s,workdir=%s/work/%s", name, dir, name, dir,
             name);
    check(mount("overlay", target, "overlay", MS_NOSUID | MS_NODEV, options), "overlay");
}

/* A mount, and the second call that its flags need. */
static void bind(const char *source, const char *target, unsigned long flags)
{
    if (mount(source, target, NULL, MS_BIND, NULL) < 0 && errno == ENOENT)
        return; /* this kernel has no such file */
    check(mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | flags, NULL), target);
}

static void devices(void)
{
    static const struct {
        const char *name;
        unsigned major, minor;
    } nodes[] = {{"dev/null", 1, 3},   {"dev/zero", 1, 5},    {"dev/full", 1, 7},
                 {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
    static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"},
                                           {"/proc/self/fd/0", "dev/stdin"},
                                           {"/proc/self/fd/1", "dev/stdout"},
                                           {"/proc/self/fd/2", "dev/stderr"},
                                           {"pts/ptmx", "dev/ptmx"}};

    check(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=1m,nr_inodes=256"), "dev");
    for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
        check(mknod(nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].name);
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
        check(symlink(links[i][0], links[i][1]), links[i][1]);
    for (size_t i = 0; i < 3; i++)
        check(mkdir((const char *[]){"dev/pts", "dev/shm", "dev/mqueue"}[i], 0755), "mkdir");
    check(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"), "pts");
    check(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m"), "shm");
    check(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mqueue");
    check(mount(NULL, "dev", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL), "dev");
}

static void kernel_views(void)
{
    static const char *const files[] = {"proc/keys",       "proc/timer_list", "proc/interrupts",
                                        "proc/kpagecount", "proc/kpageflags", "proc/kpagecgroup"};
    static const char *const masked[] = {"proc/acpi", "sys/firmware", "sys/devices/virtual/powercap"};
    static const char *const read_only[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

    check(mount("proc", "proc", "proc", flags, NULL), "proc");
    check(mount("sysfs", "sys", "sysfs", flags | MS_RDONLY, NULL), "sys");
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        bind("dev/null", files[i], MS_RDONLY | MS_NOSUID | MS_NOEXEC);
    for (size_t i = 0; i < sizeof(masked) / sizeof(masked[0]); i++)
        mount("tmpfs", masked[i], "tmpfs", flags | MS_RDONLY, "mode=0555,size=4k,nr_inodes=2");
    for (size_t i = 0; i < sizeof(read_only) / sizeof(read_only[0]); i++)
        bind(read_only[i], read_only[i], flags | MS_RDONLY);
}

static void drop_power(const struct seccomp_program *filter)
{
    struct err e = {0};

    for (int cap = 0; cap < 41; cap++)
        prctl(PR_CAPBSET_DROP, cap);
    check(setgroups(0, NULL), "setgroups");
    check(setresgid(65534, 65534, 65534), "setresgid");
    check(setresuid(65534, 65534, 65534), "setresuid");
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    check(filter ? seccomp_install(filter, &e) : 0, e.detail);
}

static void child(const char *dir, const struct seccomp_program *filter)
{
    static const char *const links[][2] = {
        {"usr/bin", "bin"}, {"usr/lib", "lib"}, {"usr/lib32", "lib32"}, {"usr/lib64", "lib64"}, {"usr/sbin", "sbin"}};
    static const char *const own[] = {"local", "alloc", "tmp"};
    static const char *const places[] = {"etc", "usr", "local", "alloc", "tmp", "secrets", "dev", "proc", "sys"};
    char root[256], path[300];

    snprintf(root, sizeof(root), "%s/root", dir);
    check(unshare(CLONE_NEWCGROUP), "unshare");
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
    check(mount(root, root, NULL, MS_BIND, NULL), "bind");
    check(chdir(root), "chdir");
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        check(mkdir(places[i], 0755), places[i]);
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
        check(symlink(links[i][0], links[i][1]), links[i][1]);
    overlay(dir, "usr");
    overlay(dir, "etc");
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, own[i]);
        bind(path, own[i], MS_NOSUID | MS_NODEV);
    }
    check(mount("tmpfs", "secrets", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=1m,mode=0700"), "secrets");
    devices();
    kernel_views();
    check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH), "umount");
    check(chdir("/"), "chdir /");
    drop_power(filter);
    execl("/bin/true", "true", (char *)NULL);
    _exit(127);
}

static void make_directories(const char *dir)
{
    static const char *const dirs[] = {"",      "root", "local",     "alloc",    "alloc/data", "alloc/tmp", "tmp",
                                       "upper", "work", "upper/usr", "work/usr", "upper/etc",  "work/etc"};
    char path[256];

    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, dirs[i]);
        check(mkdir(path, 0755), path);
    }
}

static void make_groups(void)
{
    static const char *const rules[] = {"c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
                                        "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"};
    char path[256];

    for (int i = 0; i < CONTROLLERS; i++) {
        group_path(path, sizeof(path), i, "");
        mkdir(path, 0755);
    }
    put("/sys/fs/cgroup/memory/cloister-floor/memory.limit_in_bytes", "268435456");
    put("/sys/fs/cgroup/memory/cloister-floor/memory.memsw.limit_in_bytes", "268435456");
    put("/sys/fs/cgroup/memory/cloister-floor/memory.swappiness", "0");
    put("/sys/fs/cgroup/cpu/cloister-floor/cpu.shares", "500");
    put("/sys/fs/cgroup/pids/cloister-floor/pids.max", "100");
    put("/sys/fs/cgroup/devices/cloister-floor/devices.deny", "a");
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        put("/sys/fs/cgroup/devices/cloister-floor/devices.allow", rules[i]);
}

static int round_once(const char *dir, const struct seccomp_program *filter)
{
    struct clone_args a = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS, .exit_signal = SIGCHLD};
    char path[256], pid_text[24];
    int go[2], status;

    make_directories(dir);
    make_groups();
    check(pipe2(go, O_CLOEXEC), "pipe");
    long pid = syscall(SYS_clone3, &a, sizeof(a));
    check(pid, "clone3");
    if (pid == 0) {
        char c;
        if (read(go[0], &c, 1) != 1)
            _exit(1);
        child(dir, filter);
    }
    snprintf(pid_text, sizeof(pid_text), "%ld", pid);
    for (int i = 0; i < CONTROLLERS; i++) {
        group_path(path, sizeof(path), i, "cgroup.procs");
        put(path, pid_text);
    }
    check(write(go[1], "x", 1), "go");
    waitpid((pid_t)pid, &status, 0);
    close(go[0]);
    close(go[1]);
    for (int i = 0; i < CONTROLLERS; i++) {
        group_path(path, sizeof(path), i, "");
        rmdir(path);
    }
    return status;
}

/* The built-in filter, as the daemon loads it; made once. */
static const struct seccomp_program *make_filter(void)
{
    const struct seccomp_program *filter = NULL;
    struct err e = {0};

    if (seccomp_choose(seccomp_policy_new(false), SECCOMP_DEFAULT, 0, &filter, &e) < 0) {
        fprintf(stderr, "floor: %s\n", e.detail);
        exit(1);
    }
    return filter;
}

int main(int argc, char **argv)
{
    const struct seccomp_program *filter = make_filter();
    char dir[240];

    if (argc != 3)
        return 2;
    for (long n = strtol(argv[1], NULL, 10); n > 0; n--) {
        struct timespec from, to;

        snprintf(dir, sizeof(dir), "%s/%d.%ld", argv[2], (int)getpid(), n);
        clock_gettime(CLOCK_MONOTONIC, &from);
        int status = round_once(dir, filter);
        clock_gettime(CLOCK_MONOTONIC, &to);
        if (status != 0) {
            fprintf(stderr, "the child failed: %d\n", status);
            return 1;
        }
        printf("%ld\n", (to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000);
    }
    return 0;
}
