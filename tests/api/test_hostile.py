"""Tasks that do what they can to harm: the daemon and other tasks go on, a stop ends within its timeout and MARGIN
seconds, and DELETE leaves nothing."""
import json
import subprocess
import threading
import time

import pytest

from conftest import BINARY, Daemon, MemoryDaemon, wait_until

MARGIN = 10  # generous: a run under sanitizers on a busy host
ANSWER = 5   # how long the API may take to answer meanwhile
TICK = "while :; do echo tick; sleep 0.1; done"


class Guard:
    """A daemon with a task that must not notice anything, and a client that always wants an answer."""

    def __init__(self, daemon):
        self.daemon, self.done, self.slowest = daemon, False, 0.0
        self.probe = daemon.start_task("/bin/sh", "-c", TICK)
        self.before = daemon.census()
        self.thread = threading.Thread(target=self.ask)
        self.thread.start()

    def ask(self):
        while not self.done:
            began = time.monotonic()
            assert self.daemon.get("/v1/tasks", timeout=30).status == 200
            self.slowest = max(self.slowest, time.monotonic() - began)
            time.sleep(0.05)

    def ticks(self):
        return self.daemon.get(f"/v1/tasks/{self.probe['id']}/logs").body.count(b"tick")

    def check(self):
        """Nothing is left but the probe, and it works."""
        self.daemon.assert_as_before(self.before)
        now = self.daemon.task(self.probe["id"])
        assert now["state"] == "running" and now["pid"] == self.probe["pid"] and now["restarts"] == 0
        ticks = self.ticks()
        wait_until(lambda: self.ticks() > ticks, 10, "more of the other task's output")
        assert self.slowest < ANSWER, f"an answer took {self.slowest:.1f} s"

    def end(self):
        self.done = True
        self.thread.join()
        assert self.daemon.request("DELETE", f"/v1/tasks/{self.probe['id']}?force=true").status == 204

    def stop(self, task, timeout=1):
        began = time.monotonic()
        reply = self.daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"timeout": f"{timeout}s"})
        took = time.monotonic() - began
        assert reply.status == 200 and reply.json["state"] == "exited", reply.body
        assert took < timeout + MARGIN, f"the stop took {took:.1f} s"
        return reply.json

    def delete(self, task, force=False):
        reply = self.daemon.request("DELETE", f"/v1/tasks/{task['id']}{'?force=true' if force else ''}", timeout=120)
        assert reply.status == 204, reply.body

    def output(self, task):
        return self.daemon.get(f"/v1/tasks/{task['id']}/logs?stream=stdout").body.decode()


@pytest.fixture
def guard(daemon):
    g = Guard(daemon)
    yield g
    g.end()


def python(guard, script, **spec):
    return guard.daemon.start_task("/usr/bin/python3", "-c", script, **spec)


def up(guard, task):
    wait_until(lambda: "up" in guard.output(task), 20, "the start of the script")


BOMB = """
import os, signal
for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(s, signal.SIG_IGN)
print("up", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def test_fork_bomb(guard):
    task = python(guard, BOMB, resources={"pids": 200, "cpu": 100, "cpu_hard_limit": True})
    up(guard, task)
    time.sleep(1)
    ended = guard.stop(task)
    assert ended["exit"]["signal"] == "SIGKILL"
    guard.delete(task)
    guard.check()


def test_fork_bomb_deleted_at_once(guard):
    task = python(guard, BOMB, resources={"pids": 200, "cpu": 100, "cpu_hard_limit": True})
    up(guard, task)
    guard.delete(task, force=True)
    guard.check()


def test_memory_bomb(guard):
    task = python(guard, "import os\nfor _ in range(3): os.fork()\nx = []\nwhile True: x.append(bytearray(1 << 20))",
                  resources={"memory": 64})
    ended = guard.daemon.wait_ended(task["id"])
    assert ended["exit"]["oom_killed"] is True and ended["exit"]["reason"] == "out of memory"
    guard.delete(task)
    guard.check()


def size_of(file):
    """0 when it has just been rotated away."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def test_log_flood(guard):
    task = guard.daemon.start_task("/bin/sh", "-c", "yes flood & yes flood >&2",
                                   logs={"max_files": 2, "max_file_size": 1})
    logs = guard.daemon.dir / "state/tasks" / task["id"] / "logs"
    end = time.monotonic() + 3
    while time.monotonic() < end:
        size = sum(map(size_of, logs.iterdir()))
        assert size <= 2 * (2 + 1) << 20, f"{size} bytes are kept"
        time.sleep(0.1)
    guard.stop(task)
    guard.delete(task)
    guard.check()


def test_zombie_flood(guard):
    task = python(guard, "import os, time\nprint('up', flush=True)\nwhile True:\n  try:\n    os.fork() or os._exit(0)\n"
                         "  except OSError:\n    time.sleep(0.1)", resources={"pids": 300})
    up(guard, task)
    time.sleep(1)
    guard.stop(task)
    guard.delete(task)
    guard.check()


def test_orphan_flood(guard):
    """Daemons of a task that has ended by itself go with it."""
    task = python(guard, "import os, time\nfor _ in range(100):\n  if os.fork() == 0:\n    os.setsid()\n"
                         "    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)\n", resources={"pids": 300})
    assert guard.daemon.wait_ended(task["id"])["exit"]["code"] == 0
    guard.delete(task)
    guard.check()


def test_a_hundred_thousand_files():
    d = MemoryDaemon()
    g = Guard(d)
    script = "import os\nfor n in range(100):\n  os.mkdir(f'/local/{n}')\n  for f in range(1000): " \
             "os.close(os.open(f'/local/{n}/{f}', os.O_CREAT | os.O_WRONLY))"
    try:
        task = python(g, script)
        assert d.wait_ended(task["id"], 120)["exit"]["code"] == 0
        g.delete(task)
        g.check()
    finally:
        g.end()
        d.stop()


STOPS = """
import os, signal, time
for _ in range(5):
    if os.fork() == 0:
        while True: time.sleep(1)
print("up", flush=True)
os.kill(-1, signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGSTOP)
while True: time.sleep(1)
"""


def test_one_that_stops_itself_and_its_children(guard):
    task = python(guard, STOPS)
    up(guard, task)
    guard.stop(task)
    guard.delete(task)
    guard.check()


def test_one_that_is_paused_and_stopped_while_it_is_stopped(guard):
    task = python(guard, STOPS)
    up(guard, task)
    assert guard.daemon.post(f"/v1/tasks/{task['id']}/signal", {"signal": "STOP", "target": "all"}).status == 204
    assert guard.daemon.post(f"/v1/tasks/{task['id']}/pause", {}).status == 200
    guard.stop(task)
    guard.delete(task)
    guard.check()


def test_a_paused_one_is_deleted(guard):
    task = python(guard, STOPS)
    up(guard, task)
    assert guard.daemon.post(f"/v1/tasks/{task['id']}/pause", {}).status == 200
    guard.delete(task, force=True)
    guard.check()


def test_one_that_closes_all_it_can(guard):
    task = python(guard, "import os, time\nprint('up', flush=True)\nos.closerange(0, 65536)\ntime.sleep(1000)")
    up(guard, task)
    assert guard.daemon.task(task["id"])["state"] == "running"
    guard.stop(task)
    guard.delete(task)
    guard.check()


PTRACE = """
import ctypes, os, time
child = os.fork()
if child == 0:
    time.sleep(1000)
libc = ctypes.CDLL(None, use_errno=True)
for request in (16, 0x4206):  # PTRACE_ATTACH, PTRACE_SEIZE
    for pid in (child, 1, os.getppid()):
        if libc.ptrace(request, pid, 0, 0) == 0:
            print("traced", pid)
print(libc.process_vm_readv(child, None, 0, None, 0, 0), "up", flush=True)
time.sleep(1000)
"""


def test_one_that_would_trace_others(guard):
    task = python(guard, PTRACE)
    up(guard, task)
    assert guard.output(task).split() == ["-1", "up"]
    guard.stop(task)
    guard.delete(task)
    guard.check()


def test_one_that_cannot_be_killed(tmp_path):
    """A write to a frozen file system sleeps uninterruptibly: the stop says what it waits for, and ends when it can."""
    tmp_path.chmod(0o755)
    image, volume = tmp_path / "image", tmp_path / "volume"
    volume.mkdir()
    with open(image, "wb") as f:
        f.truncate(16 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, volume], check=True)
    (volume / "open").mkdir()
    (volume / "open").chmod(0o777)
    config = tmp_path / "cloister.json"
    config.write_text(json.dumps({"client": {"host_volume": {"hung": {"path": str(volume)}}}}))
    config.chmod(0o644)
    d = Daemon(BINARY, "--config", config)
    g = Guard(d)
    try:
        task = d.start_task("/bin/sh", "-c", "echo up; while :; do echo x >> /hung/open/f; done",
                            volume_mounts=[{"volume": "hung", "destination": "/hung"}])
        up(g, task)
        subprocess.run(["fsfreeze", "-f", volume], check=True)
        try:
            time.sleep(0.5)
            assert d.post(f"/v1/tasks/{task['id']}/stop", {"timeout": "0s"}).status == 202
            now = wait_until(lambda: (t := d.task(task["id"])).get("waits_for") and t, MARGIN, "what it waits for")
            assert now["state"] == "stopping" and "cannot be killed" in now["waits_for"], now
        finally:
            subprocess.run(["fsfreeze", "-u", volume], check=True)
        assert d.wait_ended(task["id"])["exit"]["signal"] == "SIGKILL"
        assert "waits_for" not in d.task(task["id"])
        g.delete(task)
        g.check()
    finally:
        g.end()
        d.stop()
        subprocess.run(["umount", volume], check=True)

