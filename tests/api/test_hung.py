"""A file system that hangs: a FUSE server that no longer answers. Whoever waits for it cannot be killed; all else goes on,
and what waits is told."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from conftest import BINARY, FAULTY, Daemon, wait_until
from test_hostile import MARGIN, Guard, up

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="this host has no /dev/fuse")
SERVER = pathlib.Path(__file__).with_name("fuse_server.py")


class Hang:
    """The volume "hung", and what becomes of it."""

    def __init__(self, directory):
        self.path = directory / "volume"
        self.path.mkdir()
        self.process = subprocess.Popen([sys.executable, "-u", SERVER, self.path], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def silence(self):
        self.process.send_signal(signal.SIGUSR1)

    def silence_at_a_name(self):
        """The root answers."""
        self.process.send_signal(signal.SIGUSR2)

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: " T " in pathlib.Path(f"/proc/{self.process.pid}/stat").read_text(), 10, "the server's stop")

    def abort(self):
        """Who waits gets an error."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()

    def end(self):
        self.abort()
        self.process.stdout.close()
        wait_until(lambda: subprocess.run(["umount", self.path], check=False, stderr=subprocess.DEVNULL).returncode == 0,
                   10, "the unmount")


@contextlib.contextmanager
def hanging(tmp_path, binary=BINARY):
    for part in (tmp_path, *tmp_path.parents[:2]):
        part.chmod(0o755)
    with contextlib.ExitStack() as stack:
        hang = Hang(tmp_path)
        stack.callback(hang.end)
        config = tmp_path / "cloister.json"
        config.write_text(json.dumps({"client": {"host_volume": {"hung": {"path": str(hang.path)}}}}))
        config.chmod(0o644)
        d = Daemon(binary, "--config", config)
        stack.callback(d.stop)
        guard = Guard(d)
        stack.callback(guard.end)
        stack.callback(hang.abort)
        yield hang, guard, d


@pytest.fixture
def hung(tmp_path):
    with hanging(tmp_path) as it:
        yield it


def start(d, script):
    return d.start_task("/bin/sh", "-c", script, volume_mounts=[{"volume": "hung", "destination": "/hung"}])


def reader(d):
    """One that soon waits for the file system, with its first process and another."""
    return start(d, "cat /hung/f; echo up; while :; do cat /hung/f; read x < /hung/f; done")


def hang_up(hang, g, d):
    """A task that waits for the file system."""
    task = reader(d)
    up(g, task)
    hang()
    time.sleep(0.5)
    return task


def others_go_on(g, d):
    other = d.run("/bin/true")
    assert other["exit"]["code"] == 0 and d.request("DELETE", f"/v1/tasks/{other['id']}").status == 204
    ticks = g.ticks()
    wait_until(lambda: g.ticks() > ticks, 10, "more of the other task's output")


def ask(d, *request):
    """Without waiting for an answer, which may not come before the hang is over."""
    def run():
        with contextlib.suppress(OSError):
            d.request(*request)
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def told_or_ended(d, task):
    now = wait_until(lambda: (t := d.task(task["id"])) and (t.get("waits_for") or t["state"] == "exited") and t, MARGIN,
                     "the end, or what it waits for")
    assert now["state"] == "exited" or (now["state"] == "stopping" and "cannot be killed" in now["waits_for"]), now
    return now["state"] != "exited"


@pytest.mark.parametrize("how", ["silence", "stop"])
def test_a_stop_ends_or_tells_what_it_waits_for(hung, how):
    hang, g, d = hung
    task = hang_up(getattr(hang, how), g, d)
    assert d.post(f"/v1/tasks/{task['id']}/stop", {"timeout": "1s"}).status == 202
    told_or_ended(d, task)
    others_go_on(g, d)
    hang.abort()
    assert d.wait_ended(task["id"])["exit"]["signal"] == "SIGKILL" and "waits_for" not in d.task(task["id"])
    g.delete(task)
    g.check()


def test_a_removal_waits_for_the_kernel_and_tells_so(hung):
    hang, g, d = hung
    task = hang_up(hang.silence, g, d)
    removal = ask(d, "DELETE", f"/v1/tasks/{task['id']}?force=true")
    wait_until(lambda: task["id"] not in d.rows() or d.task(task["id"]).get("waits_for"), MARGIN, "what it waits for")
    others_go_on(g, d)
    hang.abort()
    removal.join(30)
    wait_until(lambda: task["id"] not in d.rows(), 20, "the removal")
    g.check()


def test_a_pause_does_not_wait(hung):
    hang, g, d = hung
    task = hang_up(hang.silence, g, d)
    reply = d.post(f"/v1/tasks/{task['id']}/pause", {}, timeout=MARGIN)
    assert reply.status == 200 or (reply.status == 500 and reply.json["code"] == "freeze_failed"), reply.body
    hang.abort()
    g.delete(task, force=True)
    g.check()


def test_sessions_that_wait_hold_nobody_up_slow(hung):
    """One whose command waits, and two that wait before there is a command: those have 30 s to start."""
    hang, g, d = hung
    task = start(d, "echo up; exec sleep 1000")
    up(g, task)
    hang.silence()
    path = f"/v1/tasks/{task['id']}"
    waiting = [ask(d, "POST", f"{path}/exec", spec) for spec in (
        {"command": "/bin/cat", "args": ["/hung/f"], "timeout": "1s"}, {"command": "/bin/true", "work_dir": "/hung/f"},
        {"command": "/hung/f"})]
    time.sleep(1)
    end = time.monotonic() + 35
    while time.monotonic() < end:
        assert d.post(f"{path}/signal", {"signal": "WINCH"}, timeout=MARGIN).status == 204
        time.sleep(0.5)
    assert d.post(f"{path}/exec", {"command": "/bin/true"}, timeout=MARGIN).json["exit"]["code"] == 0
    assert d.post(f"{path}/stop", {"timeout": "1s"}, timeout=MARGIN).status == 202
    told_or_ended(d, task)
    others_go_on(g, d)
    hang.abort()
    for thread in waiting:
        thread.join(30)
    assert d.wait_ended(task["id"])["exit"]["signal"] == "SIGKILL"
    g.delete(task)
    g.check()


MOUNTS = [{"volume": "hung", "destination": "/hung"}]


def starting(d, g, **spec):
    """The thread that asks for it, and the task."""
    create = ask(d, "POST", "/v1/tasks", {"volume_mounts": MOUNTS, **spec})
    task = wait_until(lambda: next((t for t in d.get("/v1/tasks").json["items"] if t["id"] != g.probe["id"]), None), 10)
    return create, task


def failed(d, task):
    wait_until(lambda: task["id"] not in d.rows() or d.task(task["id"])["state"] == "failed", 20, "the failure")
    wait_until(lambda: d.request("DELETE", f"/v1/tasks/{task['id']}").status in (204, 404), 20, "the removal")


def test_a_start_that_waits_tells_what_for_and_fails_alone(hung):
    hang, g, d = hung
    hang.silence()
    create, task = starting(d, g, command="/bin/true")
    path = f"/v1/tasks/{task['id']}"
    now = wait_until(lambda: (t := d.task(task["id"])).get("waits_for") and t, MARGIN, "what it waits for")
    assert now["state"] == "starting" and now["waits_for"].startswith("volume hung")
    assert d.post(f"{path}/signal", {"signal": "TERM"}, timeout=MARGIN).json["code"] == "task_starting"
    others_go_on(g, d)
    assert d.post(f"{path}/stop", {"timeout": "1s"}, timeout=MARGIN).status == 202
    hang.abort()
    create.join(30)
    failed(d, task)
    g.check()


def test_a_stop_ends_a_start_that_waits(hung):
    """It can be killed, since nobody has taken the request yet."""
    hang, g, d = hung
    hang.stop()
    create, task = starting(d, g, command="/bin/true")
    time.sleep(1)
    assert d.task(task["id"])["state"] == "starting"
    assert d.post(f"/v1/tasks/{task['id']}/stop", timeout=MARGIN).status == 202
    create.join(MARGIN)
    assert not create.is_alive(), "its creation was answered"
    failed(d, task)
    g.check()


@pytest.mark.parametrize("spec", [{"command": "/hung/f"}, {"command": "/bin/true", "work_dir": "/hung/f"}],
                         ids=["command", "work_dir"])
def test_a_command_that_waits_before_its_start(hung, spec):
    hang, g, d = hung
    hang.silence_at_a_name()
    create, task = starting(d, g, **spec)
    now = wait_until(lambda: (t := d.task(task["id"])).get("waits_for") and t, MARGIN, "what it waits for")
    assert now["state"] == "starting" and now["waits_for"].startswith("the start of the command")
    assert d.post(f"/v1/tasks/{task['id']}/stop", timeout=MARGIN).status == 202
    others_go_on(g, d)
    hang.abort()
    create.join(30)
    failed(d, task)
    g.check()


def test_a_start_has_a_deadline(tmp_path):
    with hanging(tmp_path, FAULTY) as (hang, g, d):
        hang.stop()
        before = d.census()
        reply = d.post("/v1/tasks", {"command": "/bin/true", "volume_mounts": MOUNTS, "env": {"CLOISTER_START_MS": "4000"}},
                       timeout=MARGIN)
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/volume_mounts/0/volume", reply.body
        assert reply.json["errno"] == "ETIMEDOUT" and "does not answer" in reply.json["detail"]
        d.assert_as_before(before)
        g.check()


def test_a_stop_ends_a_restart_that_waits(hung):
    hang, g, d = hung
    task = d.start_task("/bin/sh", "-c", "exit 3", volume_mounts=MOUNTS, restart={"attempts": 1, "delay": "1s"})
    path = f"/v1/tasks/{task['id']}"
    wait_until(lambda: d.task(task["id"])["state"] == "restarting", 10, "the end of the first run")
    hang.stop()
    wait_until(lambda: d.task(task["id"]).get("waits_for"), MARGIN, "what the second waits for")
    assert d.post(f"{path}/stop", timeout=MARGIN).status == 202
    end = d.wait_ended(task["id"])["exit"]
    assert end["code"] == 3 and end["reason"] == "stopped while it was restarted"
    g.delete(task)
    g.check()


def test_what_a_dead_supervisor_left_does_not_hold_up_the_next_daemon(hung):
    hang, g, d = hung
    task = hang_up(hang.silence, g, d)
    g.done = True
    g.thread.join()  # the daemon does not answer all the time here
    status = pathlib.Path(f"/proc/{task['pid']}/status").read_text()
    supervisor = int(next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1])
    d.process.kill()
    d.process.wait()
    os.kill(supervisor, signal.SIGKILL)
    began = time.monotonic()
    d.start()
    assert time.monotonic() - began < 15
    others_go_on(g, d)
    hang.abort()
    wait_until(lambda: d.task(task["id"])["state"] == "lost", 20, "the end of what is left")
    g.delete(task)
    assert not [group for group in d.groups() if task["id"] in group]
