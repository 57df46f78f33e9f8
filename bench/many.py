#!/usr/bin/python3
"""Many tasks at once: all are started, listed by pages of 1,000, and stopped; none may be missing at any time.

Usage, as root: bench/many.py [TASKS] (default 2000)
"""
import concurrent.futures
import json
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/api"))
from conftest import Daemon, Reply, UnixConnection  # noqa: E402

CLIENTS = 8


def each(daemon, ids, method, path, body, status):
    """One request an id, over CLIENTS connections; the seconds it took."""
    def share(part):
        connection = UnixConnection(daemon.socket)
        for task_id in part:
            connection.request(method, path.format(task_id), body, {"Content-Type": "application/json"})
            reply = Reply(connection.getresponse())
            assert reply.status == status, reply.body
            yield reply.json if reply.body else None
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        replies = [r for part in pool.map(lambda k: list(share(ids[k::CLIENTS])), range(CLIENTS)) for r in part]
    return replies, time.perf_counter() - start


def pages(daemon):
    connection, items, times, query = UnixConnection(daemon.socket), [], [], ""
    while query is not None:
        start = time.perf_counter()
        connection.request("GET", "/v1/tasks?limit=1000" + query)
        reply = Reply(connection.getresponse())
        times.append((time.perf_counter() - start) * 1000)
        reply = reply.json
        items += reply["items"]
        query = f"&cursor={reply['next_cursor']}" if reply.get("next_cursor") else None
    return items, times


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    daemon = Daemon(ROOT / "build/release/cloisterd")
    body = json.dumps({"command": "/bin/sleep", "args": ["900"], "resources": {"cpu": 100, "memory": 10, "pids": 4},
                       "kill_timeout": "30s"})
    created, seconds = each(daemon, range(n), "POST", "/v1/tasks?wait=running", body, 201)
    ids = {t["id"] for t in created}
    print(f"{n} tasks started in {seconds:.1f} s, {1000 * seconds / n:.1f} ms each, {CLIENTS} clients")
    times = []
    for _ in range(20):
        items, some = pages(daemon)
        assert {t["id"] for t in items} == ids and all(t["state"] == "running" for t in items)
        times += some[:-1] if len(some) > 1 else some
    print(f"a page of 1,000 that run: p50 {statistics.median(times):.1f} ms, at most {max(times):.1f} ms")
    stopped, seconds = each(daemon, sorted(ids), "POST", "/v1/tasks/{}/stop?wait=exited", "{}", 200)
    assert len(stopped) == n and all(t["exit"]["signal"] in ("SIGINT", "SIGTERM", "SIGKILL") for t in stopped), stopped[0]
    print(f"all stopped in {seconds:.1f} s, {1000 * seconds / n:.1f} ms each")
    _, seconds = each(daemon, sorted(ids), "DELETE", "/v1/tasks/{}", None, 204)
    print(f"all removed in {seconds:.1f} s, {1000 * seconds / n:.1f} ms each")
    daemon.stop()


main()
