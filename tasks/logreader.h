/* Reads one or both streams of a log, merged in the order in which they were written. */
#ifndef CLOISTER_TASKS_LOGREADER_H
#define CLOISTER_TASKS_LOGREADER_H

#include "tasks/logfile.h"

enum { LOG_STREAMS = 2 };
extern const char *const log_stream_names[LOG_STREAMS]; /* "stdout", "stderr" */

struct logreader {
    struct logfile file[LOG_STREAMS];
    int stream[LOG_STREAMS]; /* of each file */
    size_t n;
    bool timed; /* times are wanted; with two streams they are looked at in any case */
};

struct logpiece {
    enum log_state state;
    struct logfile *file;
    int stream;
    uint64_t to;  /* the piece is from file->cursor to here */
    int64_t time; /* LOG_DATA: ns; 0: unknown or not wanted */
};

/* streams: bit 0 stdout, bit 1 stderr; at least one. */
void logreader_init(struct logreader *r, const char *dir, unsigned int streams);
void logreader_close(struct logreader *r);
void logreader_watched(struct logreader *r, bool watched); /* see struct logfile */
void logreader_changed(struct logreader *r);
/* What comes next. The caller takes it, or a part of it from its begin on, by moving file->cursor. */
void logreader_peek(struct logreader *r, struct logpiece *p);

#endif
