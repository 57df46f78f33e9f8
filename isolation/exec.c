/* From a ready sandbox to the command: working directory, lookup, last checks, execve. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "isolation/steps.h"

/* A field of the spec is at fault: 422, with the step and errno beside the pointer. */
static int field_at(struct err *e, const char *step, int errnum, const char *pointer, const char *what,
                    const char *path)
{
    err_field(e, pointer, "%s: %.160s", what, path);
    e->errnum = errnum;
    snprintf(e->step, sizeof(e->step), "%s", step);
    return -1;
}

int step_work_dir(struct entry *c, struct err *e)
{
    const char *dir = c->b->spec->work_dir ? c->b->spec->work_dir : "/";

    if (dir[0] != '/')
        return field_at(e, "work_dir", EINVAL, "/work_dir", "not an absolute path", dir);
    _cleanup_close_ int fd = root_mkdirs(c->root_fd, dir, &c->b->host_who);
    if (fd < 0)
        return field_at(e, "work_dir", errno, "/work_dir",
                        errno == ENOTDIR ? "not a directory" : "cannot make or enter the directory", dir);
    if (fchdir(fd) < 0)
        return field_at(e, "work_dir", errno, "/work_dir", "cannot enter the directory", dir);
    return 0;
}

/* Whether the mode lets the user execute it. Access lists are left to the kernel, see step_verify. */
static bool may_execute(const struct sandbox *b, const struct stat *st, const struct identity *who)
{
    if (who->uid == sandbox_host_id(b, 0))
        return st->st_mode & 0111;
    if (st->st_uid == who->uid)
        return st->st_mode & 0100;
    for (size_t i = 0; i < who->ngroups; i++)
        if (st->st_gid == who->groups[i])
            return st->st_mode & 0010;
    return st->st_gid == who->gid ? st->st_mode & 0010 : st->st_mode & 0001;
}

/* 0, or the errno that tells why path is no command. */
static int examine(const struct entry *c, const char *path, const struct identity *who)
{
    struct stat st;
    _cleanup_close_ int fd = root_open(c->root_fd, path, O_PATH);

    if (fd < 0 || fstat(fd, &st) < 0)
        return errno;
    if (S_ISDIR(st.st_mode))
        return EISDIR;
    if (!S_ISREG(st.st_mode) || !(who ? may_execute(c->b, &st, who) : st.st_mode & 0111))
        return EACCES;
    return 0;
}

static const char *spec_path(const struct spec *s)
{
    const char *path = SANDBOX_PATH;

    for (size_t i = 0; i < s->env.n; i++)
        if (strcmp(s->env.v[i].key, "PATH") == 0)
            path = s->env.v[i].value;
    return path;
}

/* /local first, then PATH; like execvp(3) a file that may not be executed is passed over, but remembered. Entries of
 * PATH that are not absolute are passed over. */
static int search(struct entry *c, const char *name)
{
    const char *dir = "/local", *rest = spec_path(c->b->spec);
    size_t len = strlen(dir);
    int why = ENOENT;

    for (;;) {
        int n = snprintf(c->command, sizeof(c->command), "%.*s/%s", (int)len, dir, name);

        if (len > 0 && dir[0] == '/' && n > 0 && (size_t)n < sizeof(c->command)) {
            int rc = examine(c, c->command, &c->b->host_who);

            if (rc == 0)
                return 0;
            if (rc == EACCES || rc == EISDIR)
                why = rc;
        }
        if (!*rest)
            return why;
        dir = rest;
        len = strcspn(rest, ":");
        rest += len + (rest[len] == ':');
    }
}

static int locate(struct entry *c, const char *name)
{
    const char *dir = c->b->spec->work_dir ? c->b->spec->work_dir : "/";
    size_t len = strlen(dir);

    if (!*name)
        return ENOENT;
    if (!strchr(name, '/'))
        return search(c, name);
    if (name[0] == '/') {
        dir = "";
        len = 0;
    }
    const char *slash = len > 0 && dir[len - 1] != '/' ? "/" : "";
    int n = snprintf(c->command, sizeof(c->command), "%s%s%s", dir, slash, name);
    if (n < 0 || (size_t)n >= sizeof(c->command))
        return ENAMETOOLONG;
    return examine(c, c->command, NULL);
}

int step_command(struct entry *c, struct err *e)
{
    const char *name = c->b->spec->command;
    int why = locate(c, name);

    if (why == 0)
        return 0;
    return field_at(e, "command", why, "/command",
                    why == EISDIR   ? "is a directory"
                    : why == EACCES ? "is not an executable file"
                    : why == ENOENT ? "not found in the task's root"
                                    : "cannot be looked up",
                    name);
}

static bool ids_are(const struct identity *who)
{
    uid_t ru, eu, su;
    gid_t rg, eg, sg;

    return getresuid(&ru, &eu, &su) == 0 && getresgid(&rg, &eg, &sg) == 0 && ru == who->uid && eu == who->uid &&
           su == who->uid && rg == who->gid && eg == who->gid && sg == who->gid;
}

/* Over the task's own /proc, which no task can mount over. */
static bool in_userns(const struct stat *want)
{
    struct stat is;

    return stat("/proc/self/ns/user", &is) == 0 && is.st_dev == want->st_dev && is.st_ino == want->st_ino;
}

int step_verify(struct entry *c, struct err *e)
{
    const struct sandbox *b = c->b;
    char cwd[PATH_MAX];
    int n = getgroups(0, NULL);

    if (b->userns && !in_userns(&c->userns))
        return err_step(e, "verify", EPERM, "the user namespace is not the task's");
    if (!ids_are(&b->who))
        return err_step(e, "verify", EPERM, "the ids are not the task's");
    if (n < 0 || (size_t)n > b->who.ngroups)
        return err_step(e, "verify", EPERM, "the groups are not the task's");
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != (b->spec->no_new_privs ? 1 : 0))
        return err_step(e, "verify", EPERM, "no_new_privs is not as asked for");
    /* The kernel marks a working directory outside the root with "(unreachable)" (getcwd(2)). Asked directly: where it
     * does, glibc's getcwd walks up by itself and returns a path that looks like one inside. */
    if (syscall(SYS_getcwd, cwd, sizeof(cwd)) < 0 || cwd[0] != '/')
        return err_step(e, "verify", EXDEV, "the working directory is outside the root");
    /* As the user now: what root could enter or see may be closed to it. */
    if (faccessat(AT_FDCWD, ".", X_OK, AT_EACCESS) < 0)
        return field_at(e, "work_dir", errno, "/work_dir", "the task's user may not enter it", b->spec->work_dir);
    if (faccessat(AT_FDCWD, c->command, X_OK, AT_EACCESS) < 0)
        return field_at(e, "command", errno, "/command", "the task's user may not execute it", b->spec->command);
    /* The close_fds step left only what the steps opened since; all of that is close-on-exec, and this makes it sure.
     */
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        return err_step(e, "verify", errno, "close_range");
    return 0;
}

int step_execve(struct entry *c, struct err *e)
{
    static const struct {
        int errnum;
        const char *pointer, *what;
    } failures[] = {
        {ENOENT, "/command", "its interpreter is missing"},
        {ENOTDIR, "/command", "its interpreter is missing"},
        {ENOEXEC, "/command", "not in a format that can be executed"},
        {EACCES, "/command", "it or its interpreter is not executable"},
        {ELIBBAD, "/command", "its interpreter is in an unknown format"},
        {ELOOP, "/command", "its interpreters form a loop"},
        {ETXTBSY, "/command", "it is open for writing"},
        {E2BIG, "/args", "the arguments and the environment are too long"},
    };
    const struct spec *s = c->b->spec;
    char **argv = xcalloc(s->args.n + 2, sizeof(char *));
    char **envp = environment_build(c->b);

    argv[0] = c->command;
    for (size_t i = 0; i < s->args.n; i++)
        argv[i + 1] = s->args.v[i];
    int why = execve(c->command, argv, envp) < 0 ? errno : 0; /* all that the filter must let pass */
    free(argv);
    for (char **p = envp; *p; p++)
        free(*p);
    free(envp);
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
        if (failures[i].errnum == why)
            return field_at(e, strcmp(failures[i].pointer, "/args") == 0 ? "execve" : "command", why,
                            failures[i].pointer, failures[i].what, s->command);
    return err_step(e, "execve", why, "cannot execute %.160s", s->command);
}
