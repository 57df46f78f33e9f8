/* Private to the configuration: one row of the option table, and its values by kind. */
#ifndef CLOISTER_SERVER_CONFIG_INTERNAL_H
#define CLOISTER_SERVER_CONFIG_INTERNAL_H

#include "server/config.h"

enum option_kind { K_STRING, K_INT, K_DURATION, K_BOOL, K_LIST, K_MAP, K_BLOCKS };

struct option {
    const char *block; /* where it stands in the file: "", "plugin.exec.config", "client" */
    const char *name;  /* the flag is the same with - for _ */
    enum option_kind kind;
    size_t offset;
    const char *preset;  /* default as text; lists and maps separated by commas, a map's pairs with =; blocks as JSON */
    int64_t min, max;    /* K_INT; K_DURATION in ms */
    const char *choices; /* K_STRING: space-separated, or NULL */
    const char *help;
};

/* All of them; static. */
const struct option *config_options(size_t *n);
/* The name of its flag, with this joint between the words ("-"): of an option in a block within a block, that block's
 * name goes before it ("reserved-memory"). The caller frees it. */
char *option_flag(const struct option *o, char joint);
/* at is the option's place in struct config. Errors name the option. */
int option_set_text(const struct option *o, void *at, const char *text, struct err *e); /* defaults and flags */
int option_set_json(const struct option *o, void *at, const struct json *v, struct err *e);
struct json *option_json(const struct option *o, const void *at);
void option_free(const struct option *o, void *at);

#endif
