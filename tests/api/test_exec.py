"""POST /v1/tasks/{id}/exec and the sessions' resources: what a session is, has, may and leaves."""
import base64
import concurrent.futures
import json
import os
import pathlib
import signal
import threading
import time

import pytest

from conftest import UnixConnection, wait_until

# What a session must have in common with its task, from /proc/PID/status.
SAME = ["Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
        "NoNewPrivs", "Seccomp", "Seccomp_filters", "Cpus_allowed", "Mems_allowed"]


@pytest.fixture
def task(daemon):
    t = daemon.start_task("/bin/sleep", "1000", work_dir="/local")
    yield t
    assert daemon.request("DELETE", f"/v1/tasks/{t['id']}?force=true").status == 204


def execute(daemon, task, *command, **more):
    return daemon.post(f"/v1/tasks/{task['id']}/exec", {"command": command[0], "args": list(command[1:]), **more})


def run(daemon, task, *command, **more):
    reply = execute(daemon, task, *command, **more)
    assert reply.status == 200, reply.body
    return reply.json


def sh(daemon, task, script, **more):
    return run(daemon, task, "/bin/sh", "-c", script, **more)


def execs(daemon, task):
    return daemon.get(f"/v1/tasks/{task['id']}/execs").json["items"]


def start(daemon, task, *command, **more):
    """A session that goes on; its id."""
    before = {x["id"] for x in execs(daemon, task)}
    threading.Thread(target=lambda: safely(execute, daemon, task, *command, **more), daemon=True).start()
    new = wait_until(lambda: [x for x in execs(daemon, task) if x["id"] not in before and x["state"] == "running"],
                     what="the session")
    return new[0]["id"]


def safely(fn, *args, **more):
    try:
        fn(*args, **more)
    except OSError:  # the server was killed meanwhile
        pass


def test_output_and_exit(daemon, task):
    x = sh(daemon, task, "echo out; echo err >&2; exit 7")
    assert x["exit"] == {"code": 7, "signal": None} and not x["timed_out"]
    assert x["output"] == {"stdout": "out\n", "stderr": "err\n", "encoding": "utf-8", "truncated": False}


@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 128, 137, 255])
def test_exit_codes(daemon, task, code):
    assert sh(daemon, task, f"exit {code}")["exit"] == {"code": code, "signal": None}


def test_signals_are_told(daemon, task):
    assert sh(daemon, task, "kill -USR1 $$")["exit"] == {"code": None, "signal": "SIGUSR1"}


def test_stdin_env_work_dir(daemon, task):
    x = sh(daemon, task, "cat; echo $A:$B; pwd", stdin="given\n", env={"B": "2"}, work_dir="/alloc")
    assert x["output"]["stdout"] == "given\n:2\n/alloc\n"
    assert sh(daemon, task, "pwd; cat")["output"]["stdout"] == "/local\n"  # the task's; stdin is empty


def test_binary_and_long_output(daemon, task):
    x = run(daemon, task, "/usr/bin/head", "-c", "100000", "/dev/urandom")
    assert x["output"]["encoding"] == "base64" and len(base64.b64decode(x["output"]["stdout"])) == 100000
    x = sh(daemon, task, "head -c 3000000 /dev/zero | tr '\\0' x")
    assert x["output"]["truncated"] and x["output"]["stdout"] == "x" * (1 << 20)


@pytest.mark.parametrize("spec", [
    {}, {"user": "daemon"}, {"cap_drop": ["all"], "cap_add": ["chown", "kill"]}, {"no_new_privs": False},
    {"resources": {"rlimits": {"nofile": [100, 200]}}, "oom_score_adj": 300}, {"ipc_mode": "host"}])
def test_credentials_are_the_tasks(daemon, spec):
    task = daemon.start_task("/bin/sleep", "1000", **spec)
    of = {}
    for pid in ("1", "self"):
        out = run(daemon, task, "/bin/cat", f"/proc/{pid}/status", f"/proc/{pid}/limits",
                  f"/proc/{pid}/oom_score_adj")["output"]["stdout"]
        fields = dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)
        of[pid] = [{k: fields[k] for k in SAME}, out[out.index("Limit"):]]
        names = run(daemon, task, "/bin/sh", "-c", f"cd /proc/{pid.replace('self', '$$')}/ns && readlink *")
        of[pid].append(names["output"]["stdout"])
    assert of["1"] == of["self"]
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_it_is_in_the_tasks_groups(daemon, task):
    groups = {}
    for pid in ("1", "self"):
        groups[pid] = run(daemon, task, "/bin/cat", f"/proc/{pid}/cgroup")["output"]["stdout"].splitlines()
    for own, its in zip(groups["1"], groups["self"]):
        assert its == own or its.startswith(own.rstrip("/") + "/exec-")


def test_another_user(daemon, task):
    x = run(daemon, task, "/usr/bin/id", user="daemon")
    assert x["output"]["stdout"].startswith("uid=1(daemon) gid=1(daemon)")
    assert sh(daemon, task, "echo $USER", user="daemon")["output"]["stdout"] == "daemon\n"


@pytest.mark.parametrize("field,more,status", [
    ("/command", {"command": "/no/such"}, 422), ("/command", {"command": "/etc"}, 422),
    ("/command", {"command": "/etc/passwd"}, 422), ("/command", {}, 422), ("/user", {"user": "root"}, 403),
    ("/user", {"user": "0:0"}, 403), ("/user", {"user": "no-such-account"}, 422), ("/tty", {"tty": True}, 422),
    ("/work_dir", {"work_dir": "/no/such"}, 422), ("/work_dir", {"work_dir": "/secrets", "user": "daemon"}, 422),
    ("/work_dir", {"work_dir": "/etc/passwd"}, 422), ("/rows", {"rows": 10}, 422), ("/bogus", {"bogus": 1}, 422),
    ("/timeout", {"timeout": "-1s"}, 422), ("/stdin", {"stdin": 5}, 422)])
def test_errors_name_the_field(daemon, task, field, more, status):
    before = execs(daemon, task)
    body = {"command": "/bin/true", **more} if more else {}
    reply = daemon.post(f"/v1/tasks/{task['id']}/exec", body)
    assert reply.status == status and reply.json["errors"][0]["pointer"] == field, reply.body
    assert execs(daemon, task) == before
    directory = daemon.dir / "state/tasks" / task["id"] / "execs"
    assert not directory.exists() or len(os.listdir(directory)) == len(before)


def test_only_in_a_running_task(daemon):
    ended = daemon.run("/bin/true")
    assert daemon.post(f"/v1/tasks/{ended['id']}/exec", {"command": "/bin/true"}).status == 409
    assert daemon.post("/v1/tasks/none/exec", {"command": "/bin/true"}).json["code"] == "task_not_found"


def test_not_in_a_paused_task_and_paused_with_it(daemon, task):
    eid = start(daemon, task, "/bin/sh", "-c", "while :; do echo x; sleep 0.01; done")
    path = f"/v1/tasks/{task['id']}"
    assert daemon.post(f"{path}/pause").status in (200, 202, 204)
    wait_until(lambda: daemon.task(task["id"])["state"] == "paused", what="the pause")
    assert daemon.post(f"{path}/exec", {"command": "/bin/true"}).json["code"] == "task_not_running"
    size = lambda: len(daemon.get(f"{path}/execs/{eid}/logs").body)
    time.sleep(0.5)  # what was in the pipe is read
    before = size()
    time.sleep(0.3)
    assert size() == before
    assert daemon.post(f"{path}/resume").status in (200, 202, 204)
    wait_until(lambda: size() > before, what="more output")


def test_a_restart_ends_its_sessions(daemon, task):
    start(daemon, task, "/bin/sleep", "1000")
    assert daemon.post(f"/v1/tasks/{task['id']}/restart").status in (200, 202, 204)
    wait_until(lambda: execs(daemon, task)[0]["state"] == "exited", what="its end")
    wait_until(lambda: daemon.task(task["id"])["state"] == "running", what="the next run")
    assert sh(daemon, task, "echo again")["output"]["stdout"] == "again\n"


def test_a_timeout_kills_all_of_it(daemon, task):
    before = daemon.processes()
    x = sh(daemon, task, "setsid sleep 1234 & trap '' TERM INT HUP; sleep 1000", timeout="500ms")
    assert x["timed_out"] and x["exit"] == {"code": None, "signal": "SIGKILL"}
    assert daemon.processes() == before


def test_what_it_leaves_behind_ends_with_it(daemon, task):
    before = daemon.processes()
    assert sh(daemon, task, "(setsid sleep 1234 &) ; exit 0")["exit"]["code"] == 0
    assert daemon.processes() == before


def test_nothing_is_left(daemon, task):
    before = daemon.census()
    time.sleep(1)  # by then it watches for kills, through a descriptor
    supervisor = next(p for p, n in daemon.children().items() if str(task["pid"]) in pathlib.Path(
        f"/proc/{p}/task/{p}/children").read_text().split())
    fds = len(os.listdir(f"/proc/{supervisor}/fd"))
    for _ in range(20):
        sh(daemon, task, "echo x; exit 1")
        execute(daemon, task, "/no/such")
    wait_until(lambda: len(os.listdir(f"/proc/{supervisor}/fd")) == fds, what="the close of the last channel")
    assert pathlib.Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split() == [str(task["pid"])]
    assert not [g for top in daemon.parents() for g in top.rglob("exec-*")]
    daemon.assert_as_before(before)


def test_a_hundred_at_once(daemon, task):
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        results = list(pool.map(lambda i: sh(daemon, task, f"sleep 0.2; echo {i}; exit {i}"), range(100)))
    assert [x["exit"]["code"] for x in results] == list(range(100))
    assert [x["output"]["stdout"] for x in results] == [f"{i}\n" for i in range(100)]


def test_ended_sessions_are_kept_up_to_a_number(daemon, task):
    for i in range(70):
        last = sh(daemon, task, f"echo {i}")
    items = execs(daemon, task)
    assert len(items) == 70  # those of the last minute may not have been read yet
    for record in (daemon.dir / "state/tasks" / task["id"] / "execs").glob("*/record"):
        os.utime(record, (time.time() - 61, time.time() - 61))
    last = sh(daemon, task, "echo 69")
    items = execs(daemon, task)
    assert len(items) == 64 and items[0]["id"] == last["id"]
    assert [x["id"] for x in items] == sorted((x["id"] for x in items), reverse=True)
    logs = daemon.get(f"/v1/tasks/{task['id']}/execs/{last['id']}/logs")
    assert logs.body == b"69\n"


def test_at_the_pids_limit_it_is_refused_by_name(daemon):
    task = daemon.start_task("/bin/sleep", "1000", resources={"pids": 2})
    one = start(daemon, task, "/bin/sleep", "1000")
    reply = execute(daemon, task, "/bin/true")
    assert reply.status == 409 and reply.json["code"] == "pids_limit" and reply.json["step"] == "cgroup_attach"
    assert daemon.post(f"/v1/tasks/{task['id']}/execs/{one}/signal", {"signal": "KILL"}).status == 204
    wait_until(lambda: execute(daemon, task, "/bin/true").status == 200, what="room for a process")
    assert sh(daemon, task, "/bin/true & wait $!; true")["exit"]["code"] != 0  # it may run, but not fork
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_listing_one_and_signal(daemon, task):
    eid = start(daemon, task, "/bin/sh", "-c", "trap 'echo caught; exit 5' USR1; echo ready; sleep 1000 & wait")
    path = f"/v1/tasks/{task['id']}/execs/{eid}"
    one = daemon.get(path).json
    assert one == execs(daemon, task)[0]
    assert one["command"] == "/bin/sh" and one["args"][0] == "-c" and one["user"] == "nobody" and not one["tty"]
    assert one["exit"] is None and one["finished_at"] is None and one["started_at"]
    wait_until(lambda: daemon.get(path + "/logs").body == b"ready\n", what="its output")
    assert daemon.post(path + "/signal", {"signal": "USR1"}).status == 204
    ended = wait_until(lambda: (x := daemon.get(path).json)["state"] == "exited" and x, what="its end")
    assert ended["exit"] == {"code": 5, "signal": None} and ended["finished_at"] > ended["started_at"]
    assert daemon.get(path + "/logs?stream=stdout").body == b"ready\ncaught\n"
    assert daemon.post(path + "/signal", {"signal": "USR1"}).status == 409
    assert daemon.post(path + "/signal", {"signal": "NONE"}).status == 422
    assert daemon.get(f"/v1/tasks/{task['id']}/execs/{task['id']}").json["code"] == "exec_not_found"
    assert daemon.get(f"/v1/tasks/{task['id']}/execs/..%2e").status in (400, 404)


def test_logs_can_be_followed(daemon, task):
    eid = start(daemon, task, "/bin/sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; echo e >&2")
    reply = daemon.get(f"/v1/tasks/{task['id']}/execs/{eid}/logs?follow=true&stream=stdout")
    assert reply.body == b"1\n2\n3\n4\n5\n"
    assert daemon.get(f"/v1/tasks/{task['id']}/execs/{eid}/logs?stream=stderr").body == b"e\n"
    assert daemon.get(f"/v1/tasks/{task['id']}/execs/{eid}/logs?stream=x").status == 400


def test_a_session_ends_with_its_task(daemon):
    task = daemon.start_task("/bin/sleep", "1000")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(execute, daemon, task, "/bin/sleep", "1000")
        wait_until(lambda: [x for x in execs(daemon, task) if x["state"] == "running"], what="the session")
        assert daemon.post(f"/v1/tasks/{task['id']}/stop", {"timeout": "0s"}).status == 202
        assert waiting.result(20).json["exit"] == {"code": None, "signal": "SIGKILL"}
    daemon.wait_ended(task["id"])
    assert execs(daemon, task)[0]["state"] == "exited"


def test_the_list_outlives_the_server(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sleep", "1000")
    done = sh(d, task, "echo kept; exit 4")
    eid = start(d, task, "/bin/sh", "-c", "echo one; sleep 1000")
    before = execs(d, task)
    os.kill(d.server_pid(), signal.SIGKILL)
    wait_until(lambda: safe_ready(d), 20, "the server's return")
    assert execs(d, task) == before and [x["id"] for x in before] == [eid, done["id"]]
    assert d.get(f"/v1/tasks/{task['id']}/execs/{done['id']}/logs").body == b"kept\n"
    assert d.post(f"/v1/tasks/{task['id']}/execs/{eid}/signal", {"signal": "TERM"}).status == 204
    ended = wait_until(lambda: (x := execs(d, task)[0])["state"] == "exited" and x, what="its end")
    assert ended["exit"]["signal"] == "SIGTERM"


def safe_ready(d):
    try:
        return d.get("/readyz").status == 200
    except OSError:
        return False


def test_a_lost_task_loses_its_sessions(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sleep", "1000")
    supervisor = next(p for p, n in d.children().items() if n == "cloister-task")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(execute, d, task, "/bin/sleep", "1000")
        wait_until(lambda: [x for x in execs(d, task) if x["state"] == "running"], what="the session")
        os.kill(supervisor, signal.SIGKILL)
        reply = waiting.result(20)
    assert reply.status == 500 and reply.json["code"] == "session_lost"
    assert d.wait_ended(task["id"])["state"] == "lost"
    assert execs(d, task)[0]["state"] == "lost" and not d.processes()


def test_a_monitor_may_not(daemon, task):
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)
    connection.request("POST", f"/v1/tasks/{task['id']}/exec", '{"command":"/bin/true"}',
                       {"Content-Type": "application/json"})
    assert connection.getresponse().status == 401
    connection.close()


# --- against the task's own processes ---------------------------------------------------------------------------------

def test_fds_are_three(daemon, task):
    script = "import os; print(sorted(int(f) for f in os.listdir('/proc/self/fd')))"
    assert run(daemon, task, "/usr/bin/python3", "-c", script)["output"]["stdout"] == "[0, 1, 2, 3]\n"  # 3: the listing


def test_magic_links_lead_nowhere(daemon, task):
    """CVE-2024-21626: a working directory or command through an fd of ours."""
    sh(daemon, task, "for i in 3 4 5 6 7 8 9; do ln -s /proc/self/fd/$i /local/fd$i; done; ln -s /proc/1/root /local/r")
    for n in range(3, 20):
        for path in (f"/proc/self/fd/{n}", f"/local/fd{n}", f"/proc/self/fd/{n}/bin/true", "/local/r", "/proc/1/root"):
            for field in ("work_dir", "command"):
                reply = daemon.post(f"/v1/tasks/{task['id']}/exec", {"command": "/bin/true", field: path})
                assert reply.status == 422, (path, field, reply.body)


WATCH = """
import os, sys
me, seen = os.getpid(), set()
print("ready", flush=True)
while not os.path.exists("/local/stop"):
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == me:
            continue
        try:
            exe = os.readlink(f"/proc/{pid}/exe")
            if "cloister" in exe: seen.add("exe " + exe)
        except OSError: pass
        for name in ("mem", "environ", "maps"):
            try:
                fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
                comm = open(f"/proc/{pid}/comm").read().strip()
                if comm.startswith("cloister") and (name != "environ" or os.read(fd, 1)): seen.add(name + " " + comm)
                os.close(fd)
            except OSError: pass
        try:
            s = dict(l.split(":\\t", 1) for l in open(f"/proc/{pid}/status").read().splitlines() if ":\\t" in l)
            if s["Uid"].split()[0] == "0" or int(s["CapEff"], 16) or int(s["CapPrm"], 16): seen.add("power " + s["Name"])
        except (OSError, KeyError): pass
print(sorted(seen))
"""


def test_the_tasks_processes_see_no_power(daemon):
    """CVE-2016-9962, CVE-2019-5736: what enters is seen only with the task's own power, and cannot be opened."""
    task = daemon.start_task("/usr/bin/python3", "-c", WATCH)
    path = f"/v1/tasks/{task['id']}/logs"
    wait_until(lambda: daemon.get(path).body == b"ready\n", what="the watcher")
    digest = pathlib.Path(daemon.binary).read_bytes()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(x["exit"]["code"] == 0 for x in pool.map(lambda _: run(daemon, task, "/bin/true"), range(200)))
    run(daemon, task, "/usr/bin/touch", "/local/stop")
    daemon.wait_ended(task["id"])
    assert daemon.get(path).body == b"ready\n[]\n"
    assert pathlib.Path(daemon.binary).read_bytes() == digest


def test_more_sessions_than_a_task_may_have_are_told_when_to_come_again(daemon):
    task = daemon.start_task("/bin/sleep", "1000")["id"]
    path, body = f"/v1/tasks/{task}/exec", json.dumps({"command": "/bin/sleep", "args": ["1000"]})
    clients = [UnixConnection(daemon.socket) for _ in range(256)]
    for client in clients:
        client.request("POST", path, body)
    wait_until(lambda: len(daemon.get(f"{path}s").json["items"]) == 256, 120, "256 sessions")
    refused = daemon.post(path, {"command": "/bin/true"})
    assert (refused.status, refused.json["code"], refused.headers["Retry-After"]) == (429, "too_many_sessions", "1")
    for client in clients:
        client.close()
    assert daemon.request("DELETE", f"/v1/tasks/{task}?force=true").status == 204
