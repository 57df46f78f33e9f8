/* PATCH: another spec for a task that lives. What may differ is the server's to know (api/patch.c); here the limits
 * reach the kernel and the timers their new ends. */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "isolation/limits.h"
#include "supervisor/supervision.h"

static int read_new(int fd, struct spec *s, struct err *e)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0;

    if (fd < 0 || file_read_fd(fd, SPEC_MAX, &text, &len) < 0)
        return err_set(e, 500, "protocol", "the new spec cannot be read");
    _cleanup_json_ struct json *j = json_parse(text, len, e);
    return j ? spec_decode(j, s, e) : -1;
}

void supervision_update(struct supervision *s, int spec_fd, struct err *e)
{
    const struct cgroup_host *h = s->args->cgroups;
    struct spec new = {0};

    if (read_new(spec_fd, &new, e) < 0 ||
        limits_apply(&new.resources, &s->spec.resources, &s->args->policy->max, e) < 0 ||
        supervision_check_host(s, &new, e) < 0 ||
        (s->status.state == RUN_RUNNING && cgroup_update(h, s->args->id, &s->spec.resources, &new.resources, e) < 0)) {
        spec_free(&new);
        return;
    }
    spec_free(&s->spec);
    s->spec = new;
    lifecycle_updated(s);
}
