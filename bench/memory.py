#!/usr/bin/python3
"""Proportional set sizes (PSS): of the idle daemon, and of the supervisors of tasks that run.

Usage, as root: bench/memory.py [TASKS] (default 50)
"""
import pathlib
import re
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/api"))
from conftest import Daemon  # noqa: E402


def pss_kib(pid):
    return int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), flags=re.M)[1])


def main():
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    daemon = Daemon(ROOT / "build/release/cloisterd")
    time.sleep(2)
    idle = [pss_kib(daemon.process.pid), pss_kib(daemon.server_pid())]
    print(f"idle daemon: launcher {idle[0]} KiB, server {idle[1]} KiB, both {sum(idle)} KiB")
    for _ in range(tasks):
        daemon.start_task("/bin/sleep", "600", resources={"cpu": 500, "memory": 64, "pids": 10})
    time.sleep(3)
    known = {daemon.process.pid, daemon.server_pid()}
    sizes = [pss_kib(pid) for pid in daemon.children() if pid not in known]
    assert len(sizes) == tasks, sizes
    print(f"supervisor of a running task, {tasks} at once: median {statistics.median(sizes):.0f} KiB, "
          f"{min(sizes)} to {max(sizes)} KiB")
    daemon.stop()


main()
