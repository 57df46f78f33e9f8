/* The environment of the command, made from nothing: what is not set here does not come from our own environment. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "isolation/steps.h"

struct environment {
    char **v; /* NULL-terminated */
    size_t n;
};

/* A later value of the same name wins. */
static void set(struct environment *env, const char *key, const char *value)
{
    char *entry = xasprintf("%s=%s", key, value);
    size_t len = strlen(key) + 1;

    for (size_t i = 0; i < env->n; i++)
        if (strncmp(env->v[i], entry, len) == 0) {
            free(env->v[i]);
            env->v[i] = entry;
            return;
        }
    env->v = xrealloc(env->v, (env->n + 2) * sizeof(char *));
    env->v[env->n++] = entry;
    env->v[env->n] = NULL;
}

static void set_limit(struct environment *env, const char *key, int64_t value)
{
    char text[24];

    if (value <= 0)
        return;
    snprintf(text, sizeof(text), "%" PRId64, value);
    set(env, key, text);
}

char **environment_build(const struct sandbox *b)
{
    const struct spec *s = b->spec;
    struct environment env = {0};
    char short_id[9];

    set(&env, "PATH", SANDBOX_PATH);
    for (size_t i = 0; i < s->env.n; i++)
        set(&env, s->env.v[i].key, s->env.v[i].value);
    set(&env, "HOME", b->who.home);
    set(&env, "USER", b->who.name);
    set(&env, "LOGNAME", b->who.name);
    set(&env, "NOMAD_ALLOC_DIR", "/alloc");
    set(&env, "NOMAD_TASK_DIR", "/local");
    set(&env, "NOMAD_SECRETS_DIR", "/secrets");
    if (s->name)
        set(&env, "NOMAD_TASK_NAME", s->name);
    set(&env, "NOMAD_ALLOC_ID", b->id);
    snprintf(short_id, sizeof(short_id), "%.8s", b->id);
    set(&env, "NOMAD_SHORT_ALLOC_ID", short_id);
    set_limit(&env, "NOMAD_CPU_LIMIT", b->cpu_mhz);
    if (b->cores[0])
        set(&env, "NOMAD_CPU_CORES", b->cores);
    set_limit(&env, "NOMAD_MEMORY_LIMIT", s->resources.memory);
    set_limit(&env, "NOMAD_MEMORY_MAX_LIMIT", s->resources.memory_max);
    return env.v;
}
