/* The task's standard input when it stays open: a pipe for each run. Servers get its write end and write themselves;
 * ours keeps it open when they come and go. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/msg.h"
#include "supervisor/supervision.h"

static int open_pipe(struct supervision *s)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    input_close(s);
    s->input_fd = ends[1];
    /* The task may open /dev/stdin by name, so the pipe belongs to its user. */
    if (fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0 &&
        fchown(ends[0], s->sandbox.host_who.uid, s->sandbox.host_who.gid) == 0)
        return ends[0];
    close(ends[0]);
    return -1;
}

int input_open(struct supervision *s)
{
    const char *text = s->spec.input.text;

    if (s->spec.input.open)
        return open_pipe(s);
    if (!text)
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int fd = memfd_create("stdin", MFD_CLOEXEC);
    if (fd < 0 || file_write_all(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return -1;
    return take_fd(&fd);
}

void input_give(struct supervision *s, int channel, struct err *e)
{
    struct files_reply r = {.version = FILES_VERSION, .what = FILES_IS_PIPE};

    if (!s->spec.input.open)
        err_set(e, 409, "stdin_not_open", "the task was not given an open standard input");
    else if (s->status.state != RUN_RUNNING)
        err_set(e, 409, "task_not_running", "the task waits for its restart");
    else if (s->input_fd < 0)
        err_set(e, 409, "stdin_closed", "the task's standard input is at its end");
    else if (channel < 0 || msg_send(channel, &r, sizeof(r), &s->input_fd, 1) < 0)
        err_set(e, 503, "no_resources", "the standard input cannot be passed on");
}

void input_end(struct supervision *s, int fd, struct err *e)
{
    struct stat given, ours;

    if (s->input_fd < 0)
        err_set(e, 409, "stdin_closed", "the task's standard input is at its end");
    else if (fd < 0 || fstat(fd, &given) < 0 || fstat(s->input_fd, &ours) < 0 || given.st_ino != ours.st_ino ||
             given.st_dev != ours.st_dev)
        err_set(e, 409, "stdin_closed", "the run that had this standard input has ended");
    else
        input_close(s);
}

void input_close(struct supervision *s)
{
    if (s->input_fd >= 0)
        close(s->input_fd);
    s->input_fd = -1;
}
