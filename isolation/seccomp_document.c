/* Profiles in the JSON form of the OCI runtime specification (config-linux.md, "Seccomp") with what Docker's file adds:
 * archMap, includes, excludes. A document that is not understood to the last word is refused: half of a filter would
 * look like a whole one. */
#include "isolation/seccomp_document.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>

#include "base/buf.h"
#include "isolation/caps.h"

enum { MEMBERS = 10000, ERRNO_MAX = 4095 }; /* SECCOMP_RET_ERRNO, seccomp(2) */

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define RANGE(low, high) .min = (low), .max = (high)

static const char *const actions[] = {
    [ACTION_KILL] = "SCMP_ACT_KILL",
    [ACTION_KILL_THREAD] = "SCMP_ACT_KILL_THREAD",
    [ACTION_KILL_PROCESS] = "SCMP_ACT_KILL_PROCESS",
    [ACTION_TRAP] = "SCMP_ACT_TRAP",
    [ACTION_ERRNO] = "SCMP_ACT_ERRNO",
    [ACTION_TRACE] = "SCMP_ACT_TRACE",
    [ACTION_ALLOW] = "SCMP_ACT_ALLOW",
    [ACTION_LOG] = "SCMP_ACT_LOG",
    NULL,
};
static const char *const ops[] = {
    [OP_NE] = "SCMP_CMP_NE",
    [OP_LT] = "SCMP_CMP_LT",
    [OP_LE] = "SCMP_CMP_LE",
    [OP_EQ] = "SCMP_CMP_EQ",
    [OP_GE] = "SCMP_CMP_GE",
    [OP_GT] = "SCMP_CMP_GT",
    [OP_MASKED_EQ] = "SCMP_CMP_MASKED_EQ",
    NULL,
};

/* All that a portable file may name. */
static const char *const architectures[] = {
    "SCMP_ARCH_X86_64",      "SCMP_ARCH_X86",    "SCMP_ARCH_AARCH64",   "SCMP_ARCH_ARM",     "SCMP_ARCH_X32",
    "SCMP_ARCH_MIPS",        "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",  "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",    "SCMP_ARCH_PPC64",     "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",       "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64",  "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",        "SCMP_ARCH_SH",     "SCMP_ARCH_SHEB"};

static const struct {
    const char *name;
    unsigned flag;
} flags[] = {
    {"SECCOMP_FILTER_FLAG_TSYNC", 0}, /* there is one thread only */
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
};

static int check_architecture(const char *pointer, const char *text, struct err *e)
{
    for (size_t i = 0; i < COUNT(architectures); i++)
        if (strcmp(architectures[i], text) == 0)
            return 0;
    return err_field(e, pointer, "\"%.64s\" is no architecture", text);
}

bool seccomp_document_flag(const char *name, unsigned *flag)
{
    for (size_t i = 0; i < COUNT(flags); i++)
        if (strcmp(flags[i].name, name) == 0) {
            *flag = flags[i].flag;
            return true;
        }
    return false;
}

static int check_flag(const char *pointer, const char *text, struct err *e)
{
    unsigned flag;

    if (seccomp_document_flag(text, &flag))
        return 0;
    return err_field(e, pointer, "\"%.64s\" is no flag that is known here", text);
}

static int check_cap(const char *pointer, const char *text, struct err *e)
{
    if (strncmp(text, "CAP_", 4) == 0 && caps_parse(text))
        return 0;
    return err_field(e, pointer, "\"%.64s\" is not a capability of this kernel", text);
}

static int check_kernel(const char *pointer, const char *text, struct err *e)
{
    size_t major = strspn(text, "0123456789");
    size_t minor = text[major] == '.' ? strspn(text + major + 1, "0123456789") : 0;

    if (major > 0 && major < 6 && minor > 0 && minor < 6 && !text[major + 1 + minor])
        return 0;
    return err_field(e, pointer, "must be a kernel version as \"4.8\"");
}

static const struct record_field arg_fields[] = {
    {"index", RECORD_INT, offsetof(struct seccomp_arg, index), RANGE(0, SECCOMP_ARGS - 1), .required = true},
    {"value", RECORD_INT, offsetof(struct seccomp_arg, value), RANGE(0, INT64_MAX), .required = true},
    {"valueTwo", RECORD_INT, offsetof(struct seccomp_arg, value_two), RANGE(0, INT64_MAX)},
    {"op", RECORD_ENUM, offsetof(struct seccomp_arg, op), .names = ops, .required = true},
};
static const struct record_table arg_table = {
    .fields = arg_fields, .n = COUNT(arg_fields), .size = sizeof(struct seccomp_arg)};

static const struct record_field condition_fields[] = {
    {"caps", RECORD_STRINGS, offsetof(struct seccomp_condition, caps), RANGE(0, 64), .check = check_cap},
    {"arches", RECORD_STRINGS, offsetof(struct seccomp_condition, arches), RANGE(0, 64)},
    {"minKernel", RECORD_STRING, offsetof(struct seccomp_condition, min_kernel), RANGE(1, 15), .check = check_kernel},
};
static const struct record_table condition_table = {
    .fields = condition_fields, .n = COUNT(condition_fields), .size = sizeof(struct seccomp_condition)};

static const struct record_field syscalls_fields[] = {
    {"names", RECORD_STRINGS, offsetof(struct seccomp_syscalls, names), RANGE(1, MEMBERS), .required = true},
    {"action", RECORD_ENUM, offsetof(struct seccomp_syscalls, action), .names = actions, .required = true},
    {"errnoRet", RECORD_INT, offsetof(struct seccomp_syscalls, value), RANGE(0, ERRNO_MAX)},
    {"args", RECORD_OBJECT_LIST, offsetof(struct seccomp_syscalls, args), RANGE(0, SECCOMP_ARGS), .table = &arg_table},
    {"includes", RECORD_OBJECT, offsetof(struct seccomp_syscalls, includes), .table = &condition_table},
    {"excludes", RECORD_OBJECT, offsetof(struct seccomp_syscalls, excludes), .table = &condition_table},
    {"comment", RECORD_STRING, offsetof(struct seccomp_syscalls, comment), RANGE(0, 4096)},
};

static void syscalls_defaults(void *at)
{
    ((struct seccomp_syscalls *)at)->value = EPERM; /* the specification's default of errnoRet */
}

static const struct record_table syscalls_table = {.fields = syscalls_fields,
                                                   .n = COUNT(syscalls_fields),
                                                   .size = sizeof(struct seccomp_syscalls),
                                                   .defaults = syscalls_defaults};

static const struct record_field arch_map_fields[] = {
    {"architecture", RECORD_STRING, offsetof(struct seccomp_arch_map, architecture), RANGE(1, 64), .required = true,
     .check = check_architecture},
    {"subArchitectures", RECORD_STRINGS, offsetof(struct seccomp_arch_map, sub), RANGE(0, 64),
     .check = check_architecture},
};
static const struct record_table arch_map_table = {
    .fields = arch_map_fields, .n = COUNT(arch_map_fields), .size = sizeof(struct seccomp_arch_map)};

static const struct record_field document_fields[] = {
    {"defaultAction", RECORD_ENUM, offsetof(struct seccomp_document, action), .names = actions, .required = true},
    {"defaultErrnoRet", RECORD_INT, offsetof(struct seccomp_document, value), RANGE(0, ERRNO_MAX)},
    {"architectures", RECORD_STRINGS, offsetof(struct seccomp_document, architectures), RANGE(0, 64),
     .check = check_architecture},
    {"archMap", RECORD_OBJECT_LIST, offsetof(struct seccomp_document, arch_map), RANGE(0, 64),
     .table = &arch_map_table},
    {"flags", RECORD_STRINGS, offsetof(struct seccomp_document, flags), RANGE(0, 64), .check = check_flag},
    {"syscalls", RECORD_OBJECT_LIST, offsetof(struct seccomp_document, syscalls), RANGE(0, MEMBERS),
     .table = &syscalls_table},
};
static const struct record_table document_table = {
    .fields = document_fields, .n = COUNT(document_fields), .size = sizeof(struct seccomp_document)};

int seccomp_document_decode(const char *text, size_t len, struct seccomp_document *d, struct err *e)
{
    _cleanup_json_ struct json *j = json_parse(text, len, e);

    *d = (struct seccomp_document){.value = EPERM};
    return j ? record_decode(&document_table, j, "", d, e) : -1;
}

void seccomp_document_free(struct seccomp_document *d)
{
    record_free(&document_table, d);
}
