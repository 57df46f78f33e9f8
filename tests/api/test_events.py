"""The log of events: numbered, durable, in order; followed through a kill -9 without one missing or doubled."""
import concurrent.futures
import json
import os
import signal
import sqlite3
import threading
import time

import pytest

from conftest import Daemon, UnixConnection, wait_until

LIFE = ["task.created", "task.starting", "task.running", "task.exited"]
# What the first release wrote.
SCHEMA_1 = """
CREATE TABLE tasks(id TEXT PRIMARY KEY, created_at INTEGER NOT NULL, spec TEXT NOT NULL, state INTEGER NOT NULL,
 version INTEGER NOT NULL, status BLOB NOT NULL, idempotency_key TEXT UNIQUE, body_hash TEXT) STRICT;
PRAGMA user_version = 1;
"""


def events(daemon, query="", path="/v1/events"):
    """All that match, page by page."""
    found, cursor = [], ""
    while True:
        page = daemon.get(f"{path}?limit=1000{query}{cursor}").json
        found += page["items"]
        if "next_cursor" not in page:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def of_task(daemon, task):
    return [e["type"] for e in events(daemon, path=f"/v1/tasks/{task['id']}/events")]


class Stream:
    """Records of a stream, as (id, JSON); lines that hold none are kept apart."""

    def __init__(self, daemon, path, headers=None):
        self.connection = UnixConnection(daemon.socket)
        self.connection.request("GET", path, headers=headers or {})
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self.sse = self.response.headers["Content-Type"] == "text/event-stream"
        self.other = []

    def __iter__(self):
        event_id = None
        for raw in self.response:
            line = raw.decode().rstrip("\n")
            if not self.sse and line:
                yield None, json.loads(line)
            elif line.startswith("data: "):
                yield event_id, json.loads(line[6:])
            elif line.startswith("id: "):
                event_id = line[4:]
                self.other.append(line)
            else:
                self.other.append(line)

    def take(self, n):
        return [record for _, record in zip(range(n), self)]

    def close(self):
        self.connection.close()


class Follower(threading.Thread):
    """Follows all events, and comes back where it was whenever the server goes away."""

    def __init__(self, daemon, accept):
        super().__init__(daemon=True)
        self.to, self.accept, self.seen, self.over, self.connects = daemon, accept, [], False, 0

    def run(self):
        last = None
        while not self.over:
            headers = {"Accept": self.accept, **({"Last-Event-ID": str(last)} if last else {})}
            try:
                for _, event in Stream(self.to, "/v1/events?follow=true", headers):
                    last = event["seq"]
                    self.seen.append(event)
                    if self.over:
                        return
            except (OSError, AssertionError):
                pass
            except Exception as error:  # pylint: disable=broad-except
                if "IncompleteRead" not in repr(error):
                    raise
            self.connects += 1
            time.sleep(0.05)


def signal_many(daemon, task, n):
    """The cheapest events there are."""
    connection = UnixConnection(daemon.socket)
    for _ in range(n):
        connection.request("POST", f"/v1/tasks/{task['id']}/signal", '{"signal": "WINCH"}',
                           {"Content-Type": "application/json"})
        reply = connection.getresponse()
        reply.read()
        assert reply.status == 204
    connection.close()


def test_a_life_is_told_in_order(daemon):
    task = daemon.run("/bin/sh", "-c", "exit 3", name="told", labels={"team": "a"})
    found = daemon.get(f"/v1/tasks/{task['id']}/events").json["items"]
    assert [e["type"] for e in found] == LIFE
    assert [e["seq"] for e in found] == sorted({e["seq"] for e in found})
    assert [e["time"] for e in found] == sorted(e["time"] for e in found)
    assert all(e["task"] == task["id"] and e["name"] == "told" and e["labels"] == {"team": "a"} for e in found)
    assert found[-1]["data"] == {key: task["exit"][key] for key in found[-1]["data"]} and \
        found[-1]["data"]["code"] == 3
    assert found[-2]["data"] == {"pid": found[-2]["data"]["pid"], "restarts": 0}


def test_what_is_done_to_a_task_is_told(daemon):
    task = daemon.start_task("/bin/sleep", "60")
    path = f"/v1/tasks/{task['id']}"
    assert daemon.post(f"{path}/signal", {"signal": "WINCH"}).status == 204
    assert daemon.post(f"{path}/pause").status == 200 and daemon.post(f"{path}/resume").status == 200
    patch = daemon.request("PATCH", path, {"labels": {"now": "1"}})
    assert patch.status == 200
    assert daemon.post(f"{path}/stop?wait=exited").status == 200
    assert of_task(daemon, task) == [*LIFE[:3], "task.signaled", "task.paused", "task.resumed", "task.updated",
                                     "task.stopping", "task.exited"]
    last = events(daemon)[-1]
    assert last["data"]["signal"] == "SIGKILL" and last["data"]["code"] is None and last["labels"] == {"now": "1"}
    assert daemon.request("DELETE", path).status == 204
    assert events(daemon, f"&task={task['id']}")[-1]["type"] == "task.removed"
    assert daemon.get(f"{path}/events").status == 404


def test_failures_restarts_and_oom_are_told(daemon):
    before = daemon.get("/v1/tasks").json["events_at"]
    assert daemon.post("/v1/tasks", {"command": "/no/such/file"}).status == 422
    failed = [e for e in events(daemon, f"&after={before}") if e["type"] == "task.failed"]
    assert len(failed) == 1 and failed[0]["data"]["step"] == "command" and failed[0]["data"]["errno"] == "ENOENT"
    task = daemon.run("/bin/false", restart={"attempts": 1, "delay": "100ms", "interval": "1m"})
    assert of_task(daemon, task) == [*LIFE[:3], "task.restarting", "task.running", "task.exited"]
    task = daemon.run("/usr/bin/python3", "-c", "x = bytearray(200 << 20)", resources={"memory": 32})
    assert of_task(daemon, task) == [*LIFE[:3], "task.oom", "task.exited"]


def test_filters(daemon):
    before = daemon.get("/v1/tasks").json["events_at"]
    one = daemon.run("/bin/true", labels={"k": "1", "x": "y"})
    two = daemon.run("/bin/true", labels={"k": "2"})
    new = f"&after={before}"
    assert len(events(daemon, new)) == 8
    assert {e["task"] for e in events(daemon, f"{new}&label=k=1")} == {one["id"]}
    assert events(daemon, f"{new}&label=k=1&label=x=z") == []
    assert {e["task"] for e in events(daemon, f"{new}&task={two['id']}")} == {two["id"]}
    assert [e["type"] for e in events(daemon, f"{new}&type=task.exited")] == ["task.exited"] * 2
    assert len(events(daemon, f"{new}&type=task.")) == 8 and events(daemon, f"{new}&type=server.") == []
    assert [e["type"] for e in events(daemon, f"{new}&type=task.exited&type=task.created&label=k=2")] == \
        ["task.created", "task.exited"]
    assert len(daemon.get("/v1/events?tail=3").json["items"]) == 3
    assert [e["type"] for e in daemon.get(f"/v1/tasks/{one['id']}/events?tail=2").json["items"]] == LIFE[2:]
    for bad in ("type=bogus", "type=task", "label=k", "task=x", "after=x", "after=-1", "limit=0", "format=xml",
                "format=json&follow=true", "after=1&tail=1"):
        assert daemon.get(f"/v1/events?{bad}").status == 400, bad


def test_pages(daemon):
    task = daemon.run("/bin/true")
    path, seen, cursor = f"/v1/tasks/{task['id']}/events?limit=1", [], ""
    for _ in range(4):
        page = daemon.get(path + cursor).json
        seen += [e["type"] for e in page["items"]]
        cursor = f"&cursor={page.get('next_cursor')}"
    assert seen == LIFE


def test_formats(daemon):
    task = daemon.run("/bin/true")
    path = f"/v1/tasks/{task['id']}/events"
    listed = daemon.get(path).json["items"]
    assert [e for _, e in Stream(daemon, f"{path}?format=ndjson")] == listed
    assert [e for _, e in Stream(daemon, path, {"Accept": "application/x-ndjson"})] == listed
    assert list(Stream(daemon, f"{path}?format=sse&follow=false")) == [(str(e["seq"]), e) for e in listed]
    stream = Stream(daemon, path, {"Accept": "text/event-stream", "Last-Event-ID": str(listed[1]["seq"])})
    assert [e for _, e in stream.take(2)] == listed[2:]  # an EventSource follows, from where it was
    assert stream.other[:3] == ["retry: 2000", f"id: {listed[1]['seq']}", ""]
    stream.close()


def test_a_follower_of_a_task_is_done_when_it_is_removed(daemon):
    task = daemon.start_task("/bin/sleep", "60")
    stream = Stream(daemon, f"/v1/tasks/{task['id']}/events?follow=true")
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204
    assert [e["type"] for _, e in stream] == [*LIFE[:3], "task.stopping", "task.exited", "task.removed"]


def test_list_then_subscribe_has_no_hole(daemon):
    """The list, changed by the events after its number, is the list of later; whatever happens in between."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(daemon.run, "/bin/sh", "-c", "exit 0", name="hole") for _ in range(30)]
        reply = daemon.get("/v1/tasks?name=hole&limit=1000")
        states = {t["id"]: t["state"] for t in reply.json["items"]}
        at = reply.json["events_at"]
        assert reply.headers["Cloister-Event-Seq"] == str(at)
        for run in runs:
            run.result()
    for event in events(daemon, f"&after={at}&type=task."):
        if event["name"] == "hole" and event["type"] not in ("task.created", "task.removed"):
            states[event["task"]] = event["type"].removeprefix("task.")
    assert states == {t["id"]: t["state"] for t in daemon.get("/v1/tasks?name=hole&limit=1000").json["items"]}
    assert len(states) == 30 and set(states.values()) == {"exited"}


def test_followers_survive_kill_9_of_the_server(own_daemon):
    """Whatever is acknowledged has its events; followers that come back miss none and get none twice."""
    followers = [Follower(own_daemon, accept) for accept in ("text/event-stream", "application/x-ndjson")]
    for follower in followers:
        follower.start()
    acknowledged = []
    for _ in range(3):
        acknowledged += [own_daemon.start_task("/bin/sleep", "0.3")["id"] for _ in range(4)]
        server = own_daemon.server_pid()
        os.kill(server, signal.SIGKILL)
        wait_until(lambda server=server: own_daemon.ready() and own_daemon.server_pid() != server)
    for task_id in acknowledged:
        own_daemon.wait_ended(task_id)
    log = events(own_daemon)
    assert [e["seq"] for e in log] == list(range(1, len(log) + 1))
    for follower in followers:
        wait_until(lambda follower=follower: len(follower.seen) >= len(log), 10, "the followers' last event")
        follower.over = True
        assert follower.seen == log and follower.connects >= 3
    for task_id in acknowledged:
        assert [e["type"] for e in log if e.get("task") == task_id] == LIFE, task_id
    started = [e for e in log if e["type"] == "server.started"]
    assert len(started) == 4 and [e["type"] for e in log].count("server.recovered") == 3


def test_a_clean_restart_goes_on_counting(own_daemon):
    own_daemon.run("/bin/true")
    last = events(own_daemon)[-1]["seq"]
    own_daemon.process.terminate()
    assert own_daemon.process.wait(20) == 0
    own_daemon.start()
    assert [(e["seq"], e["type"]) for e in events(own_daemon, f"&after={last}")] == [(last + 1, "server.started")]


def test_what_the_store_cannot_take_is_told_later(own_daemon):
    """Somebody holds the database; a task ends meanwhile, a new one is refused, and no event is lost or invented."""
    task = own_daemon.start_task("/bin/sleep", "0.5")
    holder = sqlite3.connect(own_daemon.dir / "state/server/cloister.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    wait_until(lambda: own_daemon.task(task["id"])["state"] == "exited", 30)
    assert own_daemon.post("/v1/tasks", {"command": "/bin/true"}).status == 503
    assert own_daemon.get("/readyz").status == 503
    assert of_task(own_daemon, task) == LIFE[:3]
    holder.execute("ROLLBACK")
    holder.close()
    wait_until(own_daemon.ready, 30)
    log = events(own_daemon)
    assert [(e["seq"], e["type"]) for e in log] == list(enumerate(["server.started", *LIFE], 1))
    own_daemon.run("/bin/true")
    assert [e["type"] for e in events(own_daemon)[len(log):]] == LIFE


@pytest.fixture(scope="module")
def small():
    """A daemon that keeps 100 events and has written some hundreds."""
    d = Daemon(Daemon.__init__.__defaults__[0], "--events-max", "100")
    d.sleeper = d.start_task("/bin/sleep", "600")
    signal_many(d, d.sleeper, 400)
    yield d
    d.stop()


def test_who_comes_too_late_is_told(small):
    kept = events(small)
    assert 100 <= len(kept) < 200 and kept[0]["type"] != "lost"  # who asks for no number gets what there is
    late = small.get("/v1/events?after=1").json["items"]
    assert late[0]["type"] == "lost" and late[0]["data"] == {"after": 1, "next": kept[0]["seq"]}
    assert late[0]["seq"] == kept[0]["seq"] - 1 and late[1] == kept[0]
    stream = Stream(small, "/v1/events", {"Accept": "text/event-stream", "Last-Event-ID": "1"})
    (first_id, first), (_, second) = stream.take(2)
    assert first["type"] == "lost" and int(first_id) == first["seq"] and second == kept[0]
    stream.close()
    exact = small.get(f"/v1/events?after={kept[0]['seq'] - 1}").json["items"]
    assert exact[0] == kept[0]


def test_retention_by_size():
    d = Daemon(Daemon.__init__.__defaults__[0], "--events-max-bytes", "65536")
    task = d.start_task("/bin/sleep", "600", labels={"long": "x" * 1000})
    for _ in range(2):
        signal_many(d, task, 200)  # each more than 1000 bytes
        kept = events(d)
        assert 50 <= len(kept) <= 65, len(kept)
        assert [e["seq"] for e in kept] == list(range(kept[0]["seq"], d.get("/v1/tasks").json["events_at"] + 1))
        server = d.server_pid()
        os.kill(server, signal.SIGKILL)  # the size outlives the server
        wait_until(lambda server=server: d.ready() and d.server_pid() != server)
        assert len(events(d)) >= 50
    assert d.request("PATCH", f"/v1/tasks/{task['id']}", {"labels": {"long": None}}).status == 200
    signal_many(d, task, 300)  # small ones: more of them
    assert 200 <= len(events(d)) < 400
    d.stop()


def test_a_number_of_another_log_is_told(small):
    kept = events(small)
    items = small.get("/v1/events?after=999999").json["items"]
    assert items[0]["type"] == "lost" and items[0]["data"] == {"after": 999999, "next": kept[0]["seq"]}
    assert items[1] == kept[0]


def test_a_stalled_follower_slows_nobody_and_is_told_what_it_lost(small):
    stalled, brisk = Stream(small, "/v1/events?follow=true"), Stream(small, "/v1/events?follow=true&tail=0")
    rss = lambda: int(open(f"/proc/{small.server_pid()}/statm", encoding="ascii").read().split()[1]) * 4096
    before = rss()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        taken = pool.submit(brisk.take, 3000)
        signal_many(small, small.sleeper, 3000)
        got = [e["seq"] for _, e in taken.result(30)]
    last = small.get("/v1/tasks").json["events_at"]
    assert got == list(range(last - 2999, last + 1))
    assert rss() - before < 8 << 20 or "asan" in str(small.binary)  # ASan keeps freed memory for long
    seqs, lost = [], []
    for _, event in stalled:
        seqs.append(event["seq"])
        lost += [event["data"]] if event["type"] == "lost" else []
        if event["seq"] == last:
            break
    jumps = [(a, b) for a, b in zip(seqs, seqs[1:]) if b != a + 1]
    assert len(lost) == len(jumps)  # every hole is told, and nothing else is
    assert seqs == sorted(seqs)
    for stream in (stalled, brisk):
        stream.close()


def test_a_silent_stream_pings(daemon):
    sse = Stream(daemon, "/v1/events?tail=0", {"Accept": "text/event-stream"})
    lines = Stream(daemon, "/v1/events?tail=0&follow=true")
    began = time.monotonic()
    assert lines.response.readline() == b"\n" and time.monotonic() - began > 10
    assert [sse.response.readline() for _ in range(4)][3] == b": ping\n"
    for stream in (sse, lines):
        stream.close()


def test_a_database_of_the_first_release_is_taken_over(own_daemon):
    task = own_daemon.run("/bin/sh", "-c", "exit 7")
    own_daemon.process.terminate()
    assert own_daemon.process.wait(20) == 0
    path = own_daemon.dir / "state/server/cloister.db"
    owner = path.stat()
    with sqlite3.connect(path) as old:
        rows = old.execute("SELECT * FROM tasks").fetchall()
    old.close()
    for name in path.parent.glob("cloister.db*"):
        name.unlink()
    with sqlite3.connect(path) as new:
        new.executescript(SCHEMA_1)
        new.executemany("INSERT INTO tasks VALUES(?, ?, ?, ?, ?, ?, ?, ?)", rows)
    new.close()
    os.chown(path, owner.st_uid, owner.st_gid)
    own_daemon.start()
    assert own_daemon.task(task["id"]) == {k: v for k, v in task.items() if k != "output"}
    own_daemon.run("/bin/true")
    assert [(e["seq"], e["type"]) for e in events(own_daemon)] == list(enumerate(["server.started", *LIFE], 1))
