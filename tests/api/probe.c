/* Tells how it is isolated, in few system calls and as a static program: faults that are injected into the process that
 * becomes it shall not meet its own start. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char text[1 << 18];
static size_t len;

static void show(const char *path)
{
    int fd = open(path, O_RDONLY);
    ssize_t n;

    len += (size_t)snprintf(text + len, sizeof(text) - len, "[%s]\n", path);
    while (fd >= 0 && (n = read(fd, text + len, sizeof(text) - len - 1)) > 0)
        len += (size_t)n;
    close(fd);
}

int main(void)
{
    static const char *const files[] = {"/proc/self/status", "/proc/self/mountinfo", "/proc/self/cgroup",
                                        "/proc/self/limits", "/proc/self/environ",   "/proc/self/oom_score_adj"};
    char cwd[256] = "";

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        show(files[i]);
    len += (size_t)snprintf(text + len, sizeof(text) - len, "\ncwd %s umask %o shadow %d sys %d lowest fd %d\n",
                            getcwd(cwd, sizeof(cwd)) ? cwd : "?", umask(0), open("/etc/shadow", O_RDONLY),
                            open("/proc/sys/kernel/hostname", O_WRONLY), dup(0));
    for (size_t i = 0; i < len; i++)
        if (!text[i])
            text[i] = '\n';
    return write(1, text, len) == (ssize_t)len ? 0 : 1;
}
