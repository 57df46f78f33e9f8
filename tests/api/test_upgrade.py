"""A new program takes over without stopping a task: its server speaks with supervisors that the last one started. The
build with faults can be a program of the first protocol version."""
import os
import pathlib
import signal

import pytest

from conftest import ROOT, Daemon, wait_until
from test_crash import alive

OLD = {"CLOISTER_OLD_PROTOCOL": "1"}


@pytest.fixture(params=[(OLD, {}), ({}, OLD), ({}, {})], ids=["upgrade", "downgrade", "the same"])
def pair(request):
    binary = ROOT / "build/faults/cloisterd"
    assert binary.exists(), "build it with: cmake --preset faults && cmake --build --preset faults"
    d = Daemon(binary, env=request.param[0])
    yield d, request.param[1]
    d.stop()


def replace(d, env):
    """As a package's upgrade does: the daemon is stopped, its tasks go on, the new one is started."""
    server = d.server_pid()
    d.process.terminate()
    assert d.process.wait(20) == 0
    wait_until(lambda: not alive(server), 10, "the server's end")
    d.env = env
    d.start()


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_tasks_outlive_the_program_that_started_them(pair):
    d, env = pair
    running, signalled, paused = (d.start_task("/bin/sh", "-c", "trap 'exit 4' USR1; echo up; while :; do sleep 0.1; done",
                                               labels={"n": "1"}) for _ in range(3))
    waiting = d.start_task("/bin/sh", "-c", "exit 5", restart={"attempts": 1, "delay": "1h"})
    short = d.start_task("/bin/sh", "-c", "sleep 1; exit 6")
    lost = d.start_task("/bin/sleep", "300")
    ended = d.sh("echo out; exit 7")
    wait_until(lambda: d.task(waiting["id"])["state"] == "restarting", 10)
    assert d.post(f"/v1/tasks/{paused['id']}/pause", {}).status == 200
    assert d.post(f"/v1/tasks/{running['id']}/exec", {"command": "/bin/echo"}).status == 200
    replace(d, env)
    for task in (running, signalled):
        now = d.task(task["id"])
        assert (now["state"], now["pid"], now["started_at"]) == ("running", task["pid"], task["started_at"])
    assert d.task(paused["id"])["state"] == "paused" and d.task(waiting["id"])["state"] == "restarting"
    assert d.task(ended["id"]) == {k: v for k, v in ended.items() if k != "output"}
    assert d.wait_ended(short["id"])["exit"]["code"] == 6
    # Adopted supervisors take orders, also to run something.
    assert d.post(f"/v1/tasks/{signalled['id']}/signal", {"signal": "USR1"}).status == 204
    assert d.wait_ended(signalled["id"])["exit"]["code"] == 4
    assert d.post(f"/v1/tasks/{paused['id']}/resume", {}).json["state"] == "running"
    reply = d.request("PATCH", f"/v1/tasks/{running['id']}", {"labels": {"n": "2"}, "resources": {"memory": 128}})
    assert reply.status == 200 and d.task(running["id"])["spec"]["resources"]["memory"] == 128
    again = d.post(f"/v1/tasks/{running['id']}/exec", {"command": "/bin/echo", "args": ["again"]})
    assert again.status == 200 and b"again" in again.body, again.body
    assert len(d.get(f"/v1/tasks/{running['id']}/execs").json["items"]) == 2
    assert d.post(f"/v1/tasks/{waiting['id']}/stop?wait=exited", {}).json["exit"]["code"] == 5
    assert d.post(f"/v1/tasks/{running['id']}/stop?wait=exited", {"timeout": "0s"}).json["exit"]["signal"] == "SIGKILL"
    # One that dies without a word: its record is of the old program.
    os.kill(parent(lost["pid"]), signal.SIGKILL)
    assert d.wait_ended(lost["id"])["state"] == "lost"
    assert d.run("/bin/true")["exit"]["code"] == 0


def test_ends_that_the_old_program_recorded_are_read(pair):
    d, env = pair
    task = d.start_task("/bin/sh", "-c", "sleep 1; exit 9")
    server = d.server_pid()
    d.process.kill()
    d.process.wait()
    wait_until(lambda: not alive(server) and not alive(task["pid"]), 20, "the end of the task")
    wait_until(lambda: not d.sockets(), 10, "the end of its supervisor")
    d.env = env
    d.start()
    assert d.task(task["id"])["exit"]["code"] == 9
