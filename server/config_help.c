/* What the option table tells people: --help, and the manual page. */
#include <stdio.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "server/config_internal.h"

void config_help(void)
{
    size_t n;
    const struct option *options = config_options(&n);

    printf(
        "Usage: cloisterd [--config FILE] [OPTION...]\n"
        "       cloisterd token create --role monitor|operator|admin --name NAME [OPTION...]\n"
        "       cloisterd --check-config | --version | --help | --man-page\n\n"
        "Every option may stand in FILE (default /etc/cloister/cloister.conf) in the block named, or as a flag:\n\n");
    for (size_t i = 0; i < n; i++) {
        const struct option *o = &options[i];
        _cleanup_free_ char *flag = option_flag(o, '-');

        printf("  --%-18s %s%s%s\n", flag, o->help, *o->block ? "; block " : "", o->block);
        if (o->preset[0])
            printf("  %-20s default %s\n", "", o->preset);
    }
}

/* --- the manual page: man(7) ----------------------------------------------------------------------------------------
 */

/* clang-format off: a line is a line of the page */
static const char head[] =
    ".TH CLOISTERD 8 \"\" \"cloisterd " CLOISTER_VERSION "\" \"System administration\"\n.ad l\n.nh\n"
    ".SH NAME\ncloisterd \\- run commands in isolation, over HTTP\n"
    ".SH SYNOPSIS\n"
    ".B cloisterd\n[\\fB\\-\\-config\\fR \\fIFILE\\fR] [\\fIOPTION\\fR...]\n.PP\n"
    ".B cloisterd token create \\-\\-role\n"
    "\\fBmonitor\\fR|\\fBoperator\\fR|\\fBadmin\\fR \\fB\\-\\-name\\fR \\fINAME\\fR [\\fIOPTION\\fR...]\n.PP\n"
    ".B cloisterd\n"
    "\\fB\\-\\-check\\-config\\fR | \\fB\\-\\-version\\fR | \\fB\\-\\-help\\fR | \\fB\\-\\-man\\-page\\fR\n"
    ".SH DESCRIPTION\n"
    "Starts each command in a chroot of its own, in private namespaces, under cgroup limits, with few\n"
    "capabilities and a filter of system calls, and tells over HTTP how it goes and how it ended. Tasks outlive the "
    "daemon:\n"
    "started again, it finds them. The API is told by \\fBGET /openapi.yaml\\fR.\n.PP\n"
    "\\fBtoken create\\fR prints a new bearer token once, and keeps its hash in the file of tokens.\n"
    ".SH OPTIONS\n"
    "Each may stand in the file, in the block that is named, or as a flag, which wins over the file. In the file "
    "words\n"
    "are joined by _. The syntax is that of Nomad's agents; a file whose name ends in .json is JSON of the same "
    "shape.\n";

static const char tail[] =
    ".SH FILES\n"
    ".TP\n.I /etc/cloister/cloister.conf\n"
    "The configuration, unless \\fB\\-\\-config\\fR names another. It need not exist.\n"
    ".TP\n.I /etc/cloister/tokens\nHashes of bearer tokens.\n"
    ".TP\n.I /var/lib/cloister\nTasks, their output, and the database.\n"
    ".TP\n.I /run/cloister/cloister.sock\nThe API.\n"
    ".SH SIGNALS\n"
    "SIGTERM and SIGINT end the daemon, and its tasks only with\n"
    "\\fB\\-\\-stop\\-tasks\\-on\\-shutdown\\fR; a second one ends it at once.\n"
    ".SH ENVIRONMENT\n"
    "\\fBNOTIFY_SOCKET\\fR, \\fBWATCHDOG_USEC\\fR (\\fBsd_notify\\fR(3)), \\fBLISTEN_FDS\\fR and\n"
    "\\fBLISTEN_PID\\fR (\\fBsd_listen_fds\\fR(3)) of the service manager.\n"
    ".SH EXIT STATUS\n"
    "0 after a signal; 1 when it cannot serve, also when the database is damaged or of a later version: then it is "
    "left\n"
    "as it is; 2 when the configuration is wrong.\n"
    ".SH SEE ALSO\n"
    ".BR systemd.service (5),\n.BR namespaces (7),\n.BR cgroups (7),\n.BR capabilities (7),\n.BR seccomp (2)\n";
/* clang-format on */

/* Text as it is: no escapes, hyphens that can be copied, no line that begins as a request; lists may break at commas.
 */
static void put_text(const char *text)
{
    for (const char *p = text; *p; p++)
        if (*p == '\\')
            fputs("\\e", stdout);
        else if (*p == '-')
            fputs("\\-", stdout);
        else if (*p == ',')
            fputs(",\\:", stdout);
        else if ((*p == '.' || *p == '\'') && p == text)
            printf("\\&%c", *p);
        else
            putchar(*p);
}

static const char *value_of(const struct option *o)
{
    static const char *const names[] = {
        [K_STRING] = "TEXT", [K_INT] = "NUMBER",  [K_DURATION] = "DURATION", [K_BOOL] = "BOOL",
        [K_LIST] = "A,B",    [K_MAP] = "A=B,C=D", [K_BLOCKS] = "JSON",
    };

    return names[o->kind];
}

static void put_option(const struct option *o)
{
    _cleanup_free_ char *flag = option_flag(o, '-');

    fputs(".TP\n\\fB\\-\\-", stdout);
    put_text(flag);
    printf("\\fR \\fI%s\\fR\n", value_of(o));
    put_text(o->help);
    if (*o->block) {
        fputs("; block \\fB", stdout);
        put_text(o->block);
        fputs("\\fR", stdout);
    }
    if (o->choices)
        printf("; one of \\fB%s\\fR", o->choices);
    if (o->kind == K_INT)
        printf("; from %lld to %lld", (long long)o->min, (long long)o->max);
    fputs(".\n", stdout);
    if (o->preset[0]) {
        fputs("Default:\n", stdout);
        put_text(o->preset);
        putchar('\n');
    }
}

void config_man(void)
{
    size_t n;
    const struct option *options = config_options(&n);

    fputs(head, stdout);
    for (size_t i = 0; i < n; i++)
        put_option(&options[i]);
    fputs(tail, stdout);
}
