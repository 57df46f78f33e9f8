#include "isolation/secrets.h"

#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Patterns of glob(7). Not even a task that runs as root sees these. */
static const char *const patterns[] = {
    "/etc/shadow",   "/etc/shadow-",     "/etc/gshadow",          "/etc/gshadow-",
    "/etc/sudoers",  "/etc/sudoers.d",   "/etc/ssh/ssh_host_*",   "/etc/ssl/private",
    "/etc/cloister", "/etc/krb5.keytab", "/etc/security/opasswd",
};

static int tell(int (*fn)(void *arg, const char *path), void *arg, const char *path)
{
    char real[PATH_MAX];
    int rc = fn(arg, path);

    if (rc != 0 || !realpath(path, real) || strcmp(real, path) == 0)
        return rc;
    return fn(arg, real);
}

int secrets_each(const struct policy *p, int (*fn)(void *arg, const char *path), void *arg)
{
    const char *own[] = {p->state_dir, p->run_dir};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(own) / sizeof(own[0]); i++)
        rc = tell(fn, arg, own[i]);
    for (size_t i = 0; rc == 0 && i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        glob_t found = {0};

        /* Without a match the pattern itself is what remains: a plain name that may come to be later. */
        if (glob(patterns[i], GLOB_NOCHECK | GLOB_NOSORT, NULL, &found) != 0)
            rc = -1;
        for (size_t k = 0; rc == 0 && k < found.gl_pathc; k++)
            if (!strchr(found.gl_pathv[k], '*'))
                rc = tell(fn, arg, found.gl_pathv[k]);
        globfree(&found);
    }
    return rc;
}
