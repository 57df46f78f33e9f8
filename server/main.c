/* cloisterd: reads the configuration, opens the sockets, becomes the launcher; and what the server process runs. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"
#include "isolation/network.h"
#include "isolation/probe.h"
#include "server/activation.h"
#include "server/auth.h"
#include "server/config.h"
#include "server/self_seal.h"
#include "server/setup.h"
#include "supervisor/launcher.h"
#include "tasks/store.h"

#ifndef CLOISTER_VERSION
#define CLOISTER_VERSION "0.1.0"
#endif

enum { HEADER_MS = 10000, BODY_MS = 30000, IDLE_MS = 60000, ALIVE_MS = 10000 };

extern const char openapi_yaml_text[], openapi_yaml_end[]; /* openapi.yaml, embedded by the build */
extern const char openapi_json_text[], openapi_json_end[]; /* the same as JSON */

struct daemon { /* what both processes know since before the fork */
    struct config config;
    struct policy policy;
    gid_t socket_gid;
    int unix_fd, tcp_fd;
    int64_t watchdog_ms; /* of the service manager; 0 none */
    struct launcher launcher;
    struct attributes attributes;
};

struct service { /* what the server owes the service manager */
    struct loop *loop;
    struct registry *registry;
    int signal_fd;
    int64_t alive_ms;
    bool stop_tasks, stopping;
};

static void on_stopped(void *arg)
{
    struct service *s = arg;

    loop_stop(s->loop, 0);
}

static void on_term(void *arg, uint32_t events)
{
    struct service *s = arg;

    (void)events;
    if (s->stop_tasks && s->registry && !s->stopping) {
        s->stopping = true;
        struct signalfd_siginfo taken;
        while (read(s->signal_fd, &taken, sizeof(taken)) > 0)
            ;
        registry_shutdown(s->registry, on_stopped, s);
        return;
    }
    loop_stop(s->loop, 0); /* at once when it is asked twice */
}

/* The launcher passes it on: a server that hangs is so found out. */
static void on_alive(void *arg, uint32_t events)
{
    struct service *s = arg;

    (void)events;
    registry_alive(s->registry);
    loop_add_timer(s->loop, s->alive_ms, on_alive, s);
}

static int watch_signals(struct loop *loop, struct service *s)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    s->loop = loop;
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signal_fd >= 0 && loop_add_fd(loop, s->signal_fd, EPOLLIN, on_term, s) ? 0 : -1;
}

static int serve(struct daemon *d, struct loop *loop, struct service *service)
{
    struct err e = {0};
    struct auth auth = {
        .socket_gid = d->socket_gid,
        .tokens_file = d->config.tokens_file,
        .hosts = (const char *const *)d->config.allowed_hosts.v,
        .origins = (const char *const *)d->config.allowed_origins.v,
    };
    struct router router = {.routes = api_routes};
    struct api api = {
        .registry = service->registry,
        .logwatch = logwatch_new(loop),
        .config = config_json(&d->config),
        .openapi_yaml = {openapi_yaml_text, (size_t)(openapi_yaml_end - openapi_yaml_text)},
        .openapi_json = {openapi_json_text, (size_t)(openapi_json_end - openapi_json_text)},
        .version = CLOISTER_VERSION,
        .started_at = clock_real_ns(),
        .metrics_tasks_max = d->config.metrics_tasks_max,
    };
    struct http_config config = {
        .loop = loop,
        .router = &router,
        .auth = &auth,
        .api = &api,
        .max_body = (size_t)d->config.max_body,
        .connection_limit = (int)d->config.max_connections,
        .header_ms = HEADER_MS,
        .body_ms = BODY_MS,
        .idle_ms = IDLE_MS,
    };
    struct http *http = http_start(&config, d->unix_fd, d->tcp_fd, &e);
    int rc = 1;

    if (http) {
        log_info("serving on %s and %s", d->config.socket, d->config.listen);
        on_alive(service, 0); /* ready */
        rc = loop_run(loop);
        http_stop(http);
    } else {
        log_error("cannot serve: %s", e.detail);
    }
    logwatch_free(api.logwatch);
    json_free(api.config);
    return rc;
}

static int64_t or_host(int64_t configured, int64_t host)
{
    return configured ? configured : host;
}

static struct registry_limits limits(const struct daemon *d)
{
    const struct config *c = &d->config;
    const struct cgroup_host *h = &d->launcher.cgroups;

    return (struct registry_limits){
        .memory_mib = setup_memory_mib(c),
        .memory_reserved_mib = c->reserved_memory,
        .cores = h->ctl[CG_CPUSET].version ? sysconf(_SC_NPROCESSORS_ONLN) - 1 : 0, /* one stays shared */
        .cpu_mhz = or_host(c->cpu_total_compute, h->total_mhz),
        .cpu_reserved_mhz = c->reserved_cpu,
        .max_tasks = c->max_tasks,
        .max_queued = c->max_queued,
        .gc_interval_ms = c->gc_interval,
        .gc_min_age_ms = c->gc_min_age,
        .gc_max_age_ms = c->gc_max_age,
        .gc_max_tasks = c->gc_max_allocs,
        .gc_disk_percent = c->gc_disk_usage_threshold,
        .gc_inode_percent = c->gc_inode_usage_threshold,
        .gc_parallel = c->gc_parallel_destroys,
    };
}

static int server_main(void *arg, int launcher_sock)
{
    struct daemon *d = arg;
    struct err e = {0};
    struct loop *loop = loop_new(&e);
    int64_t watchdog = d->watchdog_ms;
    struct service service = {
        .alive_ms = watchdog ? watchdog / 3 : ALIVE_MS,
        .stop_tasks = d->config.stop_tasks_on_shutdown,
    };
    int rc = 1;

    setup_file_limit();
    if (!loop || watch_signals(loop, &service) < 0) {
        log_error("cannot make the event loop: %s", e.detail);
        return 1;
    }
    struct registry_config config = {
        .loop = loop,
        .policy = &d->policy,
        .cgroups = &d->launcher.cgroups,
        .attributes = &d->attributes,
        .launcher_fd = launcher_sock,
        .limits = limits(d),
        .events_max = d->config.events_max,
        .events_max_bytes = d->config.events_max_bytes,
    };
    service.registry = registry_open(&config, &e);
    if (service.registry) {
        rc = serve(d, loop, &service);
        registry_close(service.registry);
    } else {
        log_error("cannot open the store: %s", e.detail);
        rc = strcmp(e.code, STORE_DAMAGED) == 0 ? SERVER_EXIT_FINAL : 1;
    }
    loop_free(loop);
    return rc;
}

/* *passed: the unix socket is the service manager's, and stays. */
static int open_sockets(struct daemon *d, bool *passed, struct err *e)
{
    d->unix_fd = d->tcp_fd = -1;
    if (activation_take(&d->unix_fd, &d->tcp_fd, e) < 0)
        return -1;
    *passed = d->unix_fd >= 0;
    if (!*passed)
        d->unix_fd = setup_unix(d->config.socket, d->socket_gid, e);
    if (d->unix_fd < 0)
        return -1;
    return d->tcp_fd >= 0 ? 0 : setup_tcp(d->config.listen, &d->tcp_fd, e);
}

static int run(struct daemon *d)
{
    struct err e = {0};
    bool passed = false;

    log_init("launcher");
    log_set_level(d->config.log_level); /* the option table admits known names only */
    if (open_sockets(d, &passed, &e) < 0 || cgroup_host_init(&d->launcher.cgroups, d->config.cgroup_parent, &e) < 0 ||
        (geteuid() == 0 && network_prepare_host(&d->policy, &e) < 0)) {
        log_error("%s%s", e.detail, geteuid() == 0 ? "" : " (not started as root)");
        return 1;
    }
    if (geteuid() == 0 && !setup_user_known(d->config.server_user))
        log_warn("there is no account \"%s\": the server runs as uid %u", d->config.server_user, d->policy.server_uid);
    d->watchdog_ms = notify_watchdog_ms();
    probe_host(&d->attributes, &d->launcher.cgroups, &d->policy);
    probe_network(&d->attributes, &d->policy);
    probe_userns(&d->attributes, &d->policy);
    log_info("cloisterd %s, cgroups %s, driver.exec: %s", CLOISTER_VERSION, d->launcher.cgroups.mode,
             d->attributes.reason);
    d->launcher.policy = &d->policy;
    d->launcher.runs_tasks = d->attributes.driver_exec;
    d->launcher.server_main = server_main;
    d->launcher.server_arg = d;
    int rc = launcher_run(&d->launcher);
    if (!passed)
        unlink(d->config.socket);
    return rc;
}

static int token_command(int argc, char **argv)
{
    struct config c = {0};
    struct policy p = {0};
    struct err e = {0};
    gid_t gid;
    const char *role = NULL, *name = NULL;
    char *rest[64];
    int n = 0, rc = 1;

    for (int i = 0; i < argc && n < 64; i++) {
        if (strcmp(argv[i], "--role") == 0 && i + 1 < argc)
            role = argv[++i];
        else if (strcmp(argv[i], "--name") == 0 && i + 1 < argc)
            name = argv[++i];
        else
            rest[n++] = argv[i];
    }
    if (!role || !name)
        fprintf(stderr, "cloisterd: token create wants --role and --name\n");
    else if (config_load(&c, NULL, n, rest, &e) < 0 || setup_policy(&c, &p, &gid, &e) < 0 ||
             auth_token_create(c.tokens_file, role, name, p.server_gid, &e) < 0)
        fprintf(stderr, "cloisterd: %s\n", e.detail);
    else
        rc = 0;
    setup_policy_free(&p);
    config_free(&c);
    return rc;
}

int main(int argc, char **argv)
{
    static struct daemon d;
    struct err e = {0};
    const char *file = NULL;
    bool check_only = false;
    char *rest[256];
    int n = 0;

    if (argc >= 3 && strcmp(argv[1], "token") == 0 && strcmp(argv[2], "create") == 0)
        return token_command(argc - 3, argv + 3);
    for (int i = 1; i < argc && n < 256; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            config_help();
            return 0;
        }
        if (strcmp(argv[i], "--man-page") == 0) {
            config_man();
            return 0;
        }
        if (strcmp(argv[i], "--version") == 0) {
            puts("cloisterd " CLOISTER_VERSION);
            return 0;
        }
        if (strcmp(argv[i], "--check-config") == 0)
            check_only = true;
        else if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
            file = argv[++i];
        else
            rest[n++] = argv[i];
    }
    if (config_load(&d.config, file, n, rest, &e) < 0 || setup_policy(&d.config, &d.policy, &d.socket_gid, &e) < 0 ||
        setup_check_listen(d.config.listen, &e) < 0) {
        fprintf(stderr, "cloisterd: %s\n", e.detail);
        return 2;
    }
    if (check_only) {
        puts("the configuration is valid");
        return 0;
    }
    /* Only root has what could be misused: an ordinary user's daemon runs no tasks. */
    if (geteuid() == 0 && self_seal(argv, &e) < 0) {
        fprintf(stderr, "cloisterd: %s\n", e.detail);
        return 1;
    }
    return run(&d);
}
