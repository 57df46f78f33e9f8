"""Bad input gets a 4xx that names the field, and leaves nothing behind."""
import json

import pytest

TRUE = "/bin/true"
SPECS = [  # body, status, pointer or code
    ({}, 422, "/command"),
    ({"command": 5}, 422, "/command"),
    ({"command": ""}, 422, "/command"),
    ({"command": TRUE, "bogus": 1}, 422, "/bogus"),
    ({"command": TRUE, "args": "x"}, 422, "/args"),
    ({"command": TRUE, "args": [1]}, 422, "/args/0"),
    ({"command": TRUE, "env": {"A=B": "c"}}, 422, None),
    ({"command": TRUE, "work_dir": "relative"}, 422, "/work_dir"),
    ({"command": TRUE, "resources": {"memory": 0}}, 422, "/resources/memory"),
    ({"command": TRUE, "resources": {"pids": -1}}, 422, "/resources/pids"),
    ({"command": TRUE, "resources": {"memory": 1e300}}, 422, "/resources/memory"),
    ({"command": TRUE, "resources": {"cpu": 1.5}}, 422, "/resources/cpu"),
    ({"command": TRUE, "user": "no-such-user"}, 422, "/user"),
    ({"command": TRUE, "user": "4294967296"}, 422, "/user"),
    ({"command": TRUE, "user": "-1"}, 422, "/user"),
    ({"command": TRUE, "user": "root"}, 403, "/user"),
    ({"command": TRUE, "user": "0"}, 403, "/user"),
    ({"command": TRUE, "cap_add": ["no_such_cap"]}, 422, "/cap_add/0"),
    ({"command": TRUE, "cap_drop": ["no_such_cap"]}, 422, "/cap_drop/0"),
    ({"command": TRUE, "cap_add": ["sys_admin"]}, 403, "/cap_add/0"),
    ({"command": TRUE, "kill_signal": "SIGNONE"}, 422, "/kill_signal"),
    ({"command": TRUE, "kill_timeout": "-1s"}, 422, "/kill_timeout"),
    ({"command": TRUE, "pid_mode": "shared"}, 422, "/pid_mode"),
    ({"command": TRUE, "name": "a/b"}, 422, "/name"),
    ({"command": "/no/such/file"}, 422, "/command"),
    ({"command": "/usr/bin"}, 422, "/command"),
    ({"command": "/etc/passwd"}, 422, "/command"),
    ({"command": "no-such-command"}, 422, "/command"),
    ({"command": TRUE, "work_dir": "/etc/passwd"}, 422, "/work_dir"),
]
BODIES = [
    (b"", 400), (b"{", 400), (b"[]", 422), (b"null", 422), (b'{"command":"/bin/true"} x', 400),
    (b'{"command":"/bin/true","command":"/bin/false"}', 422), (b'{"command":"/bin/tr\\u0000ue"}', 400),
    (b'{"command":"/bin/\xff"}', 400), (b'{"command":"a\nb"}', 400), (b'{"command":01}', 400),
    (b'{"command":' + b"[" * 10000 + b"]" * 10000 + b"}", 400), (b"\xef\xbb\xbf{}", 400), (b"{'command':1}", 400),
    (b'{"command":"/bin/true","args":["' + b"x" * (1 << 20) + b'"]}', 413), (b'{"command":"\\ud800"}', 400),
]


@pytest.fixture
def nothing_left(daemon):
    before = daemon.census()
    yield
    daemon.assert_as_before(before)


@pytest.mark.parametrize("body,status,pointer", SPECS, ids=lambda v: json.dumps(v)[:60])
def test_bad_spec(daemon, nothing_left, body, status, pointer):
    reply = daemon.post("/v1/tasks?wait=exited", body)
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"] == "application/problem+json" and reply.json["status"] == status
    if pointer:
        assert reply.json["errors"][0]["pointer"] == pointer, reply.body


@pytest.mark.parametrize("body,status", BODIES, ids=lambda v: repr(v)[:40])
def test_bad_body(daemon, nothing_left, body, status):
    reply = daemon.post("/v1/tasks", body)
    assert reply.status == status and reply.json["status"] == status, reply.body


def test_script_with_a_missing_interpreter(own_daemon):
    # The script must be inside before the start: a volume would do; a file of the host's /usr does too.
    import os
    path = "/usr/local/bin/cloister-test-no-interpreter"
    with open(path, "w", encoding="ascii") as f:
        f.write("#!/no/such/interpreter\n")
    os.chmod(path, 0o755)
    try:
        before = own_daemon.census()
        reply = own_daemon.post("/v1/tasks", {"command": path})
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/command", reply.body
        own_daemon.assert_as_before(before)
    finally:
        os.unlink(path)


@pytest.mark.parametrize("path", ["/v1/tasks?bogus=1", "/v1/tasks?state=odd", "/v1/tasks?limit=0", "/v1/tasks?limit=x",
                                  "/v1/tasks?cursor=..", "/v1/tasks?order=up", "/v1/tasks?label=noequals",
                                  "/v1/tasks?name=%zz"])
def test_bad_query(daemon, path):
    assert daemon.get(path).status == 400


@pytest.mark.parametrize("body,status", [({"a": 1}, 422), ([], 422), ("x", 400)])
def test_bad_body_of_gc(daemon, body, status):
    task = daemon.run("/bin/true")["id"]
    assert daemon.post("/v1/gc", body).status == status
    assert daemon.get(f"/v1/tasks/{task}").status == 200


@pytest.mark.parametrize("path", ["/v1/tasks?order=%C3%28", "/v1/tasks?%ff=1", "/v1/tasks/%ff%fe", "/v1/attributes/%ff",
                                  "/v1/tasks/" + "a" * 63 + "%e2%82%ac", "/v1/tasks/x%ff/execs/y"])
def test_a_problem_is_json_whatever_it_quotes(daemon, path):
    reply = daemon.get(path)
    assert reply.status in (400, 404) and reply.json["status"] == reply.status, reply.body


@pytest.mark.parametrize("query", ["limit=1&limit=2", "state=running&state=exited", "name=a&name=a"])
def test_a_parameter_that_stands_twice_is_refused_by_name(daemon, query):
    reply = daemon.get(f"/v1/tasks?{query}")
    assert reply.status == 400 and query.partition("=")[0] in reply.json["detail"], reply.body
    assert daemon.get("/v1/tasks?label=a=1&label=b=2").status == 200
    assert daemon.get("/v1/events?type=task.&type=exec.&label=a=1&label=b=2").status == 200


@pytest.mark.parametrize("path", ["/v1/events", "/v1/tasks/{id}/logs?format=sse"])
def test_a_bad_last_event_id_is_told_as_a_header(daemon, path):
    task = daemon.run("/bin/true")["id"]
    reply = daemon.get(path.format(id=task), headers={"Last-Event-ID": "x"})
    assert reply.status == 400 and reply.json["detail"].startswith("the header Last-Event-ID"), reply.body


@pytest.mark.parametrize("query", ["wait=soon", "output=true", "timeout=later", "dry_run=1"])
def test_bad_query_of_create(daemon, nothing_left, query):
    assert daemon.post(f"/v1/tasks?{query}", {"command": TRUE}).status == 400
