/* What a group has used, read from trees of files as the kernel writes them, v1, hybrid and v2. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "isolation/cgroup.h"

static char top[] = "/tmp/cloister-stat-XXXXXX";

static int setup(void **state)
{
    (void)state;
    memcpy(top + sizeof(top) - 7, "XXXXXX", 6);
    return mkdtemp(top) ? 0 : -1;
}

static int teardown(void **state)
{
    _cleanup_close_ int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    (void)state;
    return file_remove_tree(tmp, strrchr(top, '/') + 1);
}

static void put(const char *group, const char *file, const char *text)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", top, group);
    assert_int_equal(file_mkdirs(path, 0755), 0);
    snprintf(path, sizeof(path), "%s/%s/%s", top, group, file);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(file_write_all(fd, text, strlen(text)), 0);
}

static void use(struct cgroup_host *h, enum cgroup_controller c, int version, const char *tree)
{
    h->ctl[c].version = version;
    snprintf(h->ctl[c].mount, sizeof(h->ctl[c].mount), "%s/%s", top, tree);
}

static void put_v1(struct cgroup_host *h)
{
    use(h, CG_CPU, 1, "cpu");
    use(h, CG_CPUACCT, 1, "cpu");
    use(h, CG_MEMORY, 1, "memory");
    use(h, CG_PIDS, 1, "pids");
    use(h, CG_IO, 1, "blkio");
    put("cpu/p/t", "cpuacct.usage", "5000\n");
    put("cpu/p/t", "cpuacct.usage_user", "3000\n");
    put("cpu/p/t", "cpuacct.usage_sys", "2000\n");
    put("cpu/p/t", "cpu.stat", "nr_periods 7\nnr_throttled 3\nthrottled_time 900\n");
    put("memory/p/t", "memory.usage_in_bytes", "100\n");
    put("memory/p/t", "memory.max_usage_in_bytes", "200\n");
    put("memory/p/t", "memory.limit_in_bytes", "9223372036854771712\n");
    put("memory/p/t", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    put("memory/p/t", "memory.stat", "cache 1\nrss 2\ntotal_cache 11\ntotal_rss 12\ntotal_rss_huge 5\ntotal_swap 0\n");
    put("pids/p/t", "pids.current", "4\n");
    put("pids/p/t", "pids.max", "max\n");
    put("blkio/p/t", "blkio.throttle.io_service_bytes_recursive",
        "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 1\n8:16 Write 2\nTotal 33\n");
    put("blkio/p/t", "blkio.throttle.io_serviced_recursive", "Total 0\n");
}

static void test_v1(void **state)
{
    struct cgroup_host h = {.parent = "p"};
    struct cgroup_stat s;

    (void)state;
    put_v1(&h);
    cgroup_stat(&h, "t", &s);
    assert_true(s.usage.cpu_ns == 5000 && s.usage.cpu_user_ns == 3000 && s.usage.cpu_system_ns == 2000);
    assert_true(s.usage.periods == 7 && s.usage.throttled_periods == 3 && s.usage.throttled_ns == 900);
    assert_true(s.usage.memory_bytes == 100 && s.usage.memory_peak_bytes == 200 && s.memory_limit_bytes == -1);
    assert_true(s.usage.memory_anon_bytes == 12 && s.usage.memory_file_bytes == 11 && s.usage.swap_bytes == 0);
    assert_true(s.usage.oom_kills == 2 && s.usage.memory_kernel_bytes == -1); /* it has no such file */
    assert_true(s.usage.pids == 4 && s.usage.pids_peak == -1 && s.pids_limit == -1);
    assert_true(s.usage.io_read_bytes == 11 && s.usage.io_write_bytes == 22);
    assert_true(s.usage.io_reads == 0 && s.usage.io_writes == 0);
    assert_true(s.some[CGROUP_PSI_CPU].total_us == -1);
}

static void test_hybrid(void **state)
{
    struct cgroup_host h = {.parent = "p"};
    struct cgroup_stat s;

    (void)state;
    put_v1(&h);
    snprintf(h.v2_mount, sizeof(h.v2_mount), "%s/unified", top);
    put("unified/p/share/t", "cpu.stat", "usage_usec 1\nuser_usec 1\nsystem_usec 1\n");
    put("unified/p/share/t", "memory.pressure",
        "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n");
    cgroup_stat(&h, "t", &s);
    assert_int_equal(s.usage.cpu_ns, 5000); /* v1's, which is finer, stays */
    assert_true(s.some[CGROUP_PSI_MEMORY].total_us == 77 && s.full[CGROUP_PSI_MEMORY].total_us == 7);
    assert_true(s.some[CGROUP_PSI_MEMORY].avg10 == 1.5 && s.some[CGROUP_PSI_MEMORY].avg60 == 0.25);
    assert_true(s.some[CGROUP_PSI_IO].total_us == -1 && s.full[CGROUP_PSI_CPU].total_us == -1);
}

static void test_v2(void **state)
{
    struct cgroup_host h = {.parent = "p"};
    struct cgroup_stat s;

    (void)state;
    snprintf(h.v2_mount, sizeof(h.v2_mount), "%s/v2", top);
    use(&h, CG_CPU, 2, "v2");
    use(&h, CG_MEMORY, 2, "v2");
    use(&h, CG_PIDS, 2, "v2");
    use(&h, CG_IO, 2, "v2");
    put("v2/p/reserve/t", "cpu.stat",
        "usage_usec 50\nuser_usec 30\nsystem_usec 20\nnr_periods 9\nnr_throttled 1\nthrottled_usec 4\n");
    put("v2/p/reserve/t", "memory.current", "100\n");
    put("v2/p/reserve/t", "memory.max", "4096\n");
    put("v2/p/reserve/t", "memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n");
    put("v2/p/reserve/t", "memory.stat", "anon 12\nfile 11\nkernel 9\nkernel_stack 5\nfile_mapped 1\n");
    put("v2/p/reserve/t", "pids.current", "4\n");
    put("v2/p/reserve/t", "pids.peak", "6\n");
    put("v2/p/reserve/t", "pids.max", "20\n");
    put("v2/p/reserve/t", "io.stat",
        "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=5 dios=1\n8:16 rbytes=1 wbytes=2 rios=3 wios=4\n");
    cgroup_stat(&h, "t", &s);
    assert_true(s.usage.cpu_ns == 50000 && s.usage.cpu_user_ns == 30000 && s.usage.cpu_system_ns == 20000);
    assert_true(s.usage.periods == 9 && s.usage.throttled_periods == 1 && s.usage.throttled_ns == 4000);
    assert_true(s.usage.memory_bytes == 100 && s.usage.memory_peak_bytes == -1 && s.memory_limit_bytes == 4096);
    assert_true(s.usage.memory_anon_bytes == 12 && s.usage.memory_file_bytes == 11);
    assert_true(s.usage.memory_kernel_bytes == 9 && s.usage.swap_bytes == -1 && s.usage.oom_kills == 1);
    assert_true(s.usage.pids == 4 && s.usage.pids_peak == 6 && s.pids_limit == 20);
    assert_true(s.usage.io_read_bytes == 11 && s.usage.io_write_bytes == 22);
    assert_true(s.usage.io_reads == 4 && s.usage.io_writes == 6);
}

static void test_no_group(void **state)
{
    struct cgroup_host h = {.parent = "p"};
    struct cgroup_usage u;

    (void)state;
    put_v1(&h);
    cgroup_usage(&h, "../t", &u); /* no plain name */
    assert_true(u.cpu_ns == -1 && u.memory_bytes == -1 && u.io_writes == -1);
    cgroup_usage(&h, "gone", &u);
    assert_true(u.cpu_ns == -1 && u.oom_kills == -1);
    put("cpu/p", "cpuacct.usage", "70000\n");
    cgroup_usage_brief(&h, NULL, &u); /* all tasks together */
    assert_int_equal(u.cpu_ns, 70000);
    cgroup_usage_brief(&h, "t", &u);
    assert_true(u.cpu_ns == 5000 && u.memory_bytes == 100 && u.pids == 4 && u.oom_kills == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_v1, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hybrid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_v2, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_group, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
