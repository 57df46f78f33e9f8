/* Users and groups. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "isolation/identity.h"

enum { PASSWD_BUF = 16384, GID_NOGROUP = 65534 };

/* Strict decimal below 2^32-1, which is "no id" in setresuid(2). */
static bool parse_id(const char *text, size_t len, uint32_t *id)
{
    uint64_t v = 0;

    if (len == 0 || len > 10 || (len > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(text[i] - '0');
    }
    if (v >= UINT32_MAX)
        return false;
    *id = (uint32_t)v;
    return true;
}

void identity_preload(void)
{
    gid_t groups[IDENTITY_GROUPS_MAX];
    char text[PASSWD_BUF];
    struct passwd pw, *found;
    int n = IDENTITY_GROUPS_MAX;

    getpwuid_r(UINT32_MAX - 1, &pw, text, sizeof(text), &found); /* nobody's: every module is asked */
    getgrouplist("nobody", GID_NOGROUP, groups, &n);
}

static int denied(struct err *e, const char *why, const char *user)
{
    err_set(e, 403, "user_denied", "%s: \"%.64s\"", why, user);
    snprintf(e->pointer, sizeof(e->pointer), "/user");
    return -1;
}

static void take_account(struct identity *id, const struct passwd *pw)
{
    id->uid = pw->pw_uid;
    id->gid = pw->pw_gid;
    snprintf(id->name, sizeof(id->name), "%s", pw->pw_name);
    snprintf(id->home, sizeof(id->home), "%s", pw->pw_dir && pw->pw_dir[0] == '/' ? pw->pw_dir : "/");
}

static bool all_digits(const char *s, size_t len)
{
    return len > 0 && strspn(s, "0123456789") >= len;
}

/* *known tells whether there is an account. */
static int lookup(const char *user, struct identity *id, bool *known, struct err *e)
{
    char text[PASSWD_BUF];
    struct passwd pw, *found = NULL;
    const char *colon = strchr(user, ':');
    size_t len = colon ? (size_t)(colon - user) : strlen(user);
    uint32_t uid = 0, gid = 0;
    bool numeric = all_digits(user, len);
    int rc;

    if (colon && !numeric)
        return err_field(e, "/user", "the form is name, uid or uid:gid");
    if (numeric && !parse_id(user, len, &uid))
        return err_field(e, "/user", "the uid is not a number from 0 to 4294967294");
    if (colon && !parse_id(colon + 1, strlen(colon + 1), &gid))
        return err_field(e, "/user", "the gid is not a number from 0 to 4294967294");
    rc = numeric ? getpwuid_r(uid, &pw, text, sizeof(text), &found) : getpwnam_r(user, &pw, text, sizeof(text), &found);
    if (found) {
        take_account(id, found);
    } else if (numeric) {
        id->uid = uid;
        id->gid = GID_NOGROUP;
        snprintf(id->name, sizeof(id->name), "%u", uid);
        snprintf(id->home, sizeof(id->home), "/");
    } else {
        err_field(e, "/user", "there is no account \"%.64s\"", user);
        e->errnum = rc;
        return -1;
    }
    if (colon)
        id->gid = gid;
    *known = found != NULL;
    return 0;
}

static int take_groups(struct identity *id, bool known, struct err *e)
{
    int n = IDENTITY_GROUPS_MAX;

    id->groups[0] = id->gid;
    id->ngroups = 1;
    if (!known)
        return 0;
    if (getgrouplist(id->name, id->gid, id->groups, &n) < 0)
        return err_field(e, "/user", "the account \"%s\" has more than %d groups", id->name, IDENTITY_GROUPS_MAX);
    id->ngroups = (size_t)n;
    return 0;
}

/* An entry of the deny list denies its account under every name and number. */
static bool in_deny_list(const char *entry, const char *user, const struct identity *id)
{
    char text[PASSWD_BUF];
    struct passwd pw, *found = NULL;
    uint32_t uid;

    if (strcmp(entry, user) == 0 || strcmp(entry, id->name) == 0)
        return true;
    if (parse_id(entry, strlen(entry), &uid) && uid == id->uid)
        return true;
    return getpwnam_r(entry, &pw, text, sizeof(text), &found) == 0 && found && found->pw_uid == id->uid;
}

static int check_policy(const char *user, const struct identity *id, const struct policy *p, struct err *e)
{
    for (size_t i = 0; i < p->denied_users.n; i++)
        if (in_deny_list(p->denied_users.v[i], user, id))
            return denied(e, "the user is in the deny list", user);
    if (id_ranges_have(&p->denied_uids, id->uid))
        return denied(e, "the uid is denied", user);
    if (id->uid == p->server_uid)
        return denied(e, "the uid is the server's own", user);
    for (size_t i = 0; i <= id->ngroups; i++) {
        gid_t gid = i < id->ngroups ? id->groups[i] : id->gid;

        if (id_ranges_have(&p->denied_gids, gid))
            return denied(e, "a group of the user is denied", user);
        if (gid == p->server_gid)
            return denied(e, "a group of the user is the server's own", user);
    }
    return 0;
}

int identity_resolve(const char *user, const struct policy *p, struct identity *id, struct err *e)
{
    bool known = false;

    memset(id, 0, sizeof(*id));
    if (!user[0])
        return err_field(e, "/user", "the user is empty");
    if (lookup(user, id, &known, e) < 0 || take_groups(id, known, e) < 0)
        return -1;
    return check_policy(user, id, p, e);
}

static int compare_gids(const void *a, const void *b)
{
    gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;

    return (x > y) - (x < y);
}

static size_t sorted_unique(gid_t *v, size_t n)
{
    size_t kept = 0;

    qsort(v, n, sizeof(*v), compare_gids);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || v[kept - 1] != v[i])
            v[kept++] = v[i];
    return kept;
}

int identity_apply_groups(const struct identity *id, struct err *e)
{
    gid_t want[IDENTITY_GROUPS_MAX], is[IDENTITY_GROUPS_MAX], real, effective, saved;

    if (setgroups(id->ngroups, id->groups) < 0)
        return err_step(e, "groups", errno, "setgroups");
    if (setresgid(id->gid, id->gid, id->gid) < 0)
        return err_step(e, "groups", errno, "setresgid %u", id->gid);
    if (getresgid(&real, &effective, &saved) < 0 || real != id->gid || effective != id->gid || saved != id->gid)
        return err_step(e, "groups", EPERM, "gid %u was not taken", id->gid);
    int n = getgroups(IDENTITY_GROUPS_MAX, is);
    if (n < 0)
        return err_step(e, "groups", errno, "getgroups");
    memcpy(want, id->groups, sizeof(want));
    size_t have = sorted_unique(is, (size_t)n), wanted = sorted_unique(want, id->ngroups);
    if (have != wanted || memcmp(is, want, have * sizeof(gid_t)) != 0)
        return err_step(e, "groups", EPERM, "the supplementary groups were not taken");
    return 0;
}
