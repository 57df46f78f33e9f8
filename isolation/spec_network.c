/* The spec's network: its tables, and which of its fields go together. */
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "isolation/network.h"
#include "isolation/spec.h"
#include "isolation/spec_checks.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define RANGE(low, high) .min = (low), .max = (high)

static const char *const modes[] = {
    [NET_HOST] = "host", [NET_NONE] = "none", [NET_GROUP] = "group", [NET_BRIDGE] = "bridge", NULL};
static const char *const protocols[] = {[NET_TCP] = "tcp", [NET_UDP] = "udp", NULL};

/* The bounds are glibc's: MAXNS servers (resolv.conf(5)); of searches and options, what is of use. */
static const struct record_field dns_fields[] = {
    {"servers", RECORD_STRINGS, offsetof(struct dns_spec, servers), RANGE(0, 3), .check = spec_check_address},
    {"searches", RECORD_STRINGS, offsetof(struct dns_spec, searches), RANGE(0, 32), .check = spec_check_domain},
    {"options", RECORD_STRINGS, offsetof(struct dns_spec, options), RANGE(0, 32), .check = spec_check_dns_option},
};
static const struct record_table dns_table = {
    .fields = dns_fields, .n = COUNT(dns_fields), .size = sizeof(struct dns_spec)};

static void port_defaults(void *at)
{
    ((struct port_spec *)at)->protocol = NET_TCP;
}

static const struct record_field port_fields[] = {
    {"host", RECORD_INT, offsetof(struct port_spec, host), RANGE(1, 65535)},
    {"host_ip", RECORD_STRING, offsetof(struct port_spec, host_ip), RANGE(1, 45), .check = spec_check_address},
    {"task", RECORD_INT, offsetof(struct port_spec, task), RANGE(1, 65535), .required = true},
    {"protocol", RECORD_ENUM, offsetof(struct port_spec, protocol), .names = protocols},
};
static const struct record_table port_table = {
    .fields = port_fields, .n = COUNT(port_fields), .size = sizeof(struct port_spec), .defaults = port_defaults};

static int check_network(const struct json *j, const char *pointer, const void *at, struct err *e)
{
    const struct network_spec *s = at;
    const struct port_spec *ports = s->ports.v;
    char field[RECORD_POINTER];

    (void)j;
    record_join(field, pointer, "group");
    if (s->mode == NET_GROUP && !s->group)
        return err_field(e, field, "is required in mode group");
    if (s->group && s->mode != NET_GROUP && s->mode != NET_BRIDGE)
        return err_field(e, field, "goes with mode group or bridge");
    record_join(field, pointer, "ports");
    if (s->ports.n > 0 && s->mode != NET_BRIDGE)
        return err_field(e, field, "goes with mode bridge");
    for (size_t i = 1; i < s->ports.n; i++)
        for (size_t k = 0; k < i; k++)
            if (ports[i].host && ports[i].host == ports[k].host && ports[i].protocol == ports[k].protocol &&
                network_addresses_meet(ports[i].host_ip, ports[k].host_ip)) {
                _cleanup_free_ char *twice = xasprintf("%s/%zu/host", field, i);
                return err_field(e, twice, "is in the list already");
            }
    return 0;
}

static const struct record_field network_fields[] = {
    {"mode", RECORD_ENUM, offsetof(struct network_spec, mode), .names = modes},
    {"group", RECORD_STRING, offsetof(struct network_spec, group), RANGE(1, SPEC_NAME_MAX), .check = spec_check_name},
    {"dns", RECORD_OBJECT, offsetof(struct network_spec, dns), .table = &dns_table},
    {"ports", RECORD_OBJECT_LIST, offsetof(struct network_spec, ports), RANGE(0, NET_PORTS_MAX), .table = &port_table},
};
const struct record_table network_spec_table = {
    .fields = network_fields, .n = COUNT(network_fields), .size = sizeof(struct network_spec), .whole = check_network};
