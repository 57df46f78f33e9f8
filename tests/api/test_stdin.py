"""Standard input that stays open: streamed into a running task, ended, and what happens when one side is slow or gone."""
import hashlib
import http.client
import os
import signal
import socket
import time

import pytest

from conftest import UnixConnection, wait_until

CAT = ("/bin/sh", "-c", "cat; echo END")


def put(daemon, task, body=b"", query="", timeout=60):
    return daemon.request("PUT", f"/v1/tasks/{task['id']}/stdin{query}", body, {"Content-Type": "application/octet-stream"},
                          timeout=timeout)


def logs(daemon, task):
    return daemon.get(f"/v1/tasks/{task['id']}/logs").body


def refused(reply, status, code):
    assert (reply.status, reply.json["code"]) == (status, code), reply.body


def remove(daemon, task):
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def start(daemon, *command, **spec):
    return daemon.start_task(*command, stdin={"open": True}, **spec)


def open_put(daemon, task, query="", length=None):
    """A request whose body is still to come."""
    connection = UnixConnection(daemon.socket)
    connection.putrequest("PUT", f"/v1/tasks/{task['id']}/stdin{query}")
    connection.putheader(*(("Content-Length", str(length)) if length else ("Transfer-Encoding", "chunked")))
    connection.endheaders()
    return connection


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_input_in_pieces_and_its_end(daemon):
    task = start(daemon, *CAT)
    assert put(daemon, task, b"one\n").status == 204
    wait_until(lambda: logs(daemon, task) == b"one\n", 10, "the first piece")
    assert put(daemon, task, b"two\n").status == 204
    assert put(daemon, task).status == 204  # nothing is no end
    assert daemon.task(task["id"])["state"] == "running"
    assert put(daemon, task, b"three\n", "?close=true").status == 204
    assert daemon.wait_ended(task["id"])["exit"]["code"] == 0
    assert logs(daemon, task) == b"one\ntwo\nthree\nEND\n"
    refused(put(daemon, task, b"x"), 409, "task_ended")
    remove(daemon, task)


def test_after_the_end_there_is_no_more(daemon):
    task = start(daemon, "/bin/sh", "-c", "cat >/dev/null; echo END; sleep 1000")
    assert put(daemon, task, query="?close=true").status == 204
    wait_until(lambda: logs(daemon, task) == b"END\n", 10, "the end of the input")
    refused(put(daemon, task, b"x"), 409, "stdin_closed")
    refused(put(daemon, task, query="?close=true"), 409, "stdin_closed")
    remove(daemon, task)


@pytest.mark.parametrize("chunked", [False, True])
def test_50_mb_of_any_bytes(daemon, chunked):
    block = os.urandom(1 << 20)
    digest = hashlib.sha256(block * 50).hexdigest()
    task = start(daemon, "/usr/bin/sha256sum")
    connection = open_put(daemon, task, "?close=true", None if chunked else 50 << 20)
    for _ in range(50):
        connection.send(chunk(block) if chunked else block)
    if chunked:
        connection.send(b"0\r\n\r\n")
    assert connection.getresponse().status == 204
    daemon.wait_ended(task["id"])
    assert logs(daemon, task).split()[0].decode() == digest
    remove(daemon, task)


def fill(connection, seconds=1):
    """Sends until nothing has been taken for a while; how much that was."""
    sent = 0
    connection.sock.settimeout(seconds)
    try:
        while sent < 100 << 20:
            sent += connection.sock.send(b"z" * 65536)
    except socket.timeout:
        pass
    return sent


def test_a_task_that_does_not_read_stops_its_client_alone(daemon):
    task = start(daemon, "/bin/sh", "-c", "while [ ! -e /local/go ]; do sleep 0.05; done; wc -c")
    connection = open_put(daemon, task, "?close=true", 20 << 20)
    sent = fill(connection)
    assert sent < 4 << 20  # pipe, and buffers of sockets
    began = time.monotonic()
    assert daemon.get("/v1/tasks").status == 200 and daemon.get("/healthz").status == 200
    assert time.monotonic() - began < 5
    refused(put(daemon, task, b"x"), 409, "stdin_busy")
    go = f"/v1/tasks/{task['id']}/files/local/go"
    assert daemon.request("PUT", go, b"").status == 201
    connection.sock.settimeout(60)
    connection.sock.sendall(b"z" * ((20 << 20) - sent))
    assert connection.getresponse().status == 204
    daemon.wait_ended(task["id"])
    assert int(logs(daemon, task)) == 20 << 20
    daemon.assert_server_is_small()
    remove(daemon, task)


def test_a_client_that_leaves_is_no_end(daemon):
    task = start(daemon, *CAT)
    connection = open_put(daemon, task, "?close=true")
    connection.send(chunk(b"half\n"))
    wait_until(lambda: logs(daemon, task) == b"half\n", 10, "what was sent")
    connection.close()
    wait_until(lambda: put(daemon, task, b"more\n").status == 204, 10, "its place")
    assert put(daemon, task, query="?close=true").status == 204
    daemon.wait_ended(task["id"])
    assert logs(daemon, task) == b"half\nmore\nEND\n"
    remove(daemon, task)


def test_a_blocked_client_that_leaves_frees_its_place(daemon):
    task = start(daemon, "/bin/sleep", "1000")
    connection = open_put(daemon, task, length=20 << 20)
    fill(connection)
    connection.close()
    end = put(daemon, task, query="?close=true")
    if end.status == 409:
        wait_until(lambda: put(daemon, task, query="?close=true").status == 204, 10, "its place")
    remove(daemon, task)


def test_a_client_may_take_its_time(daemon):
    task = start(daemon, *CAT)
    connection = open_put(daemon, task, "?close=true")
    for i in range(5):
        connection.send(chunk(b"%d\n" % i))
        wait_until(lambda: logs(daemon, task).endswith(b"%d\n" % i), 10, "a line")
    connection.send(b"0\r\n\r\n")
    assert connection.getresponse().status == 204
    daemon.wait_ended(task["id"])
    assert logs(daemon, task) == b"0\n1\n2\n3\n4\nEND\n"
    remove(daemon, task)


def test_a_task_that_closes_its_input_or_ends(daemon):
    task = start(daemon, "/bin/sh", "-c", "exec <&-; echo closed; sleep 1000")
    wait_until(lambda: logs(daemon, task) == b"closed\n", 10, "the closed input")
    refused(put(daemon, task, b"x"), 409, "stdin_closed")
    remove(daemon, task)
    task = start(daemon, "/bin/sh", "-c", "head -c 10; exit 3")
    reply = put(daemon, task, b"y" * (8 << 20))
    refused(reply, 409, "stdin_closed")
    assert daemon.wait_ended(task["id"])["exit"]["code"] == 3
    remove(daemon, task)


def test_tasks_without_an_open_input(daemon):
    for spec in ({}, {"stdin": "text"}, {"stdin": {"open": False}}):
        task = daemon.start_task("/bin/sleep", "1000", **spec)
        refused(put(daemon, task, b"x"), 409, "stdin_not_open")
        remove(daemon, task)
    refused(daemon.request("PUT", "/v1/tasks/none/stdin", b"x"), 404, "task_not_found")
    for bad in ({}, {"open": 1}, {"open": True, "x": 1}, 5, None, []):
        reply = daemon.post("/v1/tasks?dry_run=true", {"command": "/bin/true", "stdin": bad})
        assert reply.status == 422 and reply.json["errors"][0]["pointer"].startswith("/stdin"), reply.body
    plan = daemon.post("/v1/tasks?dry_run=true", {"command": "/bin/true", "stdin": {"open": True}}).json
    assert plan["spec"]["stdin"] == {"open": True}


def test_each_run_has_a_pipe_of_its_own(daemon):
    task = start(daemon, "/bin/sh", "-c", "echo run; cat")
    connection = open_put(daemon, task, "?close=true")
    connection.send(chunk(b"first\n"))
    wait_until(lambda: logs(daemon, task) == b"run\nfirst\n", 10, "the first run's input")
    assert daemon.post(f"/v1/tasks/{task['id']}/restart", {}).status in (200, 202, 204)
    wait_until(lambda: logs(daemon, task) == b"run\nfirst\nrun\n", 15, "the second run")
    connection.send(chunk(b"late\n") + b"0\r\n\r\n")
    reply = connection.getresponse()
    assert reply.status == 409 and b"stdin_closed" in reply.read()
    assert put(daemon, task, b"second\n", "?close=true").status == 204
    daemon.wait_ended(task["id"])
    assert logs(daemon, task) == b"run\nfirst\nrun\nsecond\n"
    remove(daemon, task)


def test_the_servers_death_is_no_end(own_daemon):
    d = own_daemon
    task = start(d, *CAT)
    connection = open_put(d, task, "?close=true")
    connection.send(chunk(b"before\n"))
    wait_until(lambda: logs(d, task) == b"before\n", 10, "what was sent")
    server = d.server_pid()
    os.kill(server, signal.SIGKILL)
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.getresponse()
    wait_until(lambda: any(name == "cloister-server" and pid != server for pid, name in d.children().items()) and
               d.ready(), 20, "the next server")
    assert d.task(task["id"])["state"] == "running"
    assert put(d, task, b"after\n", "?close=true").status == 204
    d.wait_ended(task["id"])
    assert logs(d, task) == b"before\nafter\nEND\n"


def test_input_is_the_operators(daemon):
    task = start(daemon, "/bin/sleep", "1000")
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    connection.request("PUT", f"/v1/tasks/{task['id']}/stdin", b"x")
    assert connection.getresponse().status == 401
    remove(daemon, task)
