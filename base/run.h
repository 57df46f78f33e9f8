/* Runs a program to its end, with input, output and a time limit. */
#ifndef CLOISTER_BASE_RUN_H
#define CLOISTER_BASE_RUN_H

#include <stdint.h>

#include "base/buf.h"

struct run_output {
    struct buf out, err; /* what it wrote, cut at RUN_OUTPUT_MAX each */
    int status;          /* as waitpid(2) gives it */
};

enum { RUN_OUTPUT_MAX = 1 << 20 };

/* Runs path with the arguments and the environment given and nothing else of ours: standard streams on pipes, no other
 * fd, default signals, "/" as its directory, a process group of its own. input is its standard input. It dies with the
 * caller, and its group is killed after timeout_ms. 0 when it has ended (also with a bad status; 127: it could not be
 * executed), or -1 with errno (ETIMEDOUT). The caller frees *r with run_output_free in any case. */
int run_program(const char *path, const char *const argv[], const char *const envp[], const char *input,
                int64_t timeout_ms, struct run_output *r);
void run_output_free(struct run_output *r);
#define _cleanup_run_ __attribute__((cleanup(run_output_free)))

#endif
