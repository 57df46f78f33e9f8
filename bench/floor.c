/* The floor: the system calls of a start and nothing else; no HTTP, no durable row, no logs. Usage: floor N DIR, prints
 * the microseconds of each of N rounds of cgroup + clone3 + overlay root + exec of /bin/true + wait + removal. */
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *const controllers[] = {"cpu", "cpuacct", "memory", "pids", "freezer", "devices", "unified"};
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
    snprintf(options, sizeof(options), "lowerdir=/%s,upperdir=%s/upper-%s,workdir=%s/work-%s", name, dir, name, dir,
             name);
    check(mount("overlay", target, "overlay", MS_NOSUID | MS_NODEV, options), "overlay");
}

static void child(const char *dir)
{
    char root[256];
    static const char *const links[][2] = {{"usr/bin", "bin"}, {"usr/lib", "lib"}, {"usr/lib64", "lib64"}};

    snprintf(root, sizeof(root), "%s/root", dir);
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
    check(mount(root, root, NULL, MS_BIND, NULL), "bind");
    overlay(dir, "usr");
    overlay(dir, "etc");
    check(chdir(root), "chdir");
    for (size_t i = 0; i < 3; i++)
        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
            _exit(1);
    check(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755"), "dev");
    check(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "proc");
    check(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL), "sys");
    check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH), "umount");
    check(chdir("/"), "chdir /");
    for (int cap = 0; cap < 41; cap++)
        prctl(PR_CAPBSET_DROP, cap);
    check(setgroups(0, NULL), "setgroups");
    check(setresgid(65534, 65534, 65534), "setresgid");
    check(setresuid(65534, 65534, 65534), "setresuid");
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    execl("/bin/true", "true", (char *)NULL);
    _exit(127);
}

static int round_once(const char *dir)
{
    struct clone_args a = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS, .exit_signal = SIGCHLD};
    char path[256], pid_text[24];
    int go[2], status;

    for (int i = 0; i < CONTROLLERS; i++) {
        group_path(path, sizeof(path), i, "");
        mkdir(path, 0755);
    }
    put("/sys/fs/cgroup/memory/cloister-floor/memory.limit_in_bytes", "268435456");
    put("/sys/fs/cgroup/cpu/cloister-floor/cpu.shares", "500");
    put("/sys/fs/cgroup/pids/cloister-floor/pids.max", "100");
    check(pipe2(go, O_CLOEXEC), "pipe");
    long pid = syscall(SYS_clone3, &a, sizeof(a));
    check(pid, "clone3");
    if (pid == 0) {
        char c;
        if (read(go[0], &c, 1) != 1)
            _exit(1);
        child(dir);
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

int main(int argc, char **argv)
{
    static const char *const dirs[] = {"root",     "root/usr",  "root/etc", "root/dev",  "root/proc",
                                       "root/sys", "upper-usr", "work-usr", "upper-etc", "work-etc"};
    char path[256];

    if (argc != 3)
        return 2;
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", argv[2], dirs[i]);
        mkdir(path, 0755);
    }
    for (long n = strtol(argv[1], NULL, 10); n > 0; n--) {
        struct timespec from, to;

        clock_gettime(CLOCK_MONOTONIC, &from);
        int status = round_once(argv[2]);
        clock_gettime(CLOCK_MONOTONIC, &to);
        if (status != 0) {
            fprintf(stderr, "the child failed: %d\n", status);
            return 1;
        }
        printf("%ld\n", (to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000);
    }
    return 0;
}
