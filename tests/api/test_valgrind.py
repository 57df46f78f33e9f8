"""Launcher, server, supervisors and helpers under valgrind while tasks run: no error, and no fd that stays open.

Debian 12's valgrind knows too few system calls; scripts/install-valgrind unpacks a newer one. What that one cannot do
either, valgrind.c does in its place. It refuses seccomp(2): tasks run without a filter."""
import os
import re
import signal
import subprocess

import pytest

from conftest import BINARY, Daemon, wait_until

TOP = BINARY.parent.parent.parent
VALGRIND = TOP / "build" / "valgrind" / "usr"
SHIM = TOP / "tests" / "api" / "valgrind.c"
pytestmark = [pytest.mark.skipif("asan" in str(BINARY), reason="ASan and valgrind exclude each other")]
SUPPRESSIONS = """
{
    3.27 takes the size of the attributes for their address
    Memcheck:Param
    mount(attr)
    ...
    obj:*/cloisterd
}
{
    the probe of what the kernel knows
    CoreError:FdBadUse
    ...
    fun:probe_host
}
"""
FAULT = re.compile(r"Invalid|uninitialised|unaddressable|definitely lost: [1-9]|unhandled instruction|"
                   r"Process terminating|is already closed\n +at \w+: (?!close_range)")
OPEN = re.compile(r"^Open (?:file descriptor|AF_\w+ socket) \d+:.*", re.M)
# What a supervisor has open at its end: the spec, the link to the server, its own socket, the launcher's life line, the
# loop, its signals, the task's directory and its logs. With resources.disk, that one's mount namespace and root, too.
SUPERVISOR_FDS = 8


@pytest.fixture
def observed(tmp_path):
    for part in (tmp_path, *tmp_path.parents[:2]):
        part.chmod(0o755)
    library, program, log = tmp_path / "valgrind.so", tmp_path / "cloisterd", tmp_path / "log"
    (tmp_path / "suppressions").write_text(SUPPRESSIONS)
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, SHIM], check=True)
    program.write_text(
        f"#!/bin/sh\nexport VALGRIND_LIB={VALGRIND}/libexec/valgrind LD_PRELOAD={library}\n"
        f"exec {VALGRIND}/bin/valgrind --track-fds=yes --leak-check=full --trace-children=yes "
        f"--trace-children-skip='/bin/*,/sbin/*,/usr/*' --suppressions={tmp_path}/suppressions "
        f'--log-file={log} {BINARY} "$@"\n')
    program.chmod(0o755)
    d = Daemon(program, "--allow-seccomp-unconfined", "--network-modes", "host,none,bridge")
    yield d, log
    if d.process.poll() is None:
        d.stop()


def run(d, script, **spec):
    task = d.post("/v1/tasks?wait=exited", {"command": "/bin/sh", "args": ["-c", script], "seccomp": "unconfined", **spec},
                  timeout=90)
    assert task.status == 201, task.body
    return task.json


def start(d, script, **spec):
    return d.start_task("/bin/sh", "-c", script, seccomp="unconfined", **spec)


def each_kind(d):
    """Of root, network and end."""
    for root in ("overlay", "readonly"):
        assert run(d, "echo out; echo err >&2; exit 7", root=root)["exit"]["code"] == 7
    for mode in ("none", "bridge"):
        assert run(d, "exit 3", network={"mode": mode}, hostname="h")["exit"]["code"] == 3
    assert run(d, "exit 4", resources={"memory": 64, "disk": 8}, pid_mode="host")["exit"]["code"] == 4
    assert run(d, "sleep 600", timeout="1s")["exit"]["reason"] == "timeout"
    assert run(d, "exit 1", restart={"attempts": 1, "delay": "1s"})["restarts"] == 1


def failures(d):
    """That are told at each stage of a launch."""
    for spec, status in (({"command": "/no/such"}, 422), ({"command": "/bin/true", "user": "nobody-else"}, 422),
                         ({"command": "/bin/true", "work_dir": "/etc/passwd"}, 422),
                         ({"command": "/bin/true", "resources": {"memory": -1}}, 422)):
        reply = d.post("/v1/tasks", {"seccomp": "unconfined", **spec}, timeout=60)
        assert reply.status == status, reply.body


def a_life(d):
    """Sessions, files, logs, a change and a pause, over the death of the server."""
    task = start(d, "trap 'exit 5' INT; echo up; while :; do sleep 0.1; done", resources={"memory": 64})
    path = f"/v1/tasks/{task['id']}"
    wait_until(lambda: d.get(f"{path}/logs").body == b"up\n", 20, "its output")
    for n in range(3):
        reply = d.post(f"{path}/exec", {"command": "/bin/sh", "args": ["-c", f"sleep 1; echo {n}; exit {n}"]}, timeout=60)
        assert reply.status == 200 and reply.json["exit"]["code"] == n, reply.body
    assert d.request("PUT", f"{path}/files/local/f", b"text").status in (200, 201, 204)
    assert d.get(f"{path}/files/local/f").body == b"text"
    assert d.request("PATCH", path, {"resources": {"memory": 96}}).status == 200
    assert d.post(f"{path}/pause").status in (200, 204) and d.post(f"{path}/resume").status in (200, 204)
    os.kill(d.server_pid(), signal.SIGKILL)
    wait_until(lambda: d.ready(), 60, "the next server")
    assert d.get(f"{path}/stats").json["memory"]
    assert d.post(f"{path}/stop", timeout=60).status in (200, 202, 204)
    assert d.wait_ended(task["id"], 60)["exit"]["code"] == 5


def fds(d):
    wait_until(lambda: set(d.children().values()) == {"cloister-server"}, 60, "the end of all helpers")
    return [len(os.listdir(f"/proc/{pid}/fd")) for pid in (d.process.pid, d.server_pid())]


def settled_fds(d):
    """Once the connections of what was asked are closed."""
    seen = []
    wait_until(lambda: seen.append(fds(d)) or seen[-3:] == 3 * seen[-1:], 30, "a number of fds that stays")
    return seen[-1]


def of_each_process(log):
    """By their ends. They share the file: one with the process's number in its name would be opened in the task's root."""
    texts = {}
    for line in log.splitlines():
        if match := re.match(r"==(\d+)== ?(.*)", line):
            texts[match[1]] = texts.pop(match[1], "") + match[2] + "\n"
    return texts


def test_no_error_and_no_fd_that_stays_slow(observed):
    d, log = observed
    run(d, "true")
    before = settled_fds(d)
    for path in ("/v1/tasks", "/v1/attributes", "/v1/node", "/metrics", "/v1/events", "/v1/config"):
        assert d.get(path).status == 200, path
    each_kind(d)
    failures(d)
    a_life(d)
    d.post("/v1/gc", {})
    launcher, server = settled_fds(d)
    assert launcher <= before[0] and server <= before[1]
    d.stop()
    texts = of_each_process(log.read_text(errors="replace"))
    faults = {pid: text for pid, text in texts.items() if FAULT.search(text)}
    assert not faults, "\n".join(faults.values())
    # A supervisor ends after the helpers that it has forked, which have its fds and may have more.
    supervisors = {match[0]: OPEN.findall(text) for text in texts.values()
                   if (match := re.search(r"/run/supervisors/\S+", text))}
    assert len(supervisors) >= 8, "one for each task that has run"
    for fds_at_end in supervisors.values():
        disk = [f for f in fds_at_end if f.endswith(": /") or f.endswith("/ns/mnt")]
        assert len(disk) in (0, 2) and len(fds_at_end) <= SUPERVISOR_FDS + len(disk), fds_at_end
