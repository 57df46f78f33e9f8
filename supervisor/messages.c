#include "supervisor/messages.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* What version 1 had of each, which is what the oldest peer has; and where a later field must not have moved it. */
static const struct {
    uint16_t size, first;
} kinds[MESSAGE_KINDS] = {
    [MSG_LAUNCHER_REQUEST] = {sizeof(struct launcher_request), sizeof(struct launcher_request)},
    [MSG_LAUNCHER_REPLY] = {sizeof(struct launcher_reply), sizeof(struct launcher_reply)},
    [MSG_RUN_STATUS] = {sizeof(struct run_status), offsetof(struct run_status, log_lost)},
    [MSG_SUPERVISOR_REQUEST] = {sizeof(struct supervisor_request), sizeof(struct supervisor_request)},
    [MSG_SUPERVISOR_REPLY] = {sizeof(struct supervisor_reply), sizeof(struct supervisor_reply)},
    [MSG_SESSION_REQUEST] = {sizeof(struct session_request), sizeof(struct session_request)},
    [MSG_SESSION_STATUS] = {sizeof(struct session_status), offsetof(struct session_status, executed)},
    [MSG_SESSION_CONTROL] = {sizeof(struct session_control), sizeof(struct session_control)},
};

_Static_assert(sizeof(struct message_head) == 8, "the head is what all versions share");
_Static_assert(sizeof(struct err) == 456, "struct err is inside of messages: it does not grow");
_Static_assert(sizeof(struct cgroup_usage) == 152, "struct cgroup_usage is inside of messages: it does not grow");
_Static_assert(sizeof(struct net_status) == 302, "struct net_status is inside of messages: it does not grow");
_Static_assert(offsetof(struct run_status, log_lost) == 1216, "fields of version 1 have moved");
_Static_assert(offsetof(struct session_status, executed) == 552, "fields of version 1 have moved");
_Static_assert(sizeof(struct run_status) <= MESSAGE_MAX / 2, "there must be room to grow");

/* Tests of an upgrade: this process is one of version 1. */
static bool is_old(void)
{
#ifdef CLOISTER_FAULTS
    return getenv("CLOISTER_OLD_PROTOCOL") != NULL;
#else
    return false;
#endif
}

struct message_head message_head(enum message_kind kind)
{
    bool old = is_old();

    return (struct message_head){
        .version = old ? PROTOCOL_OLDEST : PROTOCOL_VERSION,
        .kind = (uint16_t)kind,
        .size = old ? kinds[kind].first : kinds[kind].size,
    };
}

int message_send(int sock, const struct message_head *h, const int *fds, size_t n)
{
    return msg_send(sock, h, h->size, fds, n);
}

ssize_t message_recv(int sock, struct message *m, int fds[MSG_FDS_MAX], size_t *n)
{
    ssize_t got = msg_recv(sock, m->raw, sizeof(m->raw), fds, n);

    m->len = got > 0 ? (size_t)got : 0;
    return got;
}

bool message_open(const void *data, size_t len, enum message_kind kind, void *out)
{
    struct message_head h;

    if (len < sizeof(h))
        return false;
    memcpy(&h, data, sizeof(h));
    if (h.version < PROTOCOL_OLDEST || h.kind != kind || h.size != len || len < kinds[kind].first)
        return false;
    memset(out, 0, kinds[kind].size);
    memcpy(out, data, len < kinds[kind].size ? len : kinds[kind].size);
    h = message_head(kind);
    memcpy(out, &h, sizeof(h)); /* as one of ours from here on */
    return true;
}
