/* What the host and the daemon are: attributes, driver, configuration, health, the contract. */
#include <stdio.h>
#include <string.h>

#include "api/common.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "isolation/policy.h"

static struct api *api_of(const struct request *q)
{
    return request_api(q);
}

void root_get(struct request *q)
{
    static const char *const links[][2] = {
        {"tasks", "/v1/tasks"},       {"events", "/v1/events"}, {"attributes", "/v1/attributes"},
        {"driver", "/v1/driver"},     {"node", "/v1/node"},     {"config", "/v1/config"},
        {"metrics", "/metrics"},      {"health", "/healthz"},   {"ready", "/readyz"},
        {"openapi", "/openapi.yaml"},
    };
    struct json *j = json_object(), *l = json_object();

    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
        json_set_string(l, links[i][0], links[i][1]);
    json_set_string(j, "service", "cloister");
    json_set_string(j, "version", api_of(q)->version);
    json_set(j, "links", l);
    reply_json(q, 200, j);
}

static struct json *health_view(const struct attributes *a)
{
    struct json *j = json_object();

    json_set_bool(j, "healthy", a->driver_exec);
    json_set_string(j, "reason", a->reason);
    return j;
}

void attributes_list(struct request *q)
{
    const struct attributes *a = registry_attributes(request_registry(q));
    struct json *j = json_object(), *all = json_object();

    for (size_t i = 0; i < a->n; i++)
        json_set_string(all, a->v[i].name, a->v[i].value);
    json_set(j, "attributes", all);
    json_set(j, "driver", health_view(a));
    reply_json(q, 200, j);
}

void attributes_get(struct request *q)
{
    const struct attributes *a = registry_attributes(request_registry(q));
    const char *name = request_param(q, 0), *accept = request_header(q, "Accept");
    const char *value = attribute_get(a, name);
    struct err e = {0};

    if (!value) {
        bool driver = strcmp(name, "driver.exec") == 0;

        err_set(&e, 404, "attribute_not_found", driver ? "driver.exec: %.128s" : "there is no attribute %.128s",
                driver ? a->reason : name);
        reply_problem(q, &e);
    } else if (accept && strstr(accept, "application/json")) {
        struct json *j = json_object();

        json_set_string(j, "name", name);
        json_set_string(j, "value", value);
        reply_json(q, 200, j);
    } else {
        char *text = xasprintf("%s\n", value);
        reply_data(q, 200, "text/plain; charset=utf-8", text, strlen(text));
    }
}

static struct json *chroots_view(const struct policy *p)
{
    struct json *a = json_array();

    for (size_t i = 0; i < p->nchroots; i++)
        json_push(a, json_new_string(p->chroots[i].name));
    return a;
}

/* Not where they are on the host: that is for admins (GET /v1/config). */
static struct json *volumes_view(const struct policy *p)
{
    struct json *a = json_array();

    for (size_t i = 0; i < p->nvolumes; i++) {
        struct json *v = json_object();

        json_set_string(v, "name", p->volumes[i].name);
        json_set_bool(v, "read_only", p->volumes[i].read_only);
        json_set_bool(v, "allow_bidirectional", p->volumes[i].allow_bidirectional);
        json_push(a, v);
    }
    return a;
}

void driver_get(struct request *q)
{
    const struct attributes *a = registry_attributes(request_registry(q));
    static const char *const modes_of_root[] = {"overlay", "readonly", "copy"};
    struct json *j = json_object(), *c = json_object(), *modes = json_array(), *roots = json_array();

    for (int m = NET_HOST; m < NET_MODES; m++) {
        const char *mode = net_mode_name((enum net_mode)m);
        _cleanup_free_ char *name = xasprintf("driver.network.%s", mode);

        if (attribute_get(a, name))
            json_push(modes, json_new_string(mode));
    }
    for (size_t i = 0; i < sizeof(modes_of_root) / sizeof(modes_of_root[0]); i++)
        json_push(roots, json_new_string(modes_of_root[i]));
    json_set_bool(c, "send_signals", true);
    json_set_bool(c, "exec", true);
    json_set_string(c, "fs_isolation", "chroot");
    json_set(c, "network_modes", modes);
    json_set(c, "roots", roots);
    json_set(c, "chroots", chroots_view(registry_policy(request_registry(q))));
    json_set(c, "volumes", volumes_view(registry_policy(request_registry(q))));
    json_set_string(j, "name", "exec");
    json_set_bool(j, "healthy", a->driver_exec);
    json_set_string(j, "health_description", a->reason);
    json_set(j, "capabilities", c);
    reply_json(q, 200, j);
}

void config_get(struct request *q)
{
    char *text = json_print(api_of(q)->config);

    reply_data(q, 200, "application/json", text, strlen(text));
}

void health_live(struct request *q)
{
    reply_data(q, 200, "text/plain; charset=utf-8", xstrdup("ok\n"), 3);
}

void health_ready(struct request *q)
{
    struct err e = {0};

    if (registry_ready(request_registry(q), &e) < 0) {
        reply_problem(q, &e);
        return;
    }
    struct json *j = json_object();
    json_set_bool(j, "ready", true);
    reply_json(q, 200, j);
}

static void reply_embedded(struct request *q, const char *type, const struct embedded *v)
{
    struct buf b = {0};
    size_t len;

    buf_append(&b, v->text, v->len);
    char *text = buf_take(&b, &len);
    reply_data(q, 200, type, text, len);
}

void openapi_yaml(struct request *q)
{
    reply_embedded(q, "application/yaml", &api_of(q)->openapi_yaml);
}

void openapi_json(struct request *q)
{
    reply_embedded(q, "application/json", &api_of(q)->openapi_json);
}
