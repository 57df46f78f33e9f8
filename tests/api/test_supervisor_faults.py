"""Calls of a supervisor fail, by strace, while its task runs and ends: the task goes on, its end is told as it was, what of
its output was lost is counted, and nothing is left."""
import collections
import os
import re
import signal

import pytest

from conftest import wait_until
from fault_sweep import refused, sweep, traced

LINE = "0123456789abcdef" * 4
LINES = 25000  # more than a segment of 1 MiB
SCRIPT = f"""trap go=1 USR1
echo ready
while [ -z "$go" ]; do sleep 0.02; done
yes {LINE} | head -n {LINES}
exit 7"""
WRITTEN = len("ready\n") + LINES * (len(LINE) + 1)
# How calls that reach the disk, or tell somebody, can fail; all that the supervisor makes after the start are tried.
ERRORS = {"write": ["EIO", "ENOSPC"], "pwrite64": ["EIO", "ENOSPC"], "splice": ["EIO", "ENOSPC"], "fsync": ["EIO"],
          "openat": ["EIO", "EROFS", "EMFILE"], "openat2": ["EIO"], "open": ["EIO"], "mkdirat": ["EROFS"],
          "mkdir": ["EROFS"], "rename": ["EIO"], "renameat": ["EIO", "EROFS"], "renameat2": ["EIO"], "fchmod": ["EROFS"],
          "fchown": ["EROFS"], "ftruncate": ["EIO"], "fallocate": ["ENOSPC"], "unlink": ["EROFS"],
          "unlinkat": ["EROFS"], "rmdir": ["EIO"], "fstat": ["EIO"], "newfstatat": ["EIO"], "getdents64": ["EIO"],
          "sendmsg": ["ENOBUFS"]}


def start(d):
    task = d.start_task("/bin/sh", "-c", SCRIPT, logs={"max_files": 10, "max_file_size": 1},
                        resources={"memory": 64, "pids": 100})
    wait_until(lambda: b"ready" in d.get(f"/v1/tasks/{task['id']}/logs").body, 10, "the start of the script")
    return task, next(pid for pid, name in d.children().items() if name == "cloister-task")


def work(d, task):
    """What makes the supervisor work, and its answers."""
    path = f"/v1/tasks/{task['id']}"
    answers = {
        "exec": d.post(f"{path}/exec", {"command": "/bin/sh", "args": ["-c", "echo said; exit 3"]}),
        "put": d.request("PUT", f"{path}/files/local/f", "text"),
        "patch": d.request("PATCH", path, {"resources": {"pids": 200}}),
        "pause": d.post(f"{path}/pause", {}),
        "resume": d.post(f"{path}/resume", {}),
    }
    for name, reply in answers.items():
        assert reply.status < 300 or refused(reply), (name, reply.status, reply.body)
    if d.task(task["id"])["state"] == "paused":
        wait_until(lambda: d.post(f"{path}/resume", {}).status == 200, 10, "the end of the pause")
    wait_until(lambda: d.post(f"{path}/signal", {"signal": "USR1"}).status == 204 or  # or its answer was lost
               d.task(task["id"])["state"] == "exited", 10, "a signal")
    return answers


def kept(d, task):
    body = d.get(f"/v1/tasks/{task['id']}/logs?stream=stdout").body
    assert body.replace(LINE.encode(), b"").strip(b"\n0123456789abcdef") in (b"ready", b""), "only what was written"
    return len(body)


def check(d, task, answers, where):
    now = d.task(task["id"])
    assert now["exit"]["code"] == 7 and now["exit"]["reason"] == "exited" and now["restarts"] == 0, (where, now)
    assert kept(d, task) + now["log_bytes_lost"] == WRITTEN, (where, now["log_bytes_lost"], kept(d, task))
    if answers["patch"].status == 200:
        assert now["spec"]["resources"]["pids"] == 200, (where, now)
    if answers["exec"].status == 200:
        session = f"/v1/tasks/{task['id']}/execs/{answers['exec'].json['id']}"
        assert answers["exec"].json["exit"]["code"] == 3, (where, answers["exec"].body)
        wait_until(lambda: d.get(session).json["state"] == "exited", 10, f"the record of a session, {where}")
        assert d.get(session).json["exit"]["code"] == 3
    if answers["put"].status < 300:
        got = d.get(f"/v1/tasks/{task['id']}/files/local/f")
        assert (got.status, got.body) == (200, b"text"), (where, got.body)


def remove(d, task, before, where):
    wait_until(lambda: d.request("DELETE", f"/v1/tasks/{task['id']}").status == 204, 20, f"the removal after {where}")
    wait_until(lambda: d.census() == before, 10, f"the census of before, after {where}: {before} {d.census()}")


def inject(d, call, error, when, before):
    """One fault; whether it was met."""
    where = f"{call} {error} #{when}"
    task, supervisor = start(d)
    with traced(supervisor, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}") as trace:
        answers = work(d, task)
        assert d.wait_ended(task["id"])["state"] == "exited", (where, d.task(task["id"]))
    check(d, task, answers, where)
    remove(d, task, before, where)
    return "(INJECTED)" in trace.text


def counts(d):
    task, supervisor = start(d)
    with traced(supervisor) as trace:
        answers = work(d, task)
        d.wait_ended(task["id"])
    assert [r.status for r in answers.values()] == [200, 201, 200, 200, 200]
    d.request("DELETE", f"/v1/tasks/{task['id']}")
    return collections.Counter(re.findall(r"^(\w+)\(", trace.text, re.M))


def test_each_call_fails_in_turn_slow(own_daemon):
    d = own_daemon
    before = d.census()
    found = counts(d)
    assert found["openat"] > 20 and found["renameat"] > 3 and found["fsync"] >= 2 and found["sendmsg"] > 5, found
    assert sweep(d, ERRORS, found, lambda *fault: inject(d, *fault, before)) > 40


@pytest.mark.parametrize("error", ["EIO", "EROFS", "ENOSPC"])
def test_an_end_that_cannot_be_recorded_is_told_all_the_same(own_daemon, error):
    d = own_daemon
    before = d.census()
    task, supervisor = start(d)
    calls = "renameat,fsync" if error != "ENOSPC" else "renameat,fallocate,fsync"
    with traced(supervisor, "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"):
        session = d.post(f"/v1/tasks/{task['id']}/exec", {"command": "/bin/false"})
        assert refused(session) and session.json["errno"] == error and session.json["step"], session.body
        assert d.post(f"/v1/tasks/{task['id']}/signal", {"signal": "USR1"}).status == 204
        assert d.wait_ended(task["id"])["exit"]["code"] == 7
        for server in (d.server_pid(), d.process.pid):  # the next ones hear it from its supervisor
            os.kill(server, signal.SIGKILL)
            if server == d.process.pid:
                d.process.wait()
                d.start()
            wait_until(d.ready, 20, "readiness")
            assert d.task(task["id"])["exit"]["code"] == 7 and task["id"] in d.sockets()
        reply = d.request("DELETE", f"/v1/tasks/{task['id']}")
        assert reply.status == 500 and reply.json["step"] == "supervisor", reply.body
        assert d.task(task["id"])["exit"]["code"] == 7 and task["id"] in d.sockets(), "it stays as it was"
    wait_until(lambda: task["id"] not in d.sockets(), 10, "the record, and the supervisor's end")
    assert b"cannot write its record" in (d.dir / "log").read_bytes()
    assert (d.dir / "state/tasks" / task["id"] / "record").stat().st_size > 0
    remove(d, task, before, error)
