"""What comes at once is stored at once: many changes, one commit; and one that cannot be stored harms no other."""
import contextlib
import http.client
import json
import os
import re
import signal
import sqlite3
import time

import pytest

from conftest import BINARY, Daemon, Reply, UnixConnection, wait_until
from fault_sweep import traced
from test_events import events, of_task

WAITS = {"command": "/bin/true", "queue": True}


@pytest.fixture
def full():
    """One task takes the only place, so what comes waits, and nothing but its creation is stored."""
    d = Daemon(BINARY, "--max-tasks", "1")
    d.start_task("/bin/sleep", "900", name="first")
    yield d
    d.stop()


@contextlib.contextmanager
def in_one_turn(daemon, requests):
    """Their connections; the server sees all of the (method, path, body, headers) when it wakes up, at the end."""
    connections = [UnixConnection(daemon.socket) for _ in requests]
    for c in connections:
        c.request("GET", "/healthz")
        Reply(c.getresponse())
    os.kill(daemon.server_pid(), signal.SIGSTOP)
    try:
        for c, (method, path, body, headers) in zip(connections, requests):
            c.request(method, path, body, headers)
        yield connections
    finally:
        os.kill(daemon.server_pid(), signal.SIGCONT)


def at_once(daemon, *posts):
    """The replies to these (body, headers)."""
    json_type = {"Content-Type": "application/json"}
    with in_one_turn(daemon, [("POST", "/v1/tasks?timeout=0s", json.dumps(body), {**json_type, **headers})
                              for body, headers in posts]) as connections:
        pass
    return [Reply(c.getresponse()) for c in connections]


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


def commits(daemon):
    text = daemon.get("/metrics").body.decode()
    return int(re.search(r"^cloister_store_commit_duration_seconds_count (\d+)$", text, re.M)[1])


@contextlib.contextmanager
def database(daemon):
    with contextlib.closing(sqlite3.connect(daemon.dir / "state/server/cloister.db", isolation_level=None)) as db:
        yield db


def restart_server(daemon):
    daemon.process.kill()
    daemon.process.wait()
    daemon.start()


def test_many_creations_take_few_commits(full):
    before = commits(full)
    replies = at_once(full, *[(WAITS, {})] * 100)
    assert [r.status for r in replies] == [201] * 100
    assert 2 <= commits(full) - before <= 10  # a commit takes 64 of them, and their events
    ids = {r.json["id"] for r in replies}
    assert len(ids) == 100 and all(r.json["state"] == "pending" for r in replies)
    full.process.kill()
    full.process.wait()
    with database(full) as db:
        assert ids <= {row[0] for row in db.execute("SELECT id FROM tasks")}
    full.start()
    for task in list(ids)[:5]:
        assert of_task(full, {"id": task}) == ["task.created", "task.pending"]


def test_many_that_run_at_once_all_run(own_daemon):
    replies = at_once(own_daemon, *[({"command": "/bin/sh", "args": ["-c", f"exit {n}"]}, {}) for n in range(30)])
    assert [r.status for r in replies] == [201] * 30
    assert [own_daemon.wait_ended(r.json["id"])["exit"]["code"] for r in replies] == list(range(30))


def test_many_removals_take_few_commits(own_daemon):
    d, launcher, server = own_daemon, own_daemon.process.pid, own_daemon.server_pid()
    ids = [d.run("/bin/true")["id"] for _ in range(20)]
    before = commits(d)
    with stopped(launcher):
        with in_one_turn(d, [("DELETE", f"/v1/tasks/{i}", None, {}) for i in ids]) as connections:
            pass
        wait_until(lambda: commits(d) > before)
        with database(d) as db:
            wait_until(lambda: db.execute("SELECT count(*) FROM tasks WHERE state & 256").fetchone() == (20,))
        os.kill(server, signal.SIGSTOP)
    wait_until(lambda: not list((d.dir / "state/tasks").iterdir()))
    time.sleep(0.2)  # the launcher answers
    os.kill(server, signal.SIGCONT)
    assert [Reply(c.getresponse()).status for c in connections] == [204] * 20
    assert 2 <= commits(d) - before <= 8
    assert d.get("/v1/tasks").json["items"] == []
    assert sorted(e["task"] for e in events(d, "&type=task.removed")) == sorted(ids)


def test_a_removal_is_stored_before_it_begins(own_daemon):
    """Also that of a failed start, or by force, which begins as the end of the task is told."""
    d = own_daemon
    task = d.start_task("/bin/sleep", "900")
    client = UnixConnection(d.socket)
    with stopped(d.process.pid), database(d) as db, traced(d.server_pid(), "-e", "trace=fdatasync,sendmsg") as trace:
        client.request("DELETE", f"/v1/tasks/{task['id']}?force=true")
        wait_until(lambda: db.execute("SELECT count(*) FROM tasks WHERE state & 256").fetchone() == (1,))
        time.sleep(0.3)
    assert Reply(client.getresponse()).status == 204
    calls = re.findall(r"^(\w+)\(", trace.text, re.M)
    assert calls.count("fdatasync") >= 2 and calls[-1] == "sendmsg", trace.text


def waiting(daemon, number):
    """A task that takes the room, and as many that wait for it."""
    first = daemon.start_task("/bin/sleep", "900", resources={"memory": 980})
    waits = [daemon.post("/v1/tasks?timeout=0s", {**WAITS, "resources": {"memory": 40}}).json for _ in range(number)]
    assert [t["state"] for t in waits] == ["pending"] * number
    return first, waits


@pytest.fixture
def crowded():
    d = Daemon(BINARY, "--memory-total-mb", "1000")
    yield d
    d.stop()


LIFE = ["task.created", "task.pending", "task.starting", "task.running", "task.exited"]


def test_many_that_waited_start_with_few_commits(crowded):
    first, waits = waiting(crowded, 20)
    before = commits(crowded)
    with stopped(crowded.process.pid):
        reply = crowded.request("PATCH", f"/v1/tasks/{first['id']}", {"resources": {"memory": 100}})
        assert reply.status == 200, reply.body
        wait_until(lambda: len(crowded.get("/v1/tasks?state=starting").json["items"]) == 20)
        assert 2 <= commits(crowded) - before <= 8
    for t in waits:
        assert crowded.wait_ended(t["id"])["exit"]["code"] == 0 and of_task(crowded, t) == LIFE


def test_who_waited_waits_on_while_the_store_takes_nothing(crowded):
    first, waits = waiting(crowded, 5)
    with database(crowded) as db:
        db.execute("BEGIN IMMEDIATE")
        os.kill(first["pid"], signal.SIGKILL)
        wait_until(lambda: "cannot be started now" in (crowded.dir / "log").read_text(), 20)
        assert len(crowded.get("/v1/tasks?state=pending").json["items"]) == 5
        db.execute("ROLLBACK")
    for t in waits:
        assert crowded.wait_ended(t["id"])["exit"]["code"] == 0 and of_task(crowded, t) == LIFE


def test_a_removal_whose_end_cannot_be_stored_is_refused(own_daemon):
    """Its files are gone then; it can be removed once more."""
    d = own_daemon
    task = d.run("/bin/true")
    with database(d) as db:
        with stopped(d.process.pid):
            with in_one_turn(d, [("DELETE", f"/v1/tasks/{task['id']}", None, {})]) as connections:
                pass
            wait_until(lambda: db.execute("SELECT count(*) FROM tasks WHERE state & 256").fetchone() == (1,))
            db.execute("BEGIN IMMEDIATE")
        reply = Reply(connections[0].getresponse())
        assert (reply.status, reply.json["code"]) == (503, "store")
        assert d.task(task["id"])["exit"]["code"] == 0 and of_task(d, task)[-1] == "task.exited"
        db.execute("ROLLBACK")
    assert d.request("DELETE", f"/v1/tasks/{task['id']}").status == 204
    assert [e["task"] for e in events(d, "&type=task.removed")] == [task["id"]]


def test_one_key_at_once_makes_one_task(full):
    replies = at_once(full, *[(WAITS, {"Idempotency-Key": "k"})] * 5, ({**WAITS, "args": ["x"]}, {"Idempotency-Key": "k"}))
    made = [r for r in replies if r.status == 201]
    assert len({r.json["id"] for r in made}) == 1
    assert sorted(r.headers.get("Idempotency-Replayed", "") for r in made)[1:] == ["true"] * (len(made) - 1)
    assert all(r.json["code"] == "idempotency_key_reused" for r in replies if r not in made)
    assert len(made) in (1, 5)  # whichever body came first


def test_what_cannot_be_stored_harms_no_other(full):
    """A row of a later version, which this one leaves alone, holds the key."""
    with database(full) as db:
        db.execute("INSERT INTO tasks(id, created_at, spec, state, version, status, idempotency_key, body_hash)"
                   " VALUES('later', 1, '{\"later\": 1}', 0, 1, x'', 'taken', 'x')")
    restart_server(full)
    before = full.census()
    replies = at_once(full, *[(WAITS, {})] * 5, (WAITS, {"Idempotency-Key": "taken"}), *[(WAITS, {})] * 5)
    assert [r.status for r in replies] == [201] * 5 + [409] + [201] * 5
    assert replies[5].json["code"] == "store_conflict"
    listed = {t["id"] for t in full.get("/v1/tasks?state=pending").json["items"]}
    assert listed == {r.json["id"] for r in replies if r.status == 201}
    for task in listed:
        assert full.post(f"/v1/tasks/{task}/stop").status == 202
        assert full.request("DELETE", f"/v1/tasks/{task}").status == 204
    full.assert_as_before(before)


@pytest.mark.parametrize("stop_first", [True, False])
def test_what_cannot_be_stored_is_not_started(stop_first):
    """It waits, and there is room for it, in the turn in which it comes: who waited before it is stopped, who runs ends."""
    d = Daemon(BINARY, "--max-tasks", "1")
    runs = d.start_task("/bin/sleep", "900")
    with database(d) as db:
        db.execute("INSERT INTO tasks(id, created_at, spec, state, version, status, idempotency_key, body_hash)"
                   " VALUES('later', 1, '{\"later\": 1}', 0, 1, x'', 'taken', 'x')")
    restart_server(d)
    waits = d.post("/v1/tasks?timeout=0s", WAITS).json
    server = d.server_pid()
    stop = (f"/v1/tasks/{waits['id']}/stop", {}, {})
    create = ("/v1/tasks?timeout=0s", WAITS, {"Idempotency-Key": "taken"})
    connections = [UnixConnection(d.socket) for _ in range(2)]
    for c in connections:
        c.request("GET", "/healthz")
        Reply(c.getresponse())
    os.kill(server, signal.SIGSTOP)
    for c, (path, body, headers) in zip(connections, (stop, create) if stop_first else (create, stop)):
        c.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
    os.kill(runs["pid"], signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{runs['pid']}"))
    time.sleep(0.2)  # its supervisor tells
    os.kill(server, signal.SIGCONT)
    assert sorted(Reply(c.getresponse()).status for c in connections) == [202, 409]
    assert d.wait_ended(runs["id"])["state"] == "exited"
    assert {t["id"] for t in d.get("/v1/tasks").json["items"]} == {runs["id"], waits["id"]}
    assert d.server_pid() == server
    d.stop()


def test_a_store_that_takes_nothing_refuses_them_all(full):
    before = full.census()
    with database(full) as db:
        db.execute("BEGIN IMMEDIATE")
        replies = at_once(full, *[(WAITS, {"Idempotency-Key": f"k{n}"}) for n in range(10)])
        assert [(r.status, r.json["code"]) for r in replies] == [(503, "store")] * 10
        db.execute("ROLLBACK")
    full.assert_as_before(before)
    replies = at_once(full, *[(WAITS, {"Idempotency-Key": f"k{n}"}) for n in range(10)])
    assert [(r.status, r.headers.get("Idempotency-Replayed")) for r in replies] == [(201, None)] * 10
    assert len({r.json["id"] for r in replies}) == 10


def test_a_stop_that_cannot_be_stored_is_refused(full):
    """Of a task that waits: told "stopped" it must not start after the server's death."""
    task = full.post("/v1/tasks?timeout=0s", WAITS).json
    with database(full) as db:
        db.execute("BEGIN IMMEDIATE")
        for method, path in (("POST", "/stop"), ("DELETE", "?force=true")):
            reply = full.request(method, f"/v1/tasks/{task['id']}{path}")
            assert (reply.status, reply.json["code"]) == (503, "store")
        assert full.task(task["id"])["state"] == "pending"
        full.process.kill()
        full.process.wait()
        db.execute("ROLLBACK")
    full.start()
    assert full.task(task["id"])["state"] == "pending"
    assert full.post(f"/v1/tasks/{task['id']}/stop").json["error"]["code"] == "canceled"
    restart_server(full)
    assert full.task(task["id"])["state"] == "failed"
    assert of_task(full, task) == ["task.created", "task.pending", "task.failed"]


def test_clients_that_leave_before_the_commit(full):
    """Their tasks are there all the same, as those of clients that leave later."""
    connections = [UnixConnection(full.socket) for _ in range(10)]
    for c in connections:
        c.request("GET", "/healthz")
        Reply(c.getresponse())
    os.kill(full.server_pid(), signal.SIGSTOP)
    for c in connections:
        c.request("POST", "/v1/tasks", json.dumps(WAITS), {"Content-Type": "application/json"})
        c.close()
    os.kill(full.server_pid(), signal.SIGCONT)
    assert full.get("/readyz").status == 200
    for t in full.get("/v1/tasks?state=pending").json["items"]:
        assert of_task(full, t) == ["task.created", "task.pending"]


@pytest.mark.parametrize("number", [12, 100])  # none, or 64, are stored and about to be launched
def test_a_stop_before_the_commit_leaves_no_task_that_failed(own_daemon, number):
    """Who asks again, with the same keys, has all tasks, and each of them once."""
    posts = [({"command": "/bin/true"}, {"Idempotency-Key": f"k{n}"}) for n in range(number)]
    server = own_daemon.server_pid()
    kill, stopped = os.kill, []

    def kill_and_stop(pid, signum):  # all comes in one turn
        if signum == signal.SIGCONT:
            own_daemon.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "stopping" in (own_daemon.dir / "log").read_text())
            stopped.append(pid)
        kill(pid, signum)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(OSError, http.client.HTTPException):
        patch.setattr(os, "kill", kill_and_stop)
        at_once(own_daemon, *posts)
    assert stopped == [server] and own_daemon.process.wait(20) == 0
    own_daemon.start()
    replies = [own_daemon.post("/v1/tasks", body, headers=headers) for body, headers in posts]
    assert [r.status for r in replies] == [201] * number
    ids = {r.json["id"] for r in replies}
    assert len(ids) == number and {own_daemon.wait_ended(task)["state"] for task in ids} == {"exited"}
    assert {t["id"] for t in own_daemon.get("/v1/tasks?limit=1000").json["items"]} == ids
