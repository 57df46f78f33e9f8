"""Tasks are listed, found, signalled, stopped and deleted."""
import concurrent.futures
import ctypes
import json
import os
import signal
import threading
import time

import pytest

from conftest import Reply, UnixConnection, wait_until
from fault_sweep import traced


def test_states_and_view(daemon):
    task = daemon.start_task("/bin/sleep", "60", name="sleeper", labels={"team": "a"})
    assert task["state"] == "running" and task["pid"] > 1 and task["spec"]["labels"] == {"team": "a"}
    assert daemon.get(f"/v1/tasks/{task['id']}").json == task
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}").status == 409
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204
    assert daemon.get(f"/v1/tasks/{task['id']}").status == 404
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}").status == 404


def test_list_filters_and_pages(daemon):
    ids = [daemon.run("/bin/true", name="paged", labels={"n": str(n)})["id"] for n in range(5)]
    assert [t["id"] for t in daemon.get("/v1/tasks?name=paged&order=asc").json["items"]] == ids
    assert [t["id"] for t in daemon.get("/v1/tasks?name=paged&label=n=3").json["items"]] == [ids[3]]
    assert daemon.get("/v1/tasks?name=paged&state=running").json["items"] == []
    seen, cursor = [], ""
    for _ in range(3):
        page = daemon.get(f"/v1/tasks?name=paged&limit=2{cursor}").json
        seen += [t["id"] for t in page["items"]]
        cursor = f"&cursor={page.get('next_cursor')}"
    assert seen == ids[::-1] and "next_cursor" not in page


@pytest.mark.parametrize("path, labels, size, tasks, each", [("/v1/tasks?", 8, 110000, 8, 1),
                                                             ("/v1/events?type=task.&", 1, 16000, 80, 4)])
def test_a_page_of_large_items_is_short(own_daemon, path, labels, size, tasks, each):
    """No request makes the server hold a thousand of them."""
    spec = {"labels": {f"l{n}": "x" * size for n in range(labels)}}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = {f.result()["id"] for f in [pool.submit(own_daemon.run, "/bin/true", **spec) for _ in range(tasks)]}
    listed, cursor, pages = [], "", 0
    while cursor is not None:
        reply = own_daemon.get(f"{path}limit=1000{cursor}")
        assert reply.status == 200 and len(reply.body) < 6 << 20
        listed += [item.get("id") or item["task"] for item in reply.json["items"]]
        cursor = f"&cursor={reply.json['next_cursor']}" if "next_cursor" in reply.json else None
        pages += 1
    assert pages == 2 and sorted(listed) == sorted([*made] * each)
    assert own_daemon.post("/v1/gc", {}).json == {"removed": tasks}


def test_etags(daemon):
    task = daemon.run("/bin/true")
    for path in (f"/v1/tasks/{task['id']}", "/v1/tasks"):
        tag = daemon.get(path).headers["ETag"]
        assert daemon.get(path, headers={"If-None-Match": tag}).status == 304
    daemon.run("/bin/true")
    assert daemon.get("/v1/tasks", headers={"If-None-Match": tag}).status == 200


def test_blocking_query(daemon):
    task = daemon.start_task("/bin/sh", "-c", "sleep 1; exit 4")
    start = time.monotonic()
    reply = daemon.get(f"/v1/tasks/{task['id']}?index={task['version']}&wait=20s").json
    assert reply["state"] == "exited" and reply["exit"]["code"] == 4 and time.monotonic() - start < 10
    start = time.monotonic()
    daemon.get(f"/v1/tasks/{task['id']}?index={reply['version']}&wait=300ms")
    assert time.monotonic() - start >= 0.3


def test_blocking_query_ends_with_the_task(daemon):
    task = daemon.start_task("/bin/sleep", "60")
    path, replies = f"/v1/tasks/{task['id']}", []
    waiter = threading.Thread(target=lambda: replies.append(daemon.get(f"{path}?index={task['version'] + 9}&wait=30s")))
    waiter.start()
    assert daemon.get(f"{path}?index={task['version'] - 1}&wait=30s").headers["ETag"] == f'"{task["version"]}"'
    assert daemon.request("DELETE", f"{path}?force=true").status == 204
    waiter.join()
    assert replies[0].status == 404
    for bad in ("index=-1", "index=x", "index=1&wait=x"):
        assert daemon.get(f"{path}?{bad}").status == 400, bad


def test_wait_exited_times_out_with_the_present_state(daemon):
    reply = daemon.post("/v1/tasks?wait=exited&timeout=300ms", {"command": "/bin/sleep", "args": ["60"]})
    assert reply.status == 201 and reply.json["state"] == "running"
    assert daemon.request("DELETE", f"/v1/tasks/{reply.json['id']}?force=true").status == 204


def test_signal_reaches_the_main_process(daemon):
    task = daemon.start_task("/bin/sh", "-c", "trap 'echo got; exit 9' USR1; echo up; while :; do sleep 0.1; done")
    wait_until(lambda: daemon.get(f"/v1/tasks/{task['id']}/logs").body == b"up\n")
    assert daemon.post(f"/v1/tasks/{task['id']}/signal", {"signal": "usr1"}).status == 204
    assert daemon.wait_ended(task["id"])["exit"]["code"] == 9
    assert daemon.get(f"/v1/tasks/{task['id']}/logs").body == b"up\ngot\n"
    assert daemon.post(f"/v1/tasks/{task['id']}/signal", {"signal": "USR1"}).status == 409


def test_signal_to_all(daemon):
    task = daemon.start_task("/bin/sh", "-c", "sleep 60; exit 3")
    wait_until(lambda: len(daemon.processes()) >= 2)
    assert daemon.post(f"/v1/tasks/{task['id']}/signal", {"signal": "TERM", "target": "all"}).status == 204
    assert daemon.wait_ended(task["id"])["exit"]["code"] == 3  # the child died; pid 1 has no handler and went on


def clone_as(pid, *command):
    """A child of ours with this pid, by clone3(2)'s set_tid, that runs the command. No other thread runs meanwhile (PyDLL)."""
    number = ctypes.c_int(pid)
    arguments = (ctypes.c_uint64 * 11)(0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(number), 1, 0)
    child = ctypes.PyDLL(None).syscall(ctypes.c_long(435), arguments, ctypes.c_size_t(ctypes.sizeof(arguments)))
    if child == 0:
        os.execv(command[0], command)
    return child == pid


def test_a_signal_to_all_meets_nobody_who_has_got_the_pid_since(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sh", "-c", "trap : USR1; sleep 60 & wait; while :; do sleep 60 & wait; done")
    wait_until(lambda: len(d.processes()) == 2)
    main = d.task(task["id"])["pid"]
    victim = next(int(p) for p in d.processes() if int(p) != main)
    supervisor = next(pid for pid, name in d.children().items() if name == "cloister-task")
    calls = "kill,pidfd_open"  # who is to be signalled is known before the first of them
    with traced(supervisor, "-e", f"trace={calls}", "-e", f"inject={calls}:delay_enter=2000000"):
        asking = threading.Thread(target=d.post, args=(f"/v1/tasks/{task['id']}/signal", {"signal": "USR1", "target": "all"}))
        asking.start()
        time.sleep(0.5)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: clone_as(victim, "/bin/sleep", "60"), 1, "a process with the pid of another")
        asking.join()
    assert os.waitpid(victim, os.WNOHANG) == (0, 0), "it lives"
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)


def test_bad_signals(daemon):
    task = daemon.start_task("/bin/sleep", "60")
    for body, pointer in (({"signal": "NONE"}, "/signal"), ({}, "/signal"), ({"signal": "HUP", "target": "x"}, "/target"),
                          ({"signal": "HUP", "more": 1}, "/more"), ({"signal": 99}, "/signal")):
        reply = daemon.post(f"/v1/tasks/{task['id']}/signal", body)
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == pointer
    assert daemon.post("/v1/tasks/none/signal", {"signal": "HUP"}).status == 404
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_a_pointer_to_an_unknown_field_is_escaped(daemon):
    task = daemon.run("/bin/true")
    reply = daemon.post(f"/v1/tasks/{task['id']}/signal", {"signal": "HUP", "a/b~": 1})
    assert reply.json["errors"][0]["pointer"] == "/a~1b~0"  # RFC 6901


def test_stop_lets_a_handler_end_the_task(daemon):
    task = daemon.start_task("/bin/sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done")
    wait_until(lambda: daemon.get(f"/v1/tasks/{task['id']}/logs").body == b"up\n")
    reply = daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"signal": "SIGTERM", "timeout": "20s"})
    assert reply.status == 200 and reply.json["exit"]["code"] == 5 and reply.json["exit"]["reason"] == "stopped"


def test_stop_kills_at_once_what_cannot_hear(daemon):
    task = daemon.start_task("/bin/sleep", "60")
    start = time.monotonic()
    reply = daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"timeout": "30s"})
    assert reply.json["exit"]["signal"] == "SIGKILL" and time.monotonic() - start < 10
    assert "no handler" in reply.json["exit"]["reason"]


def test_stop_ends_a_grandchild_that_ignores_sigterm(daemon):
    script = ("trap '' TERM; (trap '' TERM; exec setsid sh -c \"trap '' TERM; while :; do sleep 0.2; done\") &"
              " echo up; while :; do sleep 0.2; done")
    task = daemon.start_task("/bin/sh", "-c", script)
    wait_until(lambda: daemon.get(f"/v1/tasks/{task['id']}/logs").body == b"up\n")
    wait_until(lambda: len(daemon.processes()) >= 2)
    reply = daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"signal": "TERM", "timeout": "500ms"})
    assert reply.json["exit"]["signal"] == "SIGKILL" and reply.json["exit"]["reason"] == "killed after kill_timeout"
    assert daemon.processes() == set() and not [g for g in daemon.groups() if task["id"] in g]


def test_background_children_end_with_the_task_in_the_hosts_pid_namespace(daemon):
    task = daemon.sh("sleep 300 & sleep 300 & exit 6", pid_mode="host")
    assert task["exit"]["code"] == 6 and daemon.processes() == set()


def test_follow_streams_until_the_end(daemon):
    task = daemon.start_task("/bin/sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done; echo last >&2")
    assert daemon.get(f"/v1/tasks/{task['id']}/logs?follow=true").body.decode().splitlines() == \
        [f"line {i}" for i in range(1, 6)] + ["last"]


def test_tail_and_streams(daemon):
    task = daemon.sh("seq 1 20000; echo err >&2")
    path = f"/v1/tasks/{task['id']}/logs"
    assert daemon.get(f"{path}?stream=stdout&tail=2").body == b"19999\n20000\n"
    assert daemon.get(f"{path}?tail=2").body == b"20000\nerr\n"
    assert daemon.get(f"{path}?stream=stderr").body == b"err\n"
    assert daemon.get(f"{path}?stream=stdout&tail=0").body == b""
    assert len(daemon.get(f"{path}?stream=stdout").body.split()) == 20000
    assert daemon.get(f"{path}?stream=both").status == 400


def test_logs_disabled(daemon):
    assert daemon.sh("echo x", logs={"disabled": True})["output"]["stdout"] == ""


def test_idempotency_key(daemon):
    body, headers = {"command": "/bin/true"}, {"Idempotency-Key": f"key-{time.time()}"}
    first = daemon.post("/v1/tasks?wait=exited", body, headers=headers)
    again = daemon.post("/v1/tasks?wait=exited", body, headers=headers)
    assert first.json["id"] == again.json["id"] and again.headers["Idempotency-Replayed"] == "true"
    assert daemon.post("/v1/tasks", {"command": "/bin/false"}, headers=headers).status == 422


def test_a_retry_with_the_key_waits_and_gets_the_output_as_the_first_request_does(daemon):
    body, headers = {"command": "/bin/sh", "args": ["-c", "sleep 1; echo out; exit 3"]}, {"Idempotency-Key": "retry-waits"}
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(
        daemon.post("/v1/tasks?wait=exited&output=true", body, headers=headers).json)) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    replies.append(daemon.post("/v1/tasks?wait=exited&output=true", body, headers=headers).json)
    assert len({r["id"] for r in replies}) == 1
    assert all(r["exit"]["code"] == 3 and r["output"]["stdout"] == "out\n" for r in replies), replies
    present = daemon.post("/v1/tasks?wait=exited&timeout=1ms", {**body, "name": "x"}, headers={"Idempotency-Key": "brief"})
    assert present.json["state"] in ("starting", "running")
    assert daemon.post("/v1/tasks?dry_run=true", body, headers=headers).json.keys() == {"spec"}


def test_retries_of_a_start_that_fails_are_all_told_why(daemon):
    body, headers = {"command": "/no/such"}, {"Idempotency-Key": "retry-fails"}
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(
        daemon.post("/v1/tasks", body, headers=headers, timeout=20))) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [(r.status, r.json["errors"][0]["pointer"]) for r in replies] == [(422, "/command")] * 8


def test_a_number_of_seconds_is_a_duration_in_queries_too(daemon):
    body = {"command": "/bin/sleep", "args": ["60"]}
    task = daemon.post("/v1/tasks?wait=exited&timeout=1", body).json
    assert task["state"] == "running"
    assert daemon.get(f"/v1/tasks/{task['id']}?index={task['version']}&wait=1").json["version"] == task["version"]
    for bad in ("-1", "1.5", "9" * 10, "", "%2B1"):
        assert daemon.get(f"/v1/tasks/{task['id']}?index=1&wait={bad}").status == 400, bad
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_a_deletion_may_be_conditional(daemon):
    task = daemon.run("/bin/true")
    path = f"/v1/tasks/{task['id']}"
    refused = daemon.request("DELETE", path, headers={"If-Match": '"0"'})
    assert refused.status == 412 and refused.json["code"] == "precondition_failed"
    assert daemon.request("DELETE", path, headers={"If-Match": daemon.get(path).headers["ETag"]}).status == 204


def test_two_deletions_at_once(daemon):
    task = daemon.start_task("/bin/sleep", "60")
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(
        daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert set(replies) <= {204, 404} and 204 in replies
    assert task["id"] not in daemon.directories() and task["id"] not in daemon.sockets()


def test_a_tree_of_any_depth_is_deleted(daemon):
    script = "import os\nos.chdir('/local')\nfor _ in range(3000):\n    os.mkdir('d'); open('f', 'w').close(); os.chdir('d')"
    task = daemon.run("/usr/bin/python3", "-c", script)
    assert task["exit"]["code"] == 0, task["output"]
    reply = daemon.request("DELETE", f"/v1/tasks/{task['id']}")
    assert reply.status == 204, reply.body
    assert task["id"] not in daemon.directories()


def test_who_waits_for_the_end_is_answered_when_another_deletes_it(own_daemon):
    connection = UnixConnection(own_daemon.socket, 20)
    connection.request("POST", "/v1/tasks?wait=exited&output=true", json.dumps({"command": "/bin/sleep", "args": ["900"]}),
                       {"Content-Type": "application/json"})
    task = wait_until(lambda: own_daemon.get("/v1/tasks?state=running").json["items"])[0]
    assert own_daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204
    reply = Reply(connection.getresponse())
    assert (reply.status, reply.json["id"], reply.json["exit"]["signal"]) == (201, task["id"], "SIGKILL")
