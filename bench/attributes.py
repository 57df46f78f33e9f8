#!/usr/bin/python3
"""GET /v1/attributes/driver.exec over TCP by wrk, beside a bare libmicrohttpd program (bench/httpd.c), in turns.

The server under load has processor 0, wrk processor 1. Usage, as root, with Debian's wrk: bench/attributes.py [ROUNDS]
[SECONDS] (default 5 2)
"""
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/api"))
from conftest import Daemon, free_port  # noqa: E402


def rate(port, seconds):
    out = subprocess.run(["taskset", "-c", "1", "wrk", "-t1", "-c16", f"-d{seconds}",
                          f"http://127.0.0.1:{port}/v1/attributes/driver.exec"], check=True, capture_output=True, text=True)
    assert "Non-2xx" not in out.stdout, out.stdout
    return float(re.search(r"Requests/sec:\s+([0-9.]+)", out.stdout)[1])


def main():
    rounds, seconds = (int(v) for v in (sys.argv[1:] + ["5", "2"][len(sys.argv) - 1:]))
    bare_port = free_port()
    daemon = Daemon(ROOT / "build/release/cloisterd")
    bare = subprocess.Popen([ROOT / "build/release/httpd", str(bare_port)], stdin=subprocess.PIPE)
    for pid in (daemon.server_pid(), bare.pid):
        subprocess.run(["taskset", "-acp", "0", str(pid)], check=True, stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    rates = {"cloister": [], "bare": []}
    for _ in range(rounds):
        rates["bare"].append(rate(bare_port, seconds))
        rates["cloister"].append(rate(daemon.port, seconds))
    bare.stdin.close()
    bare.wait(10)
    daemon.stop()
    for name, values in rates.items():
        print(f"{name:9} median {statistics.median(values):9.0f} requests/s")
    each = [c / b for c, b in zip(rates["cloister"], rates["bare"])]
    print(f"cloister/bare {statistics.median(each):.2f} (median of {rounds} rounds, {min(each):.2f} to {max(each):.2f}; "
          f"{os.cpu_count()} processors)")


main()
