#!/usr/bin/python3
"""Log capture beside `cmd > file`, interleaved in one run; and 200 followers, without and with one that stalls.

Usage, as root: bench/logs.py [ROUNDS [MIB]] (default 5 rounds of 1024 MiB)
"""
import pathlib
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time
from datetime import datetime

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/api"))
from conftest import Daemon  # noqa: E402

FOLLOWERS, FOLLOWED_MIB = 200, 64


def seconds(text):
    return datetime.fromisoformat(text[:26]).timestamp()


def captured(daemon, mib, logs=None):
    reply = daemon.post("/v1/tasks?wait=exited", {"command": "/usr/bin/head", "args": ["-c", f"{mib}M", "/dev/zero"],
                                                  "logs": logs or {}}, timeout=600)
    task = reply.json
    assert task["exit"]["code"] == 0 and task["log_bytes_lost"] == 0, reply.body
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}").status == 204
    return seconds(task["exit"]["finished_at"]) - seconds(task["exit"]["started_at"])


def to_file(directory, mib, pipe=""):
    path = directory / "bench-output"
    start = time.perf_counter()
    subprocess.run(["/bin/sh", "-c", f"head -c {mib}M /dev/zero {pipe} > {path}"], check=True)
    took = time.perf_counter() - start
    path.unlink()
    return took


def pss_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


class Crowd(threading.Thread):
    """Followers that throw away what they get; one thread reads for all."""
    def __init__(self, daemon, path, count):
        super().__init__(daemon=True)
        self.selector, self.got, self.sockets = selectors.DefaultSelector(), 0, []
        for _ in range(count):
            self.sockets.append(connect(daemon, path))
            self.selector.register(self.sockets[-1], selectors.EVENT_READ)

    def run(self):
        while self.selector.get_map():
            for key, _ in self.selector.select(1):
                data = key.fileobj.recv(1 << 18)
                self.got += len(data)
                if not data:
                    self.selector.unregister(key.fileobj)


def connect(daemon, path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(daemon.socket)
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return s


def followed(daemon, followers, stalled):
    """Seconds from the first byte to the end; and the server's PSS in KiB, idle and in the middle."""
    script = f"while [ ! -e /local/go ]; do sleep 0.05; done; head -c {FOLLOWED_MIB}M /dev/zero"
    task = daemon.start_task("/bin/sh", "-c", script, logs={"max_files": 2, "max_file_size": 1})  # who is slow gets gaps
    path, server = f"/v1/tasks/{task['id']}/logs?follow=true&format=sse&stream=stdout", daemon.server_pid()
    before = pss_kib(server)
    crowd = Crowd(daemon, path, followers)
    crowd.start()
    silent = [connect(daemon, path) for _ in range(stalled)]
    time.sleep(1)
    idle, peak = pss_kib(server), 0
    (daemon.dir / "state/tasks" / task["id"] / "local/go").touch()
    start = time.perf_counter()
    while daemon.task(task["id"])["state"] == "running":
        peak = max(peak, pss_kib(server))
        time.sleep(0.05)
    ended = daemon.task(task["id"])
    took = time.perf_counter() - start
    assert ended["exit"]["code"] == 0, ended
    crowd.join(60)
    for s in [*crowd.sockets, *silent]:
        s.close()
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}").status == 204
    return took, before, idle, peak


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    mib = int(sys.argv[2]) if len(sys.argv) > 2 else 1024
    daemon = Daemon(ROOT / "build/release/cloisterd")
    contenders = {
        "captured": lambda: captured(daemon, mib),
        "cmd > file": lambda: to_file(daemon.dir, mib),
        "cmd | cat > file": lambda: to_file(daemon.dir, mib, "| cat"),
        "logs.disabled": lambda: captured(daemon, mib, {"disabled": True}),
    }
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, once in contenders.items():
            times[name].append(once())
    base = statistics.median(times["captured"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:18} {mib / median:7.0f} MiB/s (p50)   speed captured / {name}: {median / base:5.2f}   "
              f"{rounds} rounds of {mib} MiB")
    crowds = {"nobody": (0, 0), f"{FOLLOWERS} followers": (FOLLOWERS, 0), f"{FOLLOWERS} and 1 stalled": (FOLLOWERS, 1),
              "1 stalled": (0, 1)}
    results = {name: [] for name in crowds}
    for _ in range(rounds):
        for name, (count, stalled) in crowds.items():
            results[name].append(followed(daemon, count, stalled))
    for name, values in results.items():
        took, peak = statistics.median(v[0] for v in values), max(v[3] for v in values)
        print(f"{name:24} task of {FOLLOWED_MIB} MiB {took:6.2f} s (p50)   server PSS at most {peak:6.0f} KiB")
    first = results["nobody"][0][1]
    print(f"server PSS before the first follower {first} KiB, "
          f"while {FOLLOWERS} wait {results[f'{FOLLOWERS} followers'][0][2]} KiB (first round)")
    daemon.stop()


main()
