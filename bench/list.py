#!/usr/bin/python3
"""GET /v1/tasks of 1,000 tasks out of 20,000, GET of one task, and GET /v1/events of 1,000, over the unix socket on one
connection.

The tasks are rows of ended tasks, written to the database while the daemon is down. Prints the median and the
largest of all rounds, and the server's CPU time a request, which other programs change less. Usage, as root: bench/list.py [TASKS] [ROUNDS] (default 20000 200)
"""
import json
import os
import pathlib
import sqlite3
import statistics
import sys
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/api"))
from conftest import Daemon, Reply, UnixConnection  # noqa: E402

SPEC = {"command": "/bin/sh", "args": ["-c", "echo hello; exit 0"], "name": "bench", "labels": {"team": "a", "n": "1"},
        "env": {"PATH": "/usr/bin:/bin", "HOME": "/local"}, "resources": {"cpu": 500, "memory": 256, "pids": 100}}


def fill(daemon, n):
    """n rows like that of a task that has run, under ids of rising times."""
    model = daemon.run(SPEC["command"], *SPEC["args"], **{k: SPEC[k] for k in SPEC if k not in ("command", "args")})
    daemon.process.terminate()
    assert daemon.process.wait(20) == 0
    with sqlite3.connect(daemon.dir / "state/server/cloister.db") as db:
        row = db.execute("SELECT * FROM tasks").fetchone()
        for i in range(n):
            ms = 1_700_000_000_000 + i
            task_id = str(uuid.UUID(int=(ms << 80) | (7 << 76) | (2 << 62) | i))
            db.execute("INSERT INTO tasks VALUES(?, ?, ?, ?, ?, ?, NULL, NULL)",
                       (task_id, ms * 1_000_000, *row[2:6]))
            db.execute("INSERT INTO events(time, type, task, name, labels, data) VALUES(?, ?, ?, ?, ?, ?)",
                       (ms * 1_000_000, "task.created", task_id, "bench", json.dumps(SPEC["labels"]), "{}"))
    db.close()
    daemon.start()
    return model["id"]


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(daemon, connection, path, rounds, check):
    times, before = [], cpu_seconds(daemon.server_pid())
    for _ in range(rounds):
        start = time.perf_counter()
        connection.request("GET", path)
        reply = Reply(connection.getresponse())
        times.append((time.perf_counter() - start) * 1000)
        assert reply.status == 200
    check(reply.json)
    cpu = (cpu_seconds(daemon.server_pid()) - before) * 1000 / rounds
    print(f"GET {path[:40]:40} p50 {statistics.median(times):7.2f} ms   max {max(times):7.2f} ms   "
          f"server's CPU time {cpu:6.2f} ms   {len(reply.body)} bytes")


def main():
    n, rounds = (int(a) for a in (sys.argv[1:] + ["20000", "200"][len(sys.argv) - 1:]))
    daemon = Daemon(ROOT / "build/release/cloisterd")
    start = time.perf_counter()
    one = fill(daemon, n)
    print(f"{n} rows written and read back in {time.perf_counter() - start:.2f} s")
    connection = UnixConnection(daemon.socket)

    def thousand(document):
        assert len(document["items"]) == min(n, 1000)
    measure(daemon, connection, "/v1/tasks?limit=1000", rounds, thousand)
    measure(daemon, connection, "/v1/tasks?limit=1000&order=asc", rounds, thousand)
    measure(daemon, connection, "/v1/tasks?limit=1000&name=none", rounds, lambda d: None)
    measure(daemon, connection, f"/v1/tasks/{one}", rounds, lambda d: None)
    measure(daemon, connection, "/v1/events?limit=1000", rounds, thousand)
    daemon.process.terminate()
    daemon.process.wait(20)
    daemon.discard()


main()
