/* The route table: one row is one operation of the API. */
#include "api/api.h"

const struct route api_routes[] = {
    {"GET", "/", root_get, ROLE_MONITOR, "", false},
    {"POST", "/v1/tasks", tasks_create, ROLE_OPERATOR, "wait timeout output dry_run", true},
    {"GET", "/v1/tasks", tasks_list, ROLE_OPERATOR, "state name label user limit cursor order", false},
    {"GET", "/v1/tasks/{id}", tasks_get, ROLE_OPERATOR, "index wait", false},
    {"PATCH", "/v1/tasks/{id}", task_patch, ROLE_OPERATOR, "", true},
    {"DELETE", "/v1/tasks/{id}", tasks_delete, ROLE_OPERATOR, "force", false},
    {"POST", "/v1/tasks/{id}/signal", task_signal, ROLE_OPERATOR, "", true},
    {"POST", "/v1/tasks/{id}/stop", task_stop, ROLE_OPERATOR, "wait", true},
    {"POST", "/v1/tasks/{id}/restart", task_restart, ROLE_OPERATOR, "", true},
    {"POST", "/v1/tasks/{id}/pause", task_pause, ROLE_OPERATOR, "", true},
    {"POST", "/v1/tasks/{id}/resume", task_resume, ROLE_OPERATOR, "", true},
    {"GET", "/v1/tasks/{id}/logs", task_logs, ROLE_OPERATOR, "stream follow tail since cursor format", false},
    {"GET", "/v1/attributes", attributes_list, ROLE_MONITOR, "", false},
    {"GET", "/v1/attributes/{name}", attributes_get, ROLE_MONITOR, "", false},
    {"GET", "/v1/driver", driver_get, ROLE_MONITOR, "", false},
    {"GET", "/v1/node", node_get, ROLE_MONITOR, "", false},
    {"POST", "/v1/gc", gc_post, ROLE_OPERATOR, "", true},
    {"GET", "/v1/config", config_get, ROLE_ADMIN, "", false},
    {"GET", "/healthz", health_live, ROLE_MONITOR, "", false},
    {"GET", "/readyz", health_ready, ROLE_MONITOR, "", false},
    {"GET", "/metrics", metrics_get, ROLE_MONITOR, "", false},
    {"GET", "/openapi.yaml", openapi_yaml, ROLE_MONITOR, "", false},
    {0},
};
