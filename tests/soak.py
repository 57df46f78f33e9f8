#!/usr/bin/env python3
"""Short tasks, one after another for long: what the daemon holds at the end is what it held after the first twentieth.

    tests/soak.py [--tasks 20000] [--clients 8] [--binary build/release/cloisterd]

Prints what it counted, and ends with status 1 when something has grown. A short variant is tests/api/test_soak.py."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "api"))
from conftest import BINARY, CGROUP_ROOT, Daemon, wait_until  # noqa: E402

OWN_SLACK_KIB = 1024  # the allocator's, over all processes
INODES_SLACK = 64     # the database's files, and the test's own


def own_kib(pid):
    """Not what it shares with other programs, which come and go."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss_Anon:"))


def inodes(directory):
    return sum(len(dirs) + len(files) for _, dirs, files in os.walk(directory))


def cgroups(daemon):
    """v2 counts those that were removed and are still held, too (nr_dying_descendants)."""
    dying = 0
    for top in daemon.parents():
        if (top / "cgroup.stat").exists():
            stat = dict(line.split() for line in (top / "cgroup.stat").read_text().splitlines())
            dying += int(stat["nr_dying_descendants"])
    return {"groups": len(daemon.groups()), "dying": dying}


def measure(daemon):
    pids = [daemon.process.pid, daemon.server_pid()]
    return {
        "fds": [len(os.listdir(f"/proc/{p}/fd")) for p in pids],
        "threads": [len(os.listdir(f"/proc/{p}/task")) for p in pids],
        "own_kib": sum(map(own_kib, pids)),
        "children": len(daemon.children()),
        "mounts": len(daemon.mounts()),
        "state_inodes": inodes(daemon.dir / "state"),
        "run_inodes": inodes(daemon.dir / "run"),
        "network": len(daemon.network()),
        **cgroups(daemon),
    }


def settle(daemon):
    wait_until(lambda: set(daemon.children().values()) == {"cloister-server"}, 60, "the end of all helpers")
    return measure(daemon)


def run_tasks(daemon, count, clients):
    """Each runs to its end, is checked and deleted."""
    left, lock, faults = [count], threading.Lock(), []

    def client():
        while True:
            with lock:
                if left[0] <= 0 or faults:
                    return
                left[0] -= 1
                n = left[0]
            code = n % 256
            task = daemon.sh(f"echo {n}; exit {code}")
            if task["exit"]["code"] != code or task["output"]["stdout"] != f"{n}\n":
                faults.append(task)
            if daemon.request("DELETE", f"/v1/tasks/{task['id']}").status != 204:
                faults.append(task)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults, faults[0]


def grown(before, after):
    slack = {"own_kib": OWN_SLACK_KIB, "state_inodes": INODES_SLACK, "dying": 1 << 30}
    return {k: (before[k], after[k]) for k in before
            if (max(map(lambda a, b: b - a, before[k], after[k])) if isinstance(before[k], list)
                else after[k] - before[k]) > slack.get(k, 0)}


def soak(daemon, tasks, clients, say=print):
    first = max(tasks // 20, 50)
    began = time.monotonic()
    run_tasks(daemon, first, clients)
    before = settle(daemon)
    say(json.dumps({"tasks": first, **before}))
    run_tasks(daemon, tasks - first, clients)
    after = settle(daemon)
    say(json.dumps({"tasks": tasks, "seconds": round(time.monotonic() - began, 1), **after}))
    return grown(before, after)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=20000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--binary", default=BINARY)
    options = parser.parse_args()
    # Events have a bound of their own, which a long run reaches: a low one shows that it holds.
    daemon = Daemon(pathlib.Path(options.binary).resolve(), "--events-max", "1000")
    try:
        more = soak(daemon, options.tasks, options.clients)
        size = subprocess.run(["du", "-sk", daemon.dir / "state"], check=True, capture_output=True, text=True).stdout
        print(f"state: {size.split()[0]} KiB; cgroups in all: {sum(1 for _ in CGROUP_ROOT.rglob(daemon.parent))} parents")
    finally:
        daemon.stop()
    print(f"grown: {more}" if more else "nothing has grown")
    return 1 if more else 0


if __name__ == "__main__":
    sys.exit(main())
