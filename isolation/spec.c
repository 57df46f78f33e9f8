/* The task spec's table of fields: it drives decoding, encoding and the contract test. */
#include "isolation/spec.h"

#include <ctype.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "isolation/rlimits.h"
#include "isolation/seccomp.h"
#include "isolation/spec_checks.h"

enum {
    PATH_MAX_LEN = 4095,
    DESTINATION_MAX = 2048, /* with the root's own path before it, it must still be a path */
    ITEMS_MAX = 10000,
    DAY_MS = 24 * 60 * 60 * 1000
};

#define YEAR_MS (INT64_C(365) * DAY_MS)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define AT(member) .offset = offsetof(struct spec, member)
#define IN_RESOURCES(member) .offset = offsetof(struct resources, member)
#define IN_LOGS(member) .offset = offsetof(struct log_limits, member)
#define IN_MOUNT(member) .offset = offsetof(struct volume_mount, member)
#define RANGE(low, high) .min = (low), .max = (high)
#define ITEMS RANGE(0, ITEMS_MAX)

static const char *const root_modes[] = {
    [ROOT_OVERLAY] = "overlay", [ROOT_READONLY] = "readonly", [ROOT_COPY] = "copy", NULL};
static const char *const propagations[] = {[PROPAGATION_PRIVATE] = "private",
                                           [PROPAGATION_HOST_TO_TASK] = "host-to-task",
                                           [PROPAGATION_BIDIRECTIONAL] = "bidirectional",
                                           NULL};
static const char *const ns_modes[] = {[NS_PRIVATE] = "private", [NS_HOST] = "host", NULL};

static const struct record_field io_limit_fields[] = {
    {"device", RECORD_STRING, offsetof(struct io_limit, device), RANGE(1, 255), .required = true,
     .check = spec_check_device},
    {"read_bps", RECORD_INT, offsetof(struct io_limit, read_bps), RANGE(1, INT64_C(1) << 50)},
    {"write_bps", RECORD_INT, offsetof(struct io_limit, write_bps), RANGE(1, INT64_C(1) << 50)},
    {"read_iops", RECORD_INT, offsetof(struct io_limit, read_iops), RANGE(1, UINT32_MAX)},
    {"write_iops", RECORD_INT, offsetof(struct io_limit, write_iops), RANGE(1, UINT32_MAX)},
};
static const struct record_table io_limit_table = {
    .fields = io_limit_fields, .n = COUNT(io_limit_fields), .size = sizeof(struct io_limit)};

static const struct record_field io_fields[] = {
    {"weight", RECORD_INT, offsetof(struct io_limits, weight), RANGE(1, 10000)},
    {"limits", RECORD_OBJECT_LIST, offsetof(struct io_limits, limits), RANGE(0, SPEC_IO_LIMITS),
     .table = &io_limit_table},
};
static const struct record_table io_table = {
    .fields = io_fields, .n = COUNT(io_fields), .size = sizeof(struct io_limits)};

static const struct record_field hugetlb_fields[] = {
    {"page_size", RECORD_STRING, offsetof(struct hugetlb_limit, page_size), RANGE(1, 15), .required = true,
     .check = spec_check_page_size},
    {"limit", RECORD_INT, offsetof(struct hugetlb_limit, limit), RANGE(0, SPEC_MEMORY_MAX), .required = true},
};
static const struct record_table hugetlb_table = {
    .fields = hugetlb_fields, .n = COUNT(hugetlb_fields), .size = sizeof(struct hugetlb_limit)};

static int check_resources(const struct json *j, const char *pointer, const void *at, struct err *e)
{
    const struct resources *r = at;
    char field[RECORD_POINTER];

    record_join(field, pointer, "cpu_hard_limit");
    if (r->cpu_hard_limit && !r->cpu && !r->cores)
        return err_field(e, field, "needs cpu or cores: they are the limit");
    record_join(field, pointer, "swap");
    if (r->swap && !r->memory && r->memory_max <= 0)
        return err_field(e, field, "needs memory: it is what comes on top of it");
    if (!json_get(j, "memory_max") || r->memory_max == -1 ||
        (r->memory_max >= SPEC_MEMORY_MIN && r->memory_max >= r->memory))
        return 0;
    record_join(field, pointer, "memory_max");
    return err_field(e, field, "must be -1 (unlimited), or at least %d and not below memory", SPEC_MEMORY_MIN);
}

static const struct record_field resource_fields[] = {
    {"cpu", RECORD_INT, IN_RESOURCES(cpu), RANGE(1, 1000000)},
    {"cores", RECORD_INT, IN_RESOURCES(cores), RANGE(1, 1024)},
    {"cpu_hard_limit", RECORD_BOOL, IN_RESOURCES(cpu_hard_limit)},
    {"memory", RECORD_INT, IN_RESOURCES(memory), RANGE(SPEC_MEMORY_MIN, SPEC_MEMORY_MAX)},
    {"memory_max", RECORD_INT, IN_RESOURCES(memory_max), RANGE(-1, SPEC_MEMORY_MAX)},
    {"swap", RECORD_INT, IN_RESOURCES(swap), RANGE(-1, SPEC_MEMORY_MAX)},
    {"pids", RECORD_INT, IN_RESOURCES(pids), RANGE(1, SPEC_PIDS_MAX)},
    {"io", RECORD_OBJECT, IN_RESOURCES(io), .table = &io_table},
    {"hugetlb", RECORD_OBJECT_LIST, IN_RESOURCES(hugetlb), RANGE(0, SPEC_HUGETLB_LIMITS), .table = &hugetlb_table},
    {"disk", RECORD_INT, IN_RESOURCES(disk), RANGE(SPEC_DISK_MIN, SPEC_MEMORY_MAX)},
    {"rlimits", RECORD_CUSTOM, IN_RESOURCES(rlimits), .codec = &rlimits_codec},
};
static const struct record_table resource_table = {resource_fields, COUNT(resource_fields), sizeof(struct resources),
                                                   .whole = check_resources};

static const struct record_field log_fields[] = {
    {"max_files", RECORD_INT, IN_LOGS(max_files), RANGE(1, 1000)},
    {"max_file_size", RECORD_INT, IN_LOGS(max_file_size), RANGE(1, 10240)},
    {"disabled", RECORD_BOOL, IN_LOGS(disabled)},
};
static const struct record_table log_table = {
    .fields = log_fields, .n = COUNT(log_fields), .size = sizeof(struct log_limits)};

static const char *const restart_modes[] = {[RESTART_FAIL] = "fail", [RESTART_DELAY] = "delay", NULL};
static const char *const restart_conditions[] = {
    [RESTART_ON_FAILURE] = "on_failure", [RESTART_ALWAYS] = "always", NULL};
static const char *const delay_functions[] = {
    [DELAY_CONSTANT] = "constant", [DELAY_EXPONENTIAL] = "exponential", [DELAY_FIBONACCI] = "fibonacci", NULL};

static int check_restart(const struct json *j, const char *pointer, const void *at, struct err *e)
{
    const struct restart_policy *r = at;
    char field[RECORD_POINTER];

    (void)j;
    record_join(field, pointer, "interval");
    if (r->attempts > 0 && r->mode == RESTART_DELAY && r->delay_ms > r->interval_ms / r->attempts)
        return err_field(e, field, "must have room for all attempts with their delay, in mode delay");
    return 0;
}

static const struct record_field restart_fields[] = {
    {"attempts", RECORD_INT, offsetof(struct restart_policy, attempts), RANGE(0, 1000000)},
    {"interval", RECORD_DURATION, offsetof(struct restart_policy, interval_ms), RANGE(5000, YEAR_MS)},
    {"delay", RECORD_DURATION, offsetof(struct restart_policy, delay_ms), RANGE(0, DAY_MS)},
    {"mode", RECORD_ENUM, offsetof(struct restart_policy, mode), .names = restart_modes},
    {"condition", RECORD_ENUM, offsetof(struct restart_policy, condition), .names = restart_conditions},
    {"delay_function", RECORD_ENUM, offsetof(struct restart_policy, delay_function), .names = delay_functions},
    {"max_delay", RECORD_DURATION, offsetof(struct restart_policy, max_delay_ms), RANGE(0, DAY_MS)},
};
static const struct record_table restart_table = {.fields = restart_fields,
                                                  .n = COUNT(restart_fields),
                                                  .size = sizeof(struct restart_policy),
                                                  .whole = check_restart};
static const struct record_field mount_fields[] = {
    {"volume", RECORD_STRING, IN_MOUNT(volume), RANGE(1, SPEC_NAME_MAX), .required = true},
    {"destination", RECORD_STRING, IN_MOUNT(destination), RANGE(1, DESTINATION_MAX), .required = true,
     .check = spec_check_destination},
    {"read_only", RECORD_BOOL, IN_MOUNT(read_only)},
    {"propagation_mode", RECORD_ENUM, IN_MOUNT(propagation), .names = propagations},
};

static void default_mount(void *at)
{
    ((struct volume_mount *)at)->propagation = PROPAGATION_PRIVATE;
}

static const struct record_table mount_table = {mount_fields, COUNT(mount_fields), sizeof(struct volume_mount),
                                                .defaults = default_mount};

static const struct record_field fields[] = {
    {"command", RECORD_STRING, AT(command), RANGE(1, PATH_MAX_LEN), .required = true},
    {"args", RECORD_STRINGS, AT(args), ITEMS},
    {"name", RECORD_STRING, AT(name), RANGE(1, SPEC_NAME_MAX), .check = spec_check_name},
    {"labels", RECORD_PAIRS, AT(labels), ITEMS, .check = spec_check_label},
    {"user", RECORD_STRING, AT(user), RANGE(1, 255)},
    {"env", RECORD_PAIRS, AT(env), ITEMS, .check = spec_check_env},
    {"work_dir", RECORD_STRING, AT(work_dir), RANGE(1, PATH_MAX_LEN), .check = spec_check_path},
    {"stdin", RECORD_CUSTOM, AT(input), .codec = &input_codec},
    {"pid_mode", RECORD_ENUM, AT(pid_mode), .names = ns_modes},
    {"ipc_mode", RECORD_ENUM, AT(ipc_mode), .names = ns_modes},
    {"userns_mode", RECORD_ENUM, AT(userns_mode), .names = ns_modes},
    {"hostname", RECORD_STRING, AT(hostname), RANGE(1, 63), .check = spec_check_hostname},
    {"chroot", RECORD_STRING, AT(chroot), RANGE(1, SPEC_NAME_MAX)},
    {"root", RECORD_ENUM, AT(root), .names = root_modes},
    {"volume_mounts", RECORD_OBJECT_LIST, AT(volume_mounts), RANGE(0, 100), .table = &mount_table},
    {"cap_add", RECORD_STRINGS, AT(cap_add), ITEMS},
    {"cap_drop", RECORD_STRINGS, AT(cap_drop), ITEMS},
    {"no_new_privs", RECORD_BOOL, AT(no_new_privs)},
    {"seccomp", RECORD_STRING, AT(seccomp), RANGE(1, SPEC_NAME_MAX)},
    {"resources", RECORD_OBJECT, AT(resources), .table = &resource_table},
    {"oom_score_adj", RECORD_INT, AT(oom_score_adj), RANGE(0, 1000)},
    {"logs", RECORD_OBJECT, AT(logs), .table = &log_table},
    {"kill_signal", RECORD_SIGNAL, AT(kill_signal)},
    {"kill_timeout", RECORD_DURATION, AT(kill_timeout_ms), RANGE(0, DAY_MS)},
    {"timeout", RECORD_DURATION, AT(timeout_ms), RANGE(0, YEAR_MS)},
    {"cpu_timeout", RECORD_DURATION, AT(cpu_timeout_ms), RANGE(0, YEAR_MS)},
    {"ttl", RECORD_DURATION, AT(ttl_ms), RANGE(0, YEAR_MS)},
    {"restart", RECORD_OBJECT, AT(restart), .table = &restart_table},
    {"queue", RECORD_BOOL, AT(queue)},
    {"priority", RECORD_INT, AT(priority), RANGE(1, 100)},
    {"network", RECORD_OBJECT, AT(network), .table = &network_spec_table},
};
static const struct record_table table = {.fields = fields, .n = COUNT(fields), .size = sizeof(struct spec)};

/* The base name of the command with what a name may not have replaced. */
static char *default_name(const char *command)
{
    const char *slash = strrchr(command, '/');
    const char *from = slash ? slash + 1 : command;
    while (*from && !isalnum((unsigned char)*from))
        from++;
    char *name = xstrdup(*from ? from : "task");
    if (strlen(name) > SPEC_NAME_MAX)
        name[SPEC_NAME_MAX] = '\0';
    for (char *p = name; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("_.-", *p))
            *p = '_';
    }
    return name;
}

int spec_decode(const struct json *j, struct spec *s, struct err *e)
{
    *s = (struct spec){
        .no_new_privs = true,
        .kill_signal = SIGINT,
        .kill_timeout_ms = 5000,
        .priority = 50,
        .root = ROOT_OVERLAY,
    };
    s->restart = (struct restart_policy){
        .interval_ms = 30 * 60 * 1000,
        .delay_ms = 15 * 1000,
        .mode = RESTART_FAIL,
        .condition = RESTART_ON_FAILURE,
        .delay_function = DELAY_CONSTANT,
        .max_delay_ms = 60 * 60 * 1000,
    };
    s->logs.max_files = 10;
    s->logs.max_file_size = 10;
    if (record_decode(&table, j, "", s, e) < 0)
        return -1;
    if (!s->name)
        s->name = default_name(s->command);
    if (!s->user)
        s->user = xstrdup("nobody");
    if (!s->seccomp)
        s->seccomp = xstrdup(SECCOMP_DEFAULT);
    if (!s->work_dir)
        s->work_dir = xstrdup("/");
    if (!s->chroot)
        s->chroot = xstrdup("default");
    return 0;
}

struct json *spec_encode(const struct spec *s)
{
    return record_encode(&table, s);
}

void spec_free(struct spec *s)
{
    record_free(&table, s);
}
