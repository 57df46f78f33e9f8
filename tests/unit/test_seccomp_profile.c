/* Profiles from JSON. In the documents here ' stands for ". */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "tests/unit/seccomp_judge.h"

static char *quoted(const char *text)
{
    char *out = xstrdup(text);

    for (char *p = out; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    return out;
}

static void expect_bad(const char *document, const char *pointer, const char *detail)
{
    _cleanup_free_ char *text = quoted(document);
    struct seccomp_profile p;
    struct err e = {0};

    if (seccomp_profile_parse(text, strlen(text), MACHINE_AMD64, &p, &e) == 0)
        fail_msg("taken: %s", text);
    if (strcmp(e.pointer, pointer) != 0 || !strstr(e.detail, detail))
        fail_msg("%s: at \"%s\": %s", text, e.pointer, e.detail);
    assert_null(p.owner);
}

static void bad_documents_are_refused(void **state)
{
    static const struct { /* the pointer and a part of the error */
        const char *text, *pointer, *detail;
    } rows[] = {
        {"", "", "byte"},
        {"{", "", "byte"},
        {"[]", "", "expected object"},
        {"{}", "/defaultAction", "required"},
        {"{'defaultAction':1}", "/defaultAction", "got number"},
        {"{'defaultAction':'ALLOW'}", "/defaultAction", "SCMP_ACT_KILL"},
        {"{'defaultAction':'SCMP_ACT_NOTIFY'}", "/defaultAction", "must be"},
        {"{'defaultAction':'SCMP_ACT_ERRNO','defaultErrnoRet':4096}", "/defaultErrnoRet", "from 0 to 4095"},
        {"{'defaultAction':'SCMP_ACT_ERRNO','listenerPath':'/x'}", "/listenerPath", "unknown"},
        {"{'defaultAction':'SCMP_ACT_ERRNO','architectures':['X86']}", "/architectures/0", "no architecture"},
        {"{'defaultAction':'SCMP_ACT_ERRNO','flags':['FAST']}", "/flags/0", "no flag"},
        {"{'defaultAction':'SCMP_ACT_ERRNO','archMap':[{'subArchitectures':[]}]}", "/archMap/0/architecture",
         "required"},
        {"{'defaultAction':'SCMP_ACT_ERRNO','syscalls':{}}", "/syscalls", "got object"},
        {"{'defaultAction':'SCMP_ACT_ERRNO','syscalls':[{'action':'SCMP_ACT_ALLOW'}]}", "/syscalls/0/names",
         "required"},
        {"{'defaultAction':'SCMP_ACT_ERRNO','syscalls':[{'names':['read']}]}", "/syscalls/0/action", "required"},
        {"{'defaultAction':'SCMP_ACT_ERRNO','syscalls':[{'names':[],'action':'SCMP_ACT_ALLOW'}]}", "/syscalls/0/names",
         "empty"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        expect_bad(rows[i].text, rows[i].pointer, rows[i].detail);
}

static void bad_rules_are_refused(void **state)
{
    static const struct { /* of one rule; the pointer is below it */
        const char *rule, *pointer, *detail;
    } rows[] = {
        {"'action':'SCMP_ACT_ALOW'", "/action", "must be"},
        {"'action':'SCMP_ACT_ALLOW','args':[{'index':6,'value':0,'op':'SCMP_CMP_EQ'}]", "/args/0/index", "from 0 to 5"},
        {"'action':'SCMP_ACT_ALLOW','args':[{'index':0,'value':0,'op':'EQ'}]", "/args/0/op", "SCMP_CMP_NE"},
        {"'action':'SCMP_ACT_ALLOW','args':[{'index':0,'value':0}]", "/args/0/op", "required"},
        {"'action':'SCMP_ACT_ALLOW','args':[{'index':0,'op':'SCMP_CMP_EQ'}]", "/args/0/value", "required"},
        {"'action':'SCMP_ACT_ALLOW','args':[{'index':0,'value':-1,'op':'SCMP_CMP_EQ'}]", "/args/0/value", "must be"},
        {"'action':'SCMP_ACT_ALLOW','args':[{'index':0,'value':18446744073709551615,'op':'SCMP_CMP_EQ'}]",
         "/args/0/value", "2^53"},
        {"'action':'SCMP_ACT_ERRNO','errnoRet':-1", "/errnoRet", "from 0"},
        {"'action':'SCMP_ACT_ALLOW','includes':{'caps':['CAP_NONE']}", "/includes/caps/0", "capability"},
        {"'action':'SCMP_ACT_ALLOW','excludes':{'caps':['all']}", "/excludes/caps/0", "capability"},
        {"'action':'SCMP_ACT_ALLOW','includes':{'minKernel':'4'}", "/includes/minKernel", "version"},
        {"'action':'SCMP_ACT_ALLOW','when':1", "/when", "unknown"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        _cleanup_free_ char *pointer = xasprintf("/syscalls/0%s", rows[i].pointer);
        _cleanup_free_ char *text =
            xasprintf("{'defaultAction':'SCMP_ACT_ERRNO','syscalls':[{'names':['read'],%s}]}", rows[i].rule);

        expect_bad(text, pointer, rows[i].detail);
    }
}

/* What libseccomp would drop in silence. */
static void rules_that_would_not_be_in_force_are_refused(void **state)
{
    static const struct {
        const char *action, *rules, *pointer, *detail;
    } rows[] = {
        {"ALLOW", "{'names':['read','no_such'],'action':'SCMP_ACT_ERRNO'}", "/syscalls/0/names/1", "cannot be denied"},
        {"ERRNO",
         "{'names':['ioctl'],'action':'SCMP_ACT_ALLOW'},{'names':['read','ioctl'],'action':'SCMP_ACT_KILL',"
         "'args':[{'index':1,'value':21522,'op':'SCMP_CMP_EQ'}]}",
         "/syscalls/1/names/1", "another action"},
        {"ERRNO", "{'names':['read'],'action':'SCMP_ACT_ALLOW'},{'names':['read'],'action':'SCMP_ACT_LOG'}",
         "/syscalls/1/names/0", "another action"},
        {"ALLOW",
         "{'names':['read'],'action':'SCMP_ACT_ERRNO','errnoRet':1},"
         "{'names':['read'],'action':'SCMP_ACT_ERRNO','errnoRet':2}",
         "/syscalls/1/names/0", "another action"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        _cleanup_free_ char *text =
            xasprintf("{'defaultAction':'SCMP_ACT_%s','syscalls':[%s]}", rows[i].action, rows[i].rules);

        expect_bad(text, rows[i].pointer, rows[i].detail);
    }
}

static struct seccomp_profile parse(const char *document, enum seccomp_machine m)
{
    _cleanup_free_ char *text = quoted(document);
    struct seccomp_profile p;
    struct err e = {0};

    if (seccomp_profile_parse(text, strlen(text), m, &p, &e) < 0)
        fail_msg("%s: %s", e.pointer, e.detail);
    return p;
}

static struct seccomp_program program(const char *document, enum seccomp_machine m, uint64_t caps)
{
    struct seccomp_profile profile = parse(document, m);
    struct seccomp_program p = build(&profile, m, caps);

    seccomp_profile_free(&profile);
    return p;
}

/* In the form of Docker's file. */
static const char docker_like[] =
    "{'defaultAction':'SCMP_ACT_ERRNO','defaultErrnoRet':38,'flags':['SECCOMP_FILTER_FLAG_LOG'],"
    "'archMap':[{'architecture':'SCMP_ARCH_X86_64','subArchitectures':['SCMP_ARCH_X86','SCMP_ARCH_X32']},"
    "{'architecture':'SCMP_ARCH_AARCH64','subArchitectures':['SCMP_ARCH_ARM']}],'syscalls':["
    "{'names':['read','no_such_call','set_tls'],'action':'SCMP_ACT_ALLOW','args':[],'comment':'','includes':{},"
    "'excludes':{}},"
    "{'names':['write'],'action':'SCMP_ACT_TRAP'},"
    "{'names':['ioctl'],'action':'SCMP_ACT_ALLOW','args':[{'index':0,'value':3,'op':'SCMP_CMP_EQ'},"
    "{'index':1,'value':10,'op':'SCMP_CMP_GT'}]},"
    "{'names':['clone'],'action':'SCMP_ACT_ALLOW','args':[{'index':0,'value':2114060288,'valueTwo':0,"
    "'op':'SCMP_CMP_MASKED_EQ'}],'excludes':{'caps':['CAP_SYS_ADMIN']}},"
    "{'names':['clone'],'action':'SCMP_ACT_ERRNO','errnoRet':11,"
    "'includes':{'caps':['CAP_SYS_ADMIN','CAP_CHOWN']}},"
    "{'names':['uname'],'action':'SCMP_ACT_LOG','includes':{'minKernel':'4.8','arches':['amd64']}},"
    "{'names':['uname'],'action':'SCMP_ACT_KILL','includes':{'minKernel':'4000.0'}},"
    "{'names':['uname'],'action':'SCMP_ACT_KILL','excludes':{'arches':['amd64','arm64']}},"
    "{'names':['ptrace'],'action':'SCMP_ACT_ALLOW','args':[{'index':0,'value':1,'op':'SCMP_CMP_EQ'},"
    "{'index':0,'value':2,'op':'SCMP_CMP_EQ'}]}]}";

static void rules_do_what_they_say(void **state)
{
    enum { READ = 0, WRITE = 1, IOCTL = 16, CLONE = 56, UNAME = 63, PTRACE = 101 }; /* on x86-64 */
    static const struct {
        uint32_t nr;
        uint64_t arg0, arg1, caps;
        uint32_t want;
    } rows[] = {
        {READ, 0, 0, 0, ALLOWED},
        {WRITE, 0, 0, 0, SECCOMP_RET_TRAP},
        {IOCTL, 3, 11, 0, ALLOWED},
        {IOCTL, 3, 10, 0, ERRNO(38)}, /* both conditions must hold */
        {IOCTL, 4, 11, 0, ERRNO(38)},
        {CLONE, 17, 0, 0, ALLOWED},
        {CLONE, 0x10000011, 0, 0, ERRNO(38)},
        {CLONE, 17, 0, CAP(SYS_ADMIN), ERRNO(38)}, /* one rule is excluded, the other wants two capabilities */
        {CLONE, 17, 0, CAP(SYS_ADMIN) | CAP(CHOWN), ERRNO(11)},
        {UNAME, 0, 0, 0, SECCOMP_RET_LOG},
        {PTRACE, 1, 0, 0, ALLOWED}, /* conditions on the same argument: one must hold */
        {PTRACE, 2, 0, 0, ALLOWED},
        {PTRACE, 3, 0, 0, ERRNO(38)},
        {X32_BIT, 0, 0, 0, ERRNO(ENOSYS)},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        _cleanup_program_ struct seccomp_program p = program(docker_like, MACHINE_AMD64, rows[i].caps);
        uint32_t is = judge(&p, AUDIT_ARCH_X86_64, rows[i].nr, rows[i].arg0, rows[i].arg1);

        assert_int_equal(p.flags, SECCOMP_FILTER_FLAG_LOG);
        if (is != rows[i].want)
            fail_msg("row %zu: %#x", i, is);
    }
}

/* read is 3 and link 9 on both 32-bit siblings; ARM has calls of its own from 0xf0000. */
static void siblings_are_let_in_if_asked_for(void **state)
{
    static const char alone[] = "{'defaultAction':'SCMP_ACT_ERRNO','architectures':['SCMP_ARCH_X86_64'],"
                                "'syscalls':[{'names':['read'],'action':'SCMP_ACT_ALLOW'}]}";
    _cleanup_program_ struct seccomp_program with = program(docker_like, MACHINE_AMD64, 0);
    _cleanup_program_ struct seccomp_program without = program(alone, MACHINE_AMD64, 0);
    _cleanup_program_ struct seccomp_program arm = program(docker_like, MACHINE_ARM64, 0);

    (void)state;
    assert_int_equal(judge(&with, AUDIT_ARCH_I386, 3, 0, 0), ALLOWED);
    assert_int_equal(judge(&with, AUDIT_ARCH_I386, 9, 0, 0), ERRNO(38));
    assert_int_equal(judge(&with, AUDIT_ARCH_I386, 1000, 0, 0), ERRNO(ENOSYS));
    assert_int_equal(judge(&with, AUDIT_ARCH_X86_64, 0, 0, 0), ALLOWED);
    assert_int_equal(judge(&without, AUDIT_ARCH_I386, 3, 0, 0), SECCOMP_RET_KILL_PROCESS);
    assert_int_equal(judge(&without, AUDIT_ARCH_X86_64, 0, 0, 0), ALLOWED);
    assert_int_equal(judge(&arm, AUDIT_ARCH_ARM, 3, 0, 0), ALLOWED);
    assert_int_equal(judge(&arm, AUDIT_ARCH_ARM, 9, 0, 0), ERRNO(38));
    assert_int_equal(judge(&arm, AUDIT_ARCH_ARM, 0x0f0005, 0, 0), ALLOWED);   /* set_tls */
    assert_int_equal(judge(&arm, AUDIT_ARCH_ARM, 0x0f0002, 0, 0), ERRNO(38)); /* cacheflush */
    assert_int_equal(judge(&arm, AUDIT_ARCH_ARM, 1000, 0, 0), ERRNO(ENOSYS));
    assert_int_equal(judge(&arm, AUDIT_ARCH_X86_64, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
}

static void actions_where_no_rule_applies(void **state)
{
    static const struct {
        const char *text;
        uint32_t nr, want;
    } rows[] = {
        {"{'defaultAction':'SCMP_ACT_ERRNO','syscalls':[]}", 0, ERRNO(EPERM)},
        {"{'defaultAction':'SCMP_ACT_ERRNO','defaultErrnoRet':0}", 0, ERRNO(0)},
        {"{'defaultAction':'SCMP_ACT_KILL'}", 1000, SECCOMP_RET_KILL_THREAD},
        {"{'defaultAction':'SCMP_ACT_KILL_PROCESS'}", 0, SECCOMP_RET_KILL_PROCESS},
        {"{'defaultAction':'SCMP_ACT_TRACE','defaultErrnoRet':7}", 0, SECCOMP_RET_TRACE | 7},
        {"{'defaultAction':'SCMP_ACT_ALLOW'}", 1000, ALLOWED},
        {"{'defaultAction':'SCMP_ACT_ALLOW'}", X32_BIT, SECCOMP_RET_KILL_PROCESS},
        {"{'defaultAction':'SCMP_ACT_ALLOW','syscalls':[{'names':['read'],'action':'SCMP_ACT_ERRNO'}]}", 0,
         ERRNO(EPERM)},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        _cleanup_program_ struct seccomp_program p = program(rows[i].text, MACHINE_AMD64, 0);
        uint32_t is = judge(&p, AUDIT_ARCH_X86_64, rows[i].nr, 0, 0);

        if (is != rows[i].want)
            fail_msg("row %zu: %#x", i, is);
    }
}

/* The filter is read back by prctl(2). */
static void prctl_is_asked_where_it_does_not_kill(void **state)
{
    static const struct {
        const char *text;
        bool want;
    } rows[] = {
        {"{'defaultAction':'SCMP_ACT_ERRNO'}", true},
        {"{'defaultAction':'SCMP_ACT_KILL'}", false},
        {"{'defaultAction':'SCMP_ACT_KILL','syscalls':[{'names':['read','prctl'],'action':'SCMP_ACT_ALLOW'}]}", true},
        {"{'defaultAction':'SCMP_ACT_ALLOW','syscalls':[{'names':['prctl'],'action':'SCMP_ACT_TRAP'}]}", false},
        {"{'defaultAction':'SCMP_ACT_ALLOW','syscalls':[{'names':['prctl'],'action':'SCMP_ACT_KILL','args':["
         "{'index':0,'value':21,'op':'SCMP_CMP_EQ'}]}]}",
         false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        _cleanup_program_ struct seccomp_program p = program(rows[i].text, MACHINE_AMD64, 0);

        assert_int_equal(p.answers_prctl, rows[i].want);
    }
}

static void write_file(const char *dir, const char *name, const char *text)
{
    _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_int_equal(file_write_atomic(fd, name, text, strlen(text), 0600, false), 0);
}

static void profiles_come_from_files(void **state)
{
    char dir[] = "/tmp/cloister-unit-XXXXXX";
    struct seccomp_policy *p = seccomp_policy_new(false);
    const struct seccomp_program *chosen;
    struct err e = {0};

    (void)state;
    assert_non_null(mkdtemp(dir));
    _cleanup_free_ char *good = xasprintf("%s/good.json", dir), *bad = xasprintf("%s/bad.json", dir);
    _cleanup_free_ char *text = quoted(docker_like);
    write_file(dir, "good.json", text);
    write_file(dir, "bad.json", "{}");
    const struct {
        const char *name, *file, *detail;
    } rows[] = {
        {"default", good, "taken"},
        {"unconfined", good, "taken"},
        {"", good, "no name"},
        {"a", "good.json", "absolute"},
        {"a", dir, strerror(EISDIR)},
        {"a", "/nonexistent", strerror(ENOENT)},
        {"a", bad, "/bad.json: /defaultAction: is required"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_int_equal(seccomp_policy_add(p, rows[i].name, rows[i].file, &e), -1);
        if (e.status != 400 || !strstr(e.detail, rows[i].detail))
            fail_msg("row %zu: %s", i, e.detail);
    }
    assert_int_equal(seccomp_policy_add(p, "mine", good, &e), 0);
    assert_int_equal(seccomp_policy_add(p, "mine", good, &e), -1);
    if (seccomp_available())
        assert_int_equal(seccomp_choose(p, "mine", 0, &chosen, &e), 0);
    seccomp_policy_free(p);
    unlink(good);
    unlink(bad);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_documents_are_refused),
        cmocka_unit_test(bad_rules_are_refused),
        cmocka_unit_test(rules_that_would_not_be_in_force_are_refused),
        cmocka_unit_test(rules_do_what_they_say),
        cmocka_unit_test(siblings_are_let_in_if_asked_for),
        cmocka_unit_test(actions_where_no_rule_applies),
        cmocka_unit_test(prctl_is_asked_where_it_does_not_kill),
        cmocka_unit_test(profiles_come_from_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
