/* Which devices a task may use: a table, and the two ways by which the kernel holds a task to it. Everything that is
 * not in the table can neither be opened nor made (mknod(2)): docs/decisions/0005-devices.md. */
#ifndef CLOISTER_ISOLATION_DEVICES_H
#define CLOISTER_ISOLATION_DEVICES_H

#include <stdbool.h>
#include <stddef.h>

#include "isolation/cgroup.h"

enum { DEVICE_MKNOD = 1, DEVICE_READ = 2, DEVICE_WRITE = 4, DEVICE_ALL = 7 }; /* as BPF_DEVCG_ACC_* of linux/bpf.h */
enum { DEVICE_ANY = -1 };                                                     /* every major or minor number */

struct device {
    const char *name;    /* below /dev */
    char type;           /* 'c' or 'b' */
    int major, minor;    /* or DEVICE_ANY */
    unsigned int access; /* DEVICE_* */
    bool node;           /* made in the task's /dev; the others are devpts's */
};

/* The table; static storage. */
const struct device *devices_table(size_t *n);

/* Once, in the launcher, when the hierarchies are known: sets h->devices, h->devices_why and h->devices_fd, which stays
 * open for the launcher's life. */
void devices_init(struct cgroup_host *h);
/* Limits the task's group, which is there and has no member yet, to the table, and reads that back. Success without
 * effect on a host with DEVICES_FREE. Step "devices"; what was done goes with the group. */
int devices_apply(const struct cgroup_host *h, const char *id, struct err *e);

/* devices_v1.c: the devices controller (Documentation/admin-guide/cgroup-v1/devices.rst of the kernel). */

enum { DEVICES_V1_LINE = 32, DEVICES_V1_LIST = 1024 };

/* "c 1:3 rwm": what devices.allow takes and devices.list shows. */
void devices_v1_line(const struct device *d, char out[DEVICES_V1_LINE]);
/* Whether list, as devices.list has it, holds exactly the n lines of d, in whatever order. */
bool devices_v1_same(const char *list, const struct device *d, size_t n);
int devices_v1_apply(const char *dir, struct err *e);

/* devices_bpf.c: a program of type BPF_PROG_TYPE_CGROUP_DEVICE (bpf(2)). */

enum { DEVICES_BPF_MAX = 256 };

struct bpf_insn;
/* The program that returns 1 (allowed) for what d lists and 0 (EPERM) for the rest: the number of its instructions in
 * out (room for DEVICES_BPF_MAX), or 0 when there is no room for them. */
size_t devices_bpf_program(const struct device *d, size_t n, struct bpf_insn *out);
/* The program of the table, loaded: an fd (CLOEXEC), or -1 with errno. Takes some 300 us, of which the verifier has
 * most. */
int devices_bpf_load(void);
/* 0 when the kernel tells what is attached to the group dir, else -1 with errno. */
int devices_bpf_probe(const char *dir);
/* Attaches the loaded program to the group dir. */
int devices_bpf_apply(const char *dir, int program, struct err *e);

#endif
