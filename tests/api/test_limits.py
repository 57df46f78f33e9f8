"""How much the operator lets a task have: more is refused, and who asks for no bound gets the operator's."""
import subprocess

import pytest

from conftest import BINARY, Daemon, wait_until

MAX = {"cpu": 500, "cores": 1, "memory": 64, "swap": 0, "pids": 20, "disk": 16}
FLAGS = [text for name, value in MAX.items() for text in (f"--max-{name}", str(value))]


@pytest.fixture
def bounded():
    d = Daemon(BINARY, *FLAGS)
    yield d
    d.stop()


def refused(reply, field):
    assert (reply.status, reply.json["code"]) == (403, "limit_denied"), reply.body
    assert [e["pointer"] for e in reply.json["errors"]] == [f"/resources/{field}"]
    return reply.json["detail"]


@pytest.mark.parametrize("resources,field", [
    ({"cpu": 501}, "cpu"), ({"cores": 2}, "cores"), ({"memory": 65}, "memory"), ({"memory_max": 65}, "memory_max"),
    ({"memory": 8, "memory_max": 65}, "memory_max"), ({"memory_max": -1}, "memory_max"),
    ({"memory": 8, "memory_max": -1}, "memory_max"), ({"memory": 8, "swap": 1}, "swap"),
    ({"memory": 8, "swap": -1}, "swap"), ({"pids": 21}, "pids"), ({"disk": 17}, "disk")])
def test_more_is_refused_and_leaves_nothing(bounded, resources, field):
    before = bounded.census()
    for query in ("", "?dry_run=true"):
        reply = bounded.post("/v1/tasks" + query, {"command": "/bin/true", "resources": resources})
        assert str(MAX[field.removesuffix("_max")]) in refused(reply, field)
    bounded.assert_as_before(before)


def test_all_of_it_is_allowed(bounded):
    resources = {k: v for k, v in MAX.items() if k not in ("swap", "cores")}
    plan = bounded.post("/v1/tasks?dry_run=true", {"command": "/bin/true", "resources": resources}).json["spec"]
    assert {k: plan["resources"][k] for k in resources} == resources
    assert bounded.run("/bin/true", resources=resources)["exit"]["code"] == 0


def test_who_asks_for_no_bound_gets_the_operators(bounded):
    task = bounded.start_task("/bin/sleep", "900")
    given = bounded.task(task["id"])["spec"]["resources"]
    assert {k: given[k] for k in ("memory", "pids", "disk")} == {k: MAX[k] for k in ("memory", "pids", "disk")}
    assert "cpu" not in given and "cores" not in given
    stats = bounded.get(f"/v1/tasks/{task['id']}/stats").json
    assert stats["memory"]["limit_bytes"] == 64 << 20 and stats["pids"]["limit"] == 20
    ended = bounded.sh("i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i + 1)); done; echo all")
    assert "all" not in ended["output"]["stdout"]  # the shell ends when it cannot fork
    # A bound in another field is one.
    plan = bounded.post("/v1/tasks?dry_run=true", {"command": "/bin/true", "resources": {"memory_max": 32}}).json["spec"]
    assert plan["resources"]["memory_max"] == 32 and "memory" not in plan["resources"]


def test_a_task_takes_the_room_of_its_bound():
    d = Daemon(BINARY, "--max-memory", "64", "--memory-total-mb", "100")
    d.start_task("/bin/sleep", "900")
    assert d.get("/v1/node").json["free"]["memory"] == 36
    assert d.post("/v1/tasks", {"command": "/bin/true"}).json["code"] == "no_capacity"
    d.stop()


def test_patch_cannot_go_beyond_but_what_a_task_has_stays(bounded):
    task = bounded.start_task("/bin/sleep", "900", resources={"pids": 10})
    patch = lambda body: bounded.request("PATCH", f"/v1/tasks/{task['id']}", body)
    refused(patch({"resources": {"pids": 21}}), "pids")
    assert patch({"resources": {"pids": 15}}).json["spec"]["resources"]["pids"] == 15
    assert patch({"resources": {"pids": None}}).json["spec"]["resources"]["pids"] == 20
    assert bounded.get(f"/v1/tasks/{task['id']}/stats").json["pids"]["limit"] == 20
    # The operator allows less from now on.
    bounded.process.kill()
    bounded.process.wait()
    bounded.flags = [*FLAGS, "--max-pids", "12"]
    bounded.start()
    assert patch({"labels": {"a": "b"}}).status == 200
    refused(patch({"resources": {"pids": 13}}), "pids")
    assert patch({"resources": {"pids": 12}}).status == 200


def test_a_bound_that_patch_takes_away_leaves_the_operators(bounded):
    """memory_max alone was the bound: without it there is one all the same."""
    for patch in ({"memory_max": None}, None):
        task = bounded.start_task("/bin/sleep", "900", resources={"memory_max": 32})
        reply = bounded.request("PATCH", f"/v1/tasks/{task['id']}", {"resources": patch})
        assert reply.status == 200 and reply.json["spec"]["resources"]["memory"] == 64, reply.body
        assert bounded.get(f"/v1/tasks/{task['id']}/stats").json["memory"]["limit_bytes"] == 64 << 20


def test_the_supervisor_checks_it_whatever_the_server_says():
    """What was stored under other bounds is launched without the server's check."""
    d = Daemon(BINARY, "--max-tasks", "1")
    first = d.start_task("/bin/sleep", "900")
    waits = d.post("/v1/tasks?timeout=0s", {"command": "/bin/true", "queue": True, "resources": {"pids": 500}}).json
    assert waits["state"] == "pending"
    d.process.kill()
    d.process.wait()
    d.flags = ["--max-tasks", "1", "--max-pids", "100"]
    d.start()
    d.post(f"/v1/tasks/{first['id']}/stop?wait=exited", {"timeout": "0s"})
    wait_until(lambda: d.task(waits["id"])["state"] == "failed", what="the refusal")
    error = d.task(waits["id"])["error"]
    assert error["code"] == "limit_denied" and error["errors"][0]["pointer"] == "/resources/pids"
    d.stop()


def test_more_memory_than_there_is_bounds_nobody_out():
    """Who asks for no bound has all that there is, and is not refused."""
    d = Daemon(BINARY, "--max-memory", "2000", "--memory-total-mb", "100", "--reserved-memory", "10")
    assert d.run("/bin/true")["spec"]["resources"]["memory"] == 90
    d.stop()


@pytest.mark.parametrize("flag,value,word", [("memory", "3", "from 4"), ("pids", "0", "from 1"),
                                             ("disk", "0", "from 4"), ("cpu", "-2", "cpu"),
                                             ("pids", "4194305", "4194304"), ("disk", "16777217", "16777216"),
                                             ("memory", "16777217", "16777216")])
def test_bounds_beyond_what_a_task_can_have_are_errors(tmp_path, flag, value, word):
    end = subprocess.run([BINARY, "--state-dir", tmp_path / "s", "--run-dir", tmp_path / "r", f"--max-{flag}={value}"],
                         capture_output=True, text=True, timeout=20, check=False)
    assert end.returncode != 0 and flag in end.stderr and word in end.stderr, end.stderr
