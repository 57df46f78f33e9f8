"""What tasks use: read from the kernel while they live, kept when they have ended."""
import json
import os
import pathlib
import signal
import time

import pytest

from conftest import CGROUP_ROOT, wait_until
from test_events import Stream

MIB = 1 << 20
BURN = "while :; do :; done"


def has(daemon, controller):
    return daemon.get(f"/v1/attributes/cgroup.{controller}").status == 200


@pytest.fixture
def run(daemon):
    """Starts a task, gives its stats; all are gone afterwards."""
    started = []

    def start(*command, **spec):
        started.append(daemon.start_task(*command, **spec)["id"])
        return lambda query="": daemon.get(f"/v1/tasks/{started[-1]}/stats{query}").json
    yield start
    for task in started:
        assert daemon.request("DELETE", f"/v1/tasks/{task}?force=true").status == 204


def test_cpu(run):
    stats = run("/bin/sh", "-c", BURN)
    before = stats()
    assert before["state"] == "running" and before["final"] is False
    wait_until(lambda: stats()["cpu"]["total_ns"] > before["cpu"]["total_ns"] + 200_000_000)
    cpu = stats()["cpu"]
    assert cpu["user_ns"] > 0 and cpu["system_ns"] >= 0 and cpu["throttled_ns"] == 0


def test_throttling(run):
    stats = run("/bin/sh", "-c", BURN, resources={"cpu": 100, "cpu_hard_limit": True})
    wait_until(lambda: stats()["cpu"]["throttled_ns"] > 0)
    cpu = stats()["cpu"]
    assert cpu["periods"] >= cpu["throttled_periods"] > 0


def test_memory_and_limits(run, daemon):
    script = "import time; x = bytearray(40 << 20); print(1, flush=True); time.sleep(60)"
    stats = run("/usr/bin/python3", "-c", script, resources={"memory": 100, "pids": 30})
    wait_until(lambda: stats()["memory"]["anon_bytes"] > 40 * MIB)
    now = stats()
    memory, pids = now["memory"], now["pids"]
    assert memory["limit_bytes"] == 100 * MIB and memory["oom_kills"] == 0 and memory["swap_bytes"] == 0
    assert memory["peak_bytes"] >= memory["current_bytes"] > 40 * MIB
    assert memory["file_bytes"] >= 0 and memory["kernel_bytes"] > 0
    assert pids["current"] == 1 and pids["limit"] == 30 and pids["peak"] in (None, 1)
    assert all((v is not None) == has(daemon, "io") for v in now["io"].values())


def test_no_limits_are_null(run):
    now = run("/bin/sleep", "60")()
    assert now["memory"]["limit_bytes"] is None and now["pids"]["limit"] is None


def test_pressure(run):
    pressure = run("/bin/sleep", "60")()["pressure"]
    v2 = [CGROUP_ROOT, CGROUP_ROOT / "unified"]
    told = os.path.exists("/proc/pressure/cpu") and any((p / "cgroup.controllers").exists() for p in v2)
    for name in ("cpu", "memory", "io"):
        some = pressure[name]["some"]
        assert (some is not None) == told
        if told:
            assert some["total_us"] >= 0 and all(0 <= some[key] <= 100 for key in ("avg10", "avg60", "avg300"))


def test_processes(run):
    stats = run("/bin/sh", "-c", "sleep 61 & exec sleep 60")
    assert "processes" not in stats()
    wait_until(lambda: {p["command"] for p in stats("?processes=true")["processes"]} == {"sleep 60", "sleep 61"})
    now = stats("?processes=true")
    assert now["processes_total"] == 2
    main = next(p for p in now["processes"] if p["command"] == "sleep 60")
    assert main["pid"] == 1 and main["rss_bytes"] > 0 and main["cpu_ns"] >= 0 and main["state"] in "SRD"
    for p in now["processes"]:
        assert pathlib.Path(f"/proc/{p['host_pid']}/cmdline").read_text().split("\0")[0] == "sleep"


def test_a_command_line_of_any_bytes(run):
    stats = run("/usr/bin/python3", "-c", r"import os; os.execv('/bin/sleep', [b'a\xff\"\nb', b'60'])")
    wait_until(lambda: [p["command"] for p in stats("?processes=true")["processes"]] == ['a?"?b 60'])


def test_a_task_of_a_moment_leaves_its_values(own_daemon):
    tasks = [own_daemon.run("/bin/true") for _ in range(5)]
    stats = [own_daemon.get(f"/v1/tasks/{t['id']}/stats").json for t in tasks]
    for task, now in zip(tasks, stats):
        usage = task["exit"]["usage"]
        assert now["final"] is True and now["pressure"] is None
        assert now["cpu"]["total_ns"] == usage["cpu_ns"] > 0
        assert now["memory"]["peak_bytes"] == usage["memory_peak_bytes"] > 0
        assert now["memory"]["oom_kills"] == 0 and now["pids"]["current"] == 0
    server = own_daemon.server_pid()
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: own_daemon.ready() and own_daemon.server_pid() != server)
    for task, before in zip(tasks, stats):
        now = own_daemon.get(f"/v1/tasks/{task['id']}/stats").json
        assert {**now, "time": None} == {**before, "time": None}


def test_follow_ends_with_the_task(daemon):
    task = daemon.start_task("/bin/sh", "-c", "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; sleep 0.5")
    seen = [r for _, r in Stream(daemon, f"/v1/tasks/{task['id']}/stats?follow=true&interval=100ms")]
    assert len(seen) > 3 and [r["final"] for r in seen] == [False] * (len(seen) - 1) + [True]
    cpu = [r["cpu"]["total_ns"] for r in seen if r["cpu"]["total_ns"] is not None]
    assert cpu == sorted(cpu) and cpu[-1] > 0
    times = [r["time"] for r in seen]
    assert times == sorted(times)


def test_server_sent_events(daemon):
    task = daemon.start_task("/bin/sleep", "0.5")
    path = f"/v1/tasks/{task['id']}/stats?interval=200ms"
    records = list(Stream(daemon, path, {"Accept": "text/event-stream"}))
    assert len(records) >= 2 and records[-1][0] == "final" and records[-1][1]["final"] is True
    again = daemon.get(path, headers={"Accept": "text/event-stream", "Last-Event-ID": "final"})
    assert again.status == 204  # which tells an EventSource not to come back


def test_a_removed_task_ends_the_stream(daemon):
    task = daemon.start_task("/bin/sleep", "60")
    stream = Stream(daemon, f"/v1/tasks/{task['id']}/stats?follow=true&interval=1h")
    assert stream.take(1)[0][1]["state"] == "running"
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204
    began = time.monotonic()
    assert all(json.dumps(r) for _, r in stream) and time.monotonic() - began < 30


def test_bad_parameters(daemon):
    task = daemon.run("/bin/true")
    for query in ("interval=1ms", "interval=2h", "interval=x", "processes=1", "format=csv", "bogus=1"):
        assert daemon.get(f"/v1/tasks/{task['id']}/stats?{query}").status == 400, query
    assert daemon.get("/v1/tasks/none/stats").status == 404
