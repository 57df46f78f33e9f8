"""What a service manager sees: readiness, the watchdog, sockets that it opened, the end."""
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from conftest import BINARY, ROOT, Daemon, wait_until


@contextlib.contextmanager
def manager():
    """The service manager's end of sd_notify(3): (socket, its path)."""
    directory = tempfile.mkdtemp(prefix="cloister-notify-")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(f"{directory}/notify")
        s.settimeout(20)
        yield s, f"{directory}/notify"
    shutil.rmtree(directory)


def lines(s):
    return s.recv(4096).decode().splitlines()


def test_readiness_and_the_end_are_told():
    with manager() as (s, path):
        d = Daemon(BINARY, env={"NOTIFY_SOCKET": path})
        assert "READY=1" in lines(s)
        os.kill(d.server_pid(), signal.SIGKILL)
        assert lines(s)[0].startswith("STATUS=")
        assert "READY=1" in lines(s)  # it serves again
        wait_until(d.ready, 10, "readiness")
        d.stop()
        assert lines(s) == ["STOPPING=1"]


def test_the_watchdog_hears_of_a_server_that_hangs():
    with manager() as (s, path):
        d = Daemon(BINARY, env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "600000"})
        assert "READY=1" in lines(s)
        for _ in range(3):
            assert lines(s) == ["WATCHDOG=1"]
        server = d.server_pid()
        os.kill(server, signal.SIGSTOP)
        s.settimeout(0.1)
        with contextlib.suppress(TimeoutError):  # what was on its way
            while True:
                s.recv(4096)
        s.settimeout(2)
        try:
            assert not s.recv(4096), "a server that hangs must not be called alive"
        except TimeoutError:
            pass
        os.kill(server, signal.SIGCONT)
        s.settimeout(20)
        assert lines(s) == ["WATCHDOG=1"]
        d.stop()


def test_tasks_get_nothing_of_the_managers_environment():
    with manager() as (s, path):
        d = Daemon(BINARY, env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "60000000"})
        assert "NOTIFY" not in d.sh("env")["output"]["stdout"] and "WATCHDOG" not in d.sh("env")["output"]["stdout"]
        d.stop()


def activated(*sockets):
    """A daemon that is started as systemd does: sockets at fd 3 and on, LISTEN_PID its own."""
    wrapper = pathlib.Path(tempfile.mkdtemp(prefix="cloister-activate-")) / "run"
    wrapper.write_text(f"""#!/usr/bin/python3
import os, sys
fds = [int(n) for n in os.environ.pop("TEST_FDS").split(",")]
for i, fd in enumerate(os.dup(f) for f in fds):
    os.dup2(os.dup(fd), 40 + i)
for i in range(len(fds)):
    os.dup2(40 + i, 3 + i, inheritable=True)
os.closerange(3 + len(fds), 256)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)))
os.execv({str(BINARY)!r}, [{str(BINARY)!r}, *sys.argv[1:]])
""")
    wrapper.chmod(0o755)
    for s in sockets:
        os.set_inheritable(s.fileno(), True)
    return wrapper


def test_sockets_of_the_manager_are_served_and_left_in_place(tmp_path):
    path = tmp_path / "api.sock"
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as tcp:
        unix.bind(str(path))
        unix.listen()
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        wrapper = activated(unix, tcp)
        port = tcp.getsockname()[1]
        real = subprocess.Popen

        def popen(command, **more):
            return real(command, close_fds=False, **more)
        subprocess.Popen = popen
        try:
            d = Daemon(wrapper, "--socket", str(path), env={"TEST_FDS": f"{unix.fileno()},{tcp.fileno()}"},
                       socket_path=str(path))
        finally:
            subprocess.Popen = real
        assert d.run("/bin/true")["exit"]["code"] == 0
        out = subprocess.run(["curl", "-s", f"http://127.0.0.1:{port}/healthz"], capture_output=True, check=True).stdout
        assert out == b"ok\n"
        assert d.sh("ls /proc/self/fd")["output"]["stdout"].split() == ["0", "1", "2", "3"]  # ls holds 3 itself
        d.stop()
        assert path.exists()  # it is the manager's
    shutil.rmtree(wrapper.parent)


def test_a_socket_beyond_loopback_is_refused():
    with socket.socket() as tcp:
        tcp.bind(("0.0.0.0", 0))
        tcp.listen()
        wrapper = activated(tcp)
        run = subprocess.run([wrapper, "--state-dir", "/tmp/cloister-none", "--run-dir", "/tmp/cloister-none"],
                             capture_output=True, env={**os.environ, "TEST_FDS": str(tcp.fileno())}, close_fds=False,
                             timeout=20, check=False)
        assert run.returncode != 0 and b"loopback" in run.stderr, run.stderr
    shutil.rmtree(wrapper.parent)


def test_tasks_go_on_without_the_daemon():
    d = Daemon()
    task = d.start_task("/bin/sleep", "60")
    d.process.send_signal(signal.SIGTERM)
    assert d.process.wait(20) == 0
    assert pathlib.Path(f"/proc/{task['pid']}").exists()
    d.start()
    assert d.task(task["id"])["state"] == "running"
    d.stop()


def test_the_daemon_stops_all_tasks_when_it_is_told_to():
    d = Daemon(BINARY, "--stop-tasks-on-shutdown")
    log = "import signal,sys,time; signal.signal(signal.SIGINT, lambda *a: sys.exit(7)); print('up', flush=True); time.sleep(60)"
    late = d.start_task("/usr/bin/python3", "-c", log, priority=90)
    early = d.start_task("/usr/bin/python3", "-c", log, priority=10)
    for task in (late, early):
        wait_until(lambda t=task: d.get(f"/v1/tasks/{t['id']}/logs").body, 10, "the handler")
    d.process.send_signal(signal.SIGTERM)
    assert d.process.wait(30) == 0
    for task in (late, early):
        assert not pathlib.Path(f"/proc/{task['pid']}").exists()
    d.start()
    exits = [d.task(t["id"])["exit"] for t in (early, late)]
    assert [x["code"] for x in exits] == [7, 7]
    assert exits[0]["finished_at"] < exits[1]["finished_at"]  # the lower priority went first
    d.stop()


def test_the_interrupt_key_of_a_terminal_is_heard_once(tmp_path):
    """It reaches all of the terminal's process group (termios(3), INTR); who is told twice waits for no task."""
    wrapper = tmp_path / "cloisterd"
    wrapper.write_text(f'#!/bin/sh\nexec setsid {BINARY} "$@"\n')  # a process group of its own
    wrapper.chmod(0o755)
    d = Daemon(wrapper, "--stop-tasks-on-shutdown")
    task = d.start_task("/bin/sh", "-c", "trap 'sleep 1; exit 7' INT; echo up; while :; do sleep 0.1; done")
    wait_until(lambda: d.get(f"/v1/tasks/{task['id']}/logs").body, 10, "the handler")
    os.killpg(d.process.pid, signal.SIGINT)
    assert d.process.wait(30) == 0
    assert not pathlib.Path(f"/proc/{task['pid']}").exists()
    d.start()
    assert d.task(task["id"])["exit"]["code"] == 7
    d.stop()


def test_while_it_stops_it_takes_no_more():
    d = Daemon(BINARY, "--stop-tasks-on-shutdown")
    script = "import signal,time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    task = d.start_task("/usr/bin/python3", "-c", script, kill_timeout="3s")
    wait_until(lambda: d.get(f"/v1/tasks/{task['id']}/logs").body, 10, "the handler")
    d.process.send_signal(signal.SIGTERM)
    reply = wait_until(lambda: (r := d.post("/v1/tasks", {"command": "/bin/true"})).status == 503 and r, 3, "a refusal")
    assert reply.json["code"] == "shutting_down"
    start = time.monotonic()
    assert d.process.wait(30) == 0 and time.monotonic() - start < 20
    d.start()
    assert d.task(task["id"])["exit"]["reason"] == "killed after kill_timeout"
    d.stop()


def test_the_unit_files_are_well_formed():
    for unit in ("cloisterd.service", "cloisterd.socket"):
        text = (ROOT / "build/release" / unit).read_text()
        assert "@" not in text and text.startswith("[Unit]")
    assert "KillMode=process" in (ROOT / "build/release/cloisterd.service").read_text()
    assert "Delegate=yes" in (ROOT / "build/release/cloisterd.service").read_text()
