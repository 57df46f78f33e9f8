/* Plain structs from JSON and back, by a table of fields: one table decodes, validates, encodes and frees. */
#ifndef CLOISTER_BASE_RECORD_H
#define CLOISTER_BASE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

struct strings { /* owned array of owned strings */
    char **v;
    size_t n;
};

struct pair {
    char *key, *value;
};

struct pairs {
    struct pair *v;
    size_t n;
};

struct records { /* owned array of structs of one table */
    void *v;
    size_t n;
};

enum { RECORD_POINTER = 96 }; /* room for a pointer, as in struct err */

enum record_kind {                     /* what is at the field's offset, and its JSON form */
                   RECORD_STRING,      /* char *: string; min and max bytes */
                   RECORD_STRINGS,     /* struct strings: array of strings; max members */
                   RECORD_PAIRS,       /* struct pairs: object of strings; max members; check sees each key */
                   RECORD_ENUM,        /* an enum: one of names[1...]; 0 is "not said" */
                   RECORD_BOOL,        /* bool */
                   RECORD_INT,         /* int64_t: whole number from min to max; 0 is "not said" when encoded */
                   RECORD_SIGNAL,      /* int64_t: a signal's name or number */
                   RECORD_DURATION,    /* int64_t, ms: "1m30s" or whole seconds, from min to max ms */
                   RECORD_OBJECT,      /* a struct inside this one, by table */
                   RECORD_OBJECT_LIST, /* struct records: array of objects by table; max members */
                   RECORD_CUSTOM,      /* whatever codec knows */
};

struct record_codec {
    const char *expected; /* for the error of a wrong type: "object" */
    /* 0, or -1 with e. What was taken before an error is released by release too. */
    int (*decode)(const struct json *j, const char *pointer, void *at, struct err *e);
    struct json *(*encode)(const void *at); /* NULL: nothing to write */
    void (*release)(void *at);
};

struct record_table;

struct record_field {
    const char *name;
    enum record_kind kind;
    size_t offset;
    int64_t min, max;
    bool required;
    /* Form of a string, of each member or of each key: 0, or -1 with e. */
    int (*check)(const char *pointer, const char *text, struct err *e);
    const char *const *names;         /* RECORD_ENUM; ends with NULL, names[0] is unused */
    const struct record_table *table; /* RECORD_OBJECT, RECORD_OBJECT_LIST */
    const struct record_codec *codec; /* RECORD_CUSTOM */
};

struct record_table {
    const struct record_field *fields;
    size_t n;
    size_t size;                /* of the struct */
    void (*defaults)(void *at); /* for each new member of a list; may be NULL */
    /* What concerns more than one field, after all are decoded; may be NULL. */
    int (*whole)(const struct json *j, const char *pointer, const void *at, struct err *e);
};

/* Fills the struct at `at`, which holds its defaults. Unknown fields, wrong types, values out of range: 422 with the
 * RFC 6901 pointer, which starts with base ("" for the document). Free it with record_free also after an error. */
int record_decode(const struct record_table *t, const struct json *j, const char *base, void *at, struct err *e);
/* The struct as an object that record_decode reads back to the same; caller frees. */
struct json *record_encode(const struct record_table *t, const void *at);
/* Frees what the struct owns and zeroes it. */
void record_free(const struct record_table *t, void *at);
/* base + "/" + key, escaped as RFC 6901 section 3 says; too long a pointer is cut. */
void record_join(char out[RECORD_POINTER], const char *base, const char *key);

#endif
