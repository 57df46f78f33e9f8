/* The CPUs of the host: sets of them, their nodes and their speed. */
#ifndef CLOISTER_ISOLATION_CPUS_H
#define CLOISTER_ISOLATION_CPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CPUS_MAX = 1024, CPUS_TEXT = 512 };

struct cpus {
    uint64_t w[CPUS_MAX / 64];
};

/* The List Format of cpuset(7): "0-3,8". "" is the empty set. -1 when malformed or beyond CPUS_MAX. */
int cpus_parse(const char *text, struct cpus *c);
/* The shortest list; -1 with errno EOVERFLOW when it does not fit. */
int cpus_format(const struct cpus *c, char *out, size_t n);
size_t cpus_count(const struct cpus *c);
void cpus_add(struct cpus *c, const struct cpus *more);
void cpus_remove(struct cpus *c, const struct cpus *less);
/* Picks n of the free CPUs: all of one NUMA node when one has them (the one with the fewest that suffice), else of as
 * few nodes as the order of their sizes gives. Lower numbers first. false when there are fewer. */
bool cpus_pick(const struct cpus *free, size_t n, const struct cpus *nodes, size_t node_count, struct cpus *picked);
/* The NUMA nodes of the host from sysfs; one of all CPUs when it tells none. */
size_t cpus_nodes(struct cpus *nodes, size_t max);
/* Speed of one core in MHz: cpufreq's base or maximum, else what /proc/cpuinfo says, else 1000 (Nomad's guess). */
int64_t cpus_mhz(void);

#endif
