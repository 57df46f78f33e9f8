#!/usr/bin/python3
"""Create-to-exited of /bin/true through the API, beside container engines that speak Docker's: one after the other, in
turn, in one run. Of an engine: create, start, wait. The removal that follows is not timed.

Usage, as root: bench/engines.py ROUNDS NAME=SOCKET... (docker=/run/docker.sock podman=/run/podman/podman.sock). Each must
have an image "bench" that holds /bin/true.
"""
import json
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/api"))
from conftest import Daemon, Reply, UnixConnection  # noqa: E402

PAUSE_S = 0.05


def call(connection, method, path, body=None, status=(200, 201, 204)):
    connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
    reply = Reply(connection.getresponse())
    assert reply.status in status, (method, path, reply.status, reply.body)
    return reply.json if reply.body.strip() else None


def cloister(connection):
    body = {"command": "/bin/true", "resources": {"cpu": 500, "memory": 256, "pids": 100}}

    def once():
        task = call(connection, "POST", "/v1/tasks?wait=exited", body)
        end = time.perf_counter()
        assert task["exit"]["code"] == 0, task
        call(connection, "DELETE", f"/v1/tasks/{task['id']}")
        return end
    return once


def engine(connection):
    body = {"Image": "bench", "Cmd": ["/bin/true"], "User": "65534",
            "HostConfig": {"NetworkMode": "host", "Memory": 256 << 20, "CpuShares": 500, "PidsLimit": 100}}

    def once():
        made = call(connection, "POST", "/v1.40/containers/create", body)["Id"]
        call(connection, "POST", f"/v1.40/containers/{made}/start")
        status = call(connection, "POST", f"/v1.40/containers/{made}/wait")["StatusCode"]
        end = time.perf_counter()
        assert status == 0
        call(connection, "DELETE", f"/v1.40/containers/{made}")
        return end
    return once


def main():
    daemon = Daemon(ROOT / "build/release/cloisterd")
    contenders = {"cloister": cloister(UnixConnection(daemon.socket))}
    for argument in sys.argv[2:]:
        name, _, socket = argument.partition("=")
        contenders[name] = engine(UnixConnection(socket, 60))
    times = {name: [] for name in contenders}
    for _ in range(int(sys.argv[1])):
        for name, once in contenders.items():
            time.sleep(PAUSE_S)  # as bench/start.py
            start = time.perf_counter()
            times[name].append(once() - start)
    base = statistics.median(times["cloister"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:10} p50 {median * 1000:7.1f} ms   {name}/cloister {median / base:5.1f}   rounds {len(values)}")
    daemon.stop()


main()
