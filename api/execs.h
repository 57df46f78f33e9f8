/* What the handlers of exec sessions share. */
#ifndef CLOISTER_API_EXECS_H
#define CLOISTER_API_EXECS_H

#include "api/api.h"
#include "tasks/exec.h"

/* {code, signal}, or null while it runs. */
struct json *exec_exit_view(const struct session_status *s);
const char *exec_state_name(uint32_t state);
/* The session of {id} and {eid}: the task, and its status in *s; NULL after a 404 has been replied. */
struct task *request_exec(struct request *q, struct session_status *s);

#endif
