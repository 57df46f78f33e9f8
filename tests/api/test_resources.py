"""Limits: each reaches the kernel, each that the host cannot enforce is refused by name, cores are exclusive."""
import concurrent.futures
import os
import pathlib
import time

import pytest

from conftest import CGROUP_ROOT, PARTS, Daemon, wait_until

CORES = os.cpu_count()
V2 = (CGROUP_ROOT / "cgroup.controllers").exists()
MIB = 1 << 20


def group(daemon, controller, task, v2_file, v1_file):
    """The content of a control file of the task's group, wherever this host has the controller."""
    attribute = daemon.get(f"/v1/attributes/cgroup.{controller}")
    version = attribute.body.decode().strip() if attribute.status == 200 else None
    assert version in ("1", "2"), f"this host has no {controller} controller"
    name = v2_file if version == "2" else v1_file
    found = [p for top in daemon.parents() for p in top.rglob(f"{task['id']}/{name}")]
    if controller == "cpuset" and not found:  # v1, without cores of its own
        found = [p for top in daemon.parents() for p in top.glob(f"share/{name}")]
    assert len(found) == 1, (name, found)
    return found[0].read_text().strip()


def has(daemon, controller):
    return daemon.get(f"/v1/attributes/cgroup.{controller}").status == 200


@pytest.fixture
def sleeper(daemon):
    started = []

    def start(*command, **spec):
        started.append(daemon.start_task(*(command or ("/bin/sleep", "60")), **spec))
        return started[-1]
    yield start
    for task in started:
        assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def refused(daemon, pointer, status=422, **spec):
    before = daemon.census()
    reply = daemon.post("/v1/tasks", {"command": "/bin/true", **spec})
    assert reply.status == status, reply.body
    assert reply.json["errors"][0]["pointer"] == pointer, reply.body
    daemon.assert_as_before(before)
    return reply.json


def test_memory_max_is_the_hard_limit_and_memory_the_soft_one(daemon, sleeper):
    task = sleeper(resources={"memory": 32, "memory_max": 64})
    assert group(daemon, "memory", task, "memory.max", "memory.limit_in_bytes") == str(64 * MIB)
    assert group(daemon, "memory", task, "memory.low", "memory.soft_limit_in_bytes") == str(32 * MIB)
    task = sleeper(resources={"memory": 32, "memory_max": -1})
    assert group(daemon, "memory", task, "memory.max", "memory.limit_in_bytes") in ("max", "9223372036854771712")


def test_swap_is_off_unless_given(daemon, sleeper):
    if not list(CGROUP_ROOT.glob("memory/memory.memsw.*")) and not V2:
        refused(daemon, "/resources/swap", resources={"memory": 32, "swap": 8})
        return
    for swap, expected in ((None, 0), (16, 16)):
        task = sleeper(resources={"memory": 32, **({"swap": swap} if swap else {})})
        value = int(group(daemon, "memory", task, "memory.swap.max", "memory.memsw.limit_in_bytes"))
        assert value == (expected if V2 else 32 + expected) * MIB


SPIN = ["/bin/sh", "-c", "while :; do :; done"]


def test_hard_limit_bounds_the_cpu(daemon, sleeper):
    mhz = int(daemon.get("/v1/attributes/cpu.frequency").body)

    def spin(**resources):
        task = sleeper(*SPIN, resources={"cpu": mhz // 4, **resources})
        stat = next(path for top in daemon.parents() for path in top.rglob(f"{task['id']}/cpu.stat")
                    if "nr_throttled" in path.read_text())  # on hybrid hosts the v2 tree has a cpu.stat without it
        return task, lambda: int(dict(line.split() for line in stat.read_text().splitlines())["nr_throttled"])
    task, throttled = spin(cpu_hard_limit=True)
    assert 24000 <= int(group(daemon, "cpu", task, "cpu.max", "cpu.cfs_quota_us").split()[0]) <= 25000
    wait_until(lambda: throttled() > 2, 20, "the bound")
    task, throttled = spin()  # the control: shares alone do not bound
    time.sleep(1)
    assert throttled() == 0


def test_hard_limit_needs_a_limit(daemon):
    refused(daemon, "/resources/cpu_hard_limit", resources={"cpu_hard_limit": True})


def test_rlimits_are_as_asked(daemon):
    limits = {"nofile": [64, 128], "fsize": 1 << 20, "core": 0, "stack": ["unlimited", "unlimited"], "nproc": 50}
    out = daemon.sh("cat /proc/self/limits", resources={"rlimits": limits})["output"]["stdout"]
    rows = {line[:26].strip(): line[26:].split()[:2] for line in out.splitlines()}
    assert rows["Max open files"] == ["64", "128"]
    assert rows["Max file size"] == [str(1 << 20)] * 2
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max processes"] == ["50", "50"]
    assert daemon.sh("head -c 2000000 /dev/zero > /tmp/x", resources={"rlimits": limits})["exit"]["code"] != 0


def test_core_dumps_are_off_unless_asked_for(daemon):
    assert daemon.sh("ulimit -Hc")["output"]["stdout"] == "0\n"
    assert daemon.sh("ulimit -c", resources={"rlimits": {"core": 4096}})["output"]["stdout"] == "8\n"


@pytest.mark.parametrize("limits,field", [({"files": 1}, "files"), ({"nofile": [2, 1]}, "nofile"), ({"nofile": -1}, "nofile"),
                                          ({"nofile": [1]}, "nofile"), ({"core": "many"}, "core")])
def test_bad_rlimits_name_the_field(daemon, limits, field):
    refused(daemon, f"/resources/rlimits/{field}", resources={"rlimits": limits})


def test_a_hard_limit_beyond_the_hosts_is_refused_or_given(daemon):
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    spec = {"resources": {"rlimits": {"nofile": hard + 1}}}
    if "sys_resource" in daemon.get("/v1/attributes/caps.held").body.decode().split(","):
        assert daemon.sh("ulimit -Hn", **spec)["output"]["stdout"].strip() == str(hard + 1)
    else:
        assert "CAP_SYS_RESOURCE" in refused(daemon, "/resources/rlimits/nofile", **spec)["detail"]


def test_oom_score_adj(daemon):
    assert daemon.sh("cat /proc/self/oom_score_adj")["output"]["stdout"] == "0\n"
    assert daemon.sh("cat /proc/self/oom_score_adj", oom_score_adj=700)["output"]["stdout"] == "700\n"


def disk():
    """A whole disk of this host, by number."""
    for path in sorted(pathlib.Path("/sys/block").glob("*")):
        if int((path / "size").read_text()) > 0 and not path.name.startswith(("ram", "loop")):
            return (path / "dev").read_text().strip()
    return None


def test_io_limits_reach_the_kernel(daemon, sleeper):
    device = disk()
    if not has(daemon, "io"):
        refused(daemon, "/resources/io", resources={"io": {"weight": 10}})
        return
    assert device, "this host has no disk"
    task = sleeper(resources={"io": {"limits": [{"device": device, "write_bps": 1048576, "read_iops": 100}]}})
    if V2:
        assert group(daemon, "io", task, "io.max", "") == f"{device} rbps=max wbps=1048576 riops=100 wiops=max"
    else:
        assert group(daemon, "io", task, "", "blkio.throttle.write_bps_device") == f"{device} 1048576"
        assert group(daemon, "io", task, "", "blkio.throttle.read_iops_device") == f"{device} 100"


def test_bad_io_limits_name_the_field(daemon):
    if has(daemon, "io"):
        refused(daemon, "/resources/io/limits/0/device", resources={"io": {"limits": [{"device": "/dev/null"}]}})
        refused(daemon, "/resources/io/limits/0/device", resources={"io": {"limits": [{"device": "999:999"}]}})
    refused(daemon, "/resources/io/limits/0/device", resources={"io": {"limits": [{"read_bps": 1}]}})
    refused(daemon, "/resources/io/limits/0/device", resources={"io": {"limits": [{"device": "sda"}]}})
    refused(daemon, "/resources/io/weight", resources={"io": {"weight": 0}})


def test_hugetlb(daemon, sleeper):
    sizes = [p.name for p in pathlib.Path("/sys/kernel/mm/hugepages").glob("hugepages-2048kB")]
    if not has(daemon, "hugetlb"):
        refused(daemon, "/resources/hugetlb", resources={"hugetlb": [{"page_size": "2MB", "limit": 4}]})
        return
    if sizes:
        task = sleeper(resources={"hugetlb": [{"page_size": "2MB", "limit": 4}]})
        assert group(daemon, "hugetlb", task, "hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes") == str(4 * MIB)
        refused(daemon, "/resources/hugetlb/0/limit", resources={"hugetlb": [{"page_size": "2MB", "limit": 3}]})
        refused(daemon, "/resources/hugetlb/1/page_size",
                resources={"hugetlb": [{"page_size": "2MB", "limit": 2}, {"page_size": "2MB", "limit": 4}]})
    refused(daemon, "/resources/hugetlb/0/page_size", resources={"hugetlb": [{"page_size": "3MB", "limit": 4}]})


needs_cores = pytest.mark.skipif(CORES < 2, reason="one core: none can be taken from the share")


def cpus_of(task_or_pid):
    pid = task_or_pid["pid"] if isinstance(task_or_pid, dict) else task_or_pid
    return os.sched_getaffinity(pid)


@needs_cores
def test_cores_are_exclusive_and_come_back(own_daemon):
    d = own_daemon
    shared = d.start_task("/bin/sleep", "60")
    assert cpus_of(shared) == set(range(CORES))
    alone = d.start_task("/bin/sleep", "60", resources={"cores": 1})
    own = cpus_of(alone)
    assert len(own) == 1
    wait_until(lambda: cpus_of(shared) == set(range(CORES)) - own, 5, "the share without the reserved core")
    later = d.start_task("/bin/sleep", "60")
    assert cpus_of(later) == set(range(CORES)) - own
    assert d.request("DELETE", f"/v1/tasks/{alone['id']}?force=true").status == 204
    wait_until(lambda: cpus_of(shared) == set(range(CORES)), 5, "the core back in the share")


@needs_cores
def test_cores_that_others_have_are_refused(own_daemon):
    d = own_daemon
    alone = d.start_task("/bin/sleep", "60", resources={"cores": CORES - 1})
    before = d.census()
    reply = d.post("/v1/tasks", {"command": "/bin/true", "resources": {"cores": 1}})
    assert (reply.status, reply.json["code"]) == (503, "no_capacity"), reply.body
    d.assert_as_before(before)
    assert len(cpus_of(alone)) == CORES - 1


def test_all_cores_are_too_many(daemon):
    refused(daemon, "/resources/cores", resources={"cores": CORES})


@needs_cores
def test_cores_survive_a_restart_of_the_daemon(own_daemon):
    d = own_daemon
    alone = d.start_task("/bin/sleep", "60", resources={"cores": 1})
    own = cpus_of(alone)
    d.process.kill()
    d.process.wait()
    d.start()
    shared = d.start_task("/bin/sleep", "60")
    assert cpus_of(alone) == own and cpus_of(shared) == set(range(CORES)) - own


@needs_cores
def test_one_core_is_given_once_however_many_ask(own_daemon):
    d = own_daemon

    def ask(_):
        reply = d.post("/v1/tasks", {"command": "/bin/sleep", "args": ["60"], "resources": {"cores": 1}})
        return reply.json["pid"] if reply.status == 201 else None
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pids = [pid for pid in pool.map(ask, range(8)) if pid]
    assert len(pids) == CORES - 1
    assert len(set().union(*(cpus_of(pid) for pid in pids))) == CORES - 1


@needs_cores
def test_the_environment_tells_the_limits(daemon):
    mhz = int(daemon.get("/v1/attributes/cpu.frequency").body)
    env = "echo $NOMAD_CPU_LIMIT,$NOMAD_CPU_CORES,$NOMAD_MEMORY_LIMIT,$NOMAD_MEMORY_MAX_LIMIT"
    out = daemon.sh(env, resources={"cores": 1, "memory": 32, "memory_max": 64})["output"]["stdout"].strip().split(",")
    assert out[0] == str(mhz) and int(out[1]) < CORES and out[2:] == ["32", "64"]
    assert daemon.sh(env, resources={"cpu": 300})["output"]["stdout"].strip() == "300,,,"


def test_no_group_is_left_by_a_start_that_fails_late(daemon):
    before = daemon.census()
    for _ in range(3):
        spec = {"command": "/none", "resources": {"cores": 1} if CORES > 1 else {}}
        assert daemon.post("/v1/tasks", spec).status == 422
    daemon.assert_as_before(before)
    share = [p for top in daemon.parents() for p in top.glob("reserve/cpuset.cpus")]
    assert all(p.read_text().strip() == "" for p in share)


def test_parent_groups_that_somebody_has_removed_are_made_again(own_daemon):
    """As clean-up jobs do with empty groups."""
    d = own_daemon
    groups = [g for top in d.parents() for g in (*(top / part for part in PARTS), top) if g.exists()]
    for group in groups:
        group.rmdir()
    task = d.run("/bin/true", resources={"memory": 64, "pids": 10, "cpu": 100})
    assert task["exit"]["code"] == 0
    assert all(group.exists() for group in groups)
