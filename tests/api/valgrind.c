/* Loaded before cloisterd under valgrind, which cannot execute a memfd and knows clone(2) but not clone3(2). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/syscall.h>

static long raw(long nr, const long a[6])
{
    register long r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = a[5];
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

long syscall(long nr, ...)
{
    long a[6];
    va_list list;

    va_start(list, nr);
    for (size_t i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (nr == SYS_clone3 && a[0]) {
        const struct clone_args *args = (const struct clone_args *)a[0];

        return raw(SYS_clone, (long[6]){(long)(args->flags | args->exit_signal)});
    }
    return raw(nr, a);
}

/* The daemon runs from a sealed copy of itself; this says that it is one. */
int fcntl64(int fd, int cmd, ...)
{
    va_list list;

    va_start(list, cmd);
    long arg = va_arg(list, long);
    va_end(list);
    return cmd == F_GET_SEALS ? 15 : (int)raw(SYS_fcntl, (long[6]){fd, cmd, arg});
}

int fcntl(int fd, int cmd, ...) __attribute__((alias("fcntl64")));

/* The stack of a fork does not grow there (SIGSEGV, by chance of where it begins): it has grown before. */
__attribute__((constructor)) static void grow_stack(void)
{
    enum { SIZE = 1 << 20, PAGE = 4096 };
    volatile char stack[SIZE];

    for (int i = SIZE - PAGE; i >= 0; i -= PAGE)
        stack[i] = 0;
}
