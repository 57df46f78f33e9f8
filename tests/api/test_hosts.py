"""What holds on every kind of host: attributes and health tell what is true of its control groups, what cannot be
enforced is refused by name, and a task's end, signals and memory kills are exact. tests/guest/run makes the hosts."""
import pathlib
import time

import pytest

from conftest import HOST, wait_until

# The file by which a task's group shows that it has the controller: (v1, v2).
FILES = {"cpu": ("cpu.shares", "cpu.weight"), "memory": ("memory.limit_in_bytes", "memory.max"),
         "pids": ("pids.max", "pids.max"), "freezer": ("freezer.state", None), "cpuacct": ("cpuacct.usage", None),
         "io": ("blkio.throttle.read_bps_device", "io.max")}
WANTED = ("cpu", "cpuset", "memory", "pids")
ALL = {*FILES, "cpuset", "devices", "hugetlb"}
# What each host of tests/guest/run must turn out to be: mode, and its controllers by version.
HOSTS = {
    "v2": ("v2", {"cpu": "2", "cpuset": "2", "io": "2", "memory": "2", "pids": "2", "hugetlb": "2", "devices": "bpf"}),
    "v1": ("v1", dict.fromkeys(ALL, "1")),
    "hybrid": ("hybrid", dict.fromkeys(ALL, "1")),
    "v2-undelegated": ("v2", {"devices": "bpf"}),
    "v2-busy": ("v2", {"devices": "bpf"}),
    "v2-readonly": ("none", {}),
    "none": ("none", {}),
}


def attributes(daemon):
    return daemon.get("/v1/attributes").json["attributes"]


def controllers(daemon):
    return {name: value for name in ALL if (value := attributes(daemon).get(f"cgroup.{name}"))}


def running(marker):
    """pids of the processes that have the marker among their arguments."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def refused(daemon, pointer, **spec):
    before = daemon.census()
    reply = daemon.post("/v1/tasks", {"command": "/bin/true", **spec})
    assert reply.status == 422 and reply.json["errors"][0]["pointer"] == pointer, reply.body
    daemon.assert_as_before(before)
    return reply.json["errors"][0]["detail"]


def test_the_host_is_what_it_is_meant_to_be(daemon):
    found = attributes(daemon)["cgroup.mode"], controllers(daemon)
    assert found == HOSTS.get(HOST, found)


def test_attributes_name_the_controllers_that_a_tasks_groups_have(daemon):
    task = daemon.start_task("/bin/sleep", "60")
    groups = [pathlib.Path(g) for g in daemon.groups() if g.endswith(task["id"])]
    true = {name: str(version) for name, files in FILES.items() for version, file in enumerate(files, 1)
            if any(file and (group / file).exists() and (group / "cgroup.controllers").exists() == (version == 2)
                   for group in groups)}
    assert {name: version for name, version in controllers(daemon).items() if name in FILES} == true
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_health_says_what_is_missing(daemon):
    missing = [name for name in WANTED if name not in controllers(daemon)]
    everything = daemon.get("/v1/attributes").json
    assert everything["attributes"]["driver.exec"] == "1" and everything["driver"]["healthy"] is True
    assert everything["attributes"].get("cgroup.missing") == (",".join(missing) or None)
    told = "limits are refused that need the controllers " + ",".join(missing)
    assert (told in everything["driver"]["reason"]) == bool(missing)


@pytest.mark.parametrize("controller,resources", [
    ("cpu", {"cpu": 100}), ("memory", {"memory": 64}), ("memory", {"memory_max": 64}), ("pids", {"pids": 50}),
    ("io", {"io": {"weight": 10}}), ("hugetlb", {"hugetlb": [{"page_size": "3MB", "limit": 4}]}), ("cpuset", {"cores": 1})])
def test_a_limit_without_its_controller_is_refused_by_name(daemon, controller, resources):
    if controller not in controllers(daemon):
        pointer = f"/resources/{next(iter(resources))}"
        assert f"no {controller} controller" in refused(daemon, pointer, resources=resources)
    elif controller in ("cpu", "pids") or "memory" in resources:  # with it, the limit is taken
        assert daemon.run("/bin/true", resources=resources)["exit"]["code"] == 0


def test_a_task_without_limits_runs(daemon):
    task = daemon.sh("echo hello; exit 7")
    assert task["output"]["stdout"] == "hello\n" and task["exit"]["code"] == 7


def test_cpu_time_is_bounded_or_refused(daemon):
    if attributes(daemon)["cgroup.mode"] == "none":
        refused(daemon, "/cpu_timeout", cpu_timeout="1s")
    else:
        task = daemon.sh("while :; do :; done", cpu_timeout="300ms", kill_timeout="1s")
        assert task["exit"]["reason"] == "cpu_timeout" and task["exit"]["usage"]["cpu_ns"] >= 300_000_000


def test_pausing_works_or_is_refused(daemon):
    task = daemon.start_task("/bin/sleep", "60")
    reply = daemon.post(f"/v1/tasks/{task['id']}/pause")
    if attributes(daemon)["cgroup.mode"] == "none":
        assert reply.status == 501 and reply.json["code"] == "cannot_freeze"
        assert daemon.task(task["id"])["state"] == "running"
    else:
        assert reply.status == 200 and daemon.task(task["id"])["state"] == "paused"
        assert daemon.post(f"/v1/tasks/{task['id']}/resume").status == 200
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


# A child in the command's session, one in a session of its own, and an orphan of one that has ended.
FAMILY = ("sleep {marker} & setsid sleep {marker} & (setsid sleep {marker} &) ; trap '' TERM INT;"
          " while :; do sleep 0.2; done")


@pytest.mark.parametrize("pid_mode", ["private", "host"])
@pytest.mark.parametrize("end", ["stop", "kill", "exit"])
def test_nothing_of_a_task_outlives_it(daemon, pid_mode, end):
    marker = str(90000 + time.monotonic_ns() % 1000000 / 1000)
    script = FAMILY.format(marker=marker)
    if end == "exit":
        script = script.replace("while :", "while [ ! -e /local/go ]") + "; exit 3"
    if pid_mode == "host" and attributes(daemon)["cgroup.mode"] == "none":
        refused(daemon, "/pid_mode", pid_mode="host")  # nobody could find them all
        return
    task = daemon.start_task("/bin/sh", "-c", script, pid_mode=pid_mode)
    wait_until(lambda: len(running(marker)) == 3, 30, "the whole family")
    if end == "exit":
        (daemon.dir / "state/tasks" / task["id"] / "local/go").touch()
    else:
        assert daemon.post(f"/v1/tasks/{task['id']}/stop", {"timeout": "300ms" if end == "stop" else "0s"}).status in (200, 202)
    ended = daemon.wait_ended(task["id"])
    assert running(marker) == []
    assert ended["exit"]["code"] == (3 if end == "exit" else None)
    assert ended["exit"]["signal"] == (None if end == "exit" else "SIGKILL")
    assert ended["exit"]["oom_killed"] is False
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}").status == 204


def test_a_signal_to_all_reaches_every_process(daemon):
    child = "sh -c 'trap \"echo got >>/local/got\" USR1; echo up >>/local/up; while :; do sleep 0.1; done'"
    script = f"{child} & setsid {child} & (setsid {child} &) ; exec {child}"
    task = daemon.start_task("/bin/sh", "-c", script)
    local = daemon.dir / "state/tasks" / task["id"] / "local"

    def lines(name):
        return len((local / name).read_text().splitlines()) if (local / name).exists() else 0
    wait_until(lambda: lines("up") == 4, 30, "all four shells")
    assert daemon.post(f"/v1/tasks/{task['id']}/signal", {"signal": "USR1", "target": "main"}).status in (200, 204)
    wait_until(lambda: lines("got") == 1, 30, "the main process's signal")
    assert daemon.post(f"/v1/tasks/{task['id']}/signal", {"signal": "USR1", "target": "all"}).status in (200, 204)
    wait_until(lambda: lines("got") == 5, 30, "the signal in all four shells")
    assert daemon.task(task["id"])["state"] == "running"
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_a_memory_kill_is_told_and_no_other_kill_is_one(daemon):
    if "memory" not in controllers(daemon):
        refused(daemon, "/resources/memory", resources={"memory": 32})
        return
    eat = ["/usr/bin/python3", "-c", "x = bytearray(200 << 20); print('survived')"]
    task = daemon.run(*eat, resources={"memory": 32})
    assert task["exit"]["oom_killed"] is True and task["exit"]["signal"] == "SIGKILL"
    assert daemon.run(*eat)["output"]["stdout"] == "survived\n"  # the control
    task = daemon.sh("kill -KILL $$", pid_mode="host", resources={"memory": 32})
    assert task["exit"]["oom_killed"] is False and task["exit"]["signal"] == "SIGKILL"
