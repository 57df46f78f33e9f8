#include "server/self_seal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U /* Linux 6.3 */
#endif

#define NAME "cloisterd"

enum { SEALS = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

static int make_memfd(void)
{
    int fd = memfd_create(NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

    /* An older kernel does not know the flag: there every memfd can be executed. */
    return fd < 0 && errno == EINVAL ? memfd_create(NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING) : fd;
}

static int copy_all(int from, int to, off_t size)
{
    for (off_t done = 0; done < size;) {
        ssize_t n = sendfile(to, from, NULL, (size_t)(size - done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = EIO;
        if (n <= 0)
            return -1;
        done += n;
    }
    return 0;
}

int self_seal(char **argv, struct err *e)
{
    struct stat st;
    _cleanup_close_ int own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    if (own < 0 || fstat(own, &st) < 0)
        return err_set(e, 500, "self_seal", "cannot open our own program: %s", strerror(errno));
    int seals = fcntl(own, F_GET_SEALS); /* EINVAL: a file of a file system */
    if (seals >= 0 && (seals & SEALS) == SEALS) {
        prctl(PR_SET_NAME, NAME); /* execve named us after the fd's number */
        return 0;
    }
    _cleanup_close_ int copy = make_memfd();
    if (copy < 0 || copy_all(own, copy, st.st_size) < 0 || fchmod(copy, 0500) < 0 ||
        fcntl(copy, F_ADD_SEALS, SEALS) < 0)
        return err_set(e, 500, "self_seal", "cannot copy our own program: %s", strerror(errno));
    fexecve(copy, argv, environ);
    return err_set(e, 500, "self_seal", "cannot execute the copy of our own program: %s", strerror(errno));
}
