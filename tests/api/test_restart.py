"""From run to run: restart policy, limits of time, restart, pause, and changes while it lives."""
import pathlib
import time

import pytest

from conftest import wait_until

QUICK = {"attempts": 2, "delay": "0s", "interval": "1h"}
COUNT = "echo run >> /local/runs; wc -l < /local/runs"


def state(daemon, task):
    return daemon.task(task["id"])["state"]


def wait_state(daemon, task, *states):
    return wait_until(lambda: (t := daemon.task(task["id"]))["state"] in states and t, 20, f"the state {states}")


@pytest.fixture
def start(daemon):
    started = []

    def start_one(script, **spec):
        started.append(daemon.start_task("/bin/sh", "-c", script, **spec))
        return started[-1]
    yield start_one
    for task in started:
        assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_without_a_policy_a_failure_is_final(daemon):
    task = daemon.sh("exit 3")
    assert (task["state"], task["exit"]["code"], task["restarts"]) == ("exited", 3, 0)


def test_attempts_are_used_up_and_the_last_exit_stays(daemon):
    task = daemon.sh(f"{COUNT}; exit 7", restart=QUICK)
    assert (task["state"], task["exit"]["code"], task["restarts"]) == ("exited", 7, 2)
    assert task["output"]["stdout"] == "1\n2\n3\n"  # one log over all runs, and the files stay


def test_success_ends_it_on_failure_only(daemon):
    task = daemon.sh(f"{COUNT}; [ $(wc -l < /local/runs) = 2 ]", restart=QUICK)
    assert (task["exit"]["code"], task["restarts"]) == (0, 1)


def test_always_restarts_success_too(daemon):
    task = daemon.sh(COUNT, restart={**QUICK, "condition": "always"})
    assert (task["exit"]["code"], task["restarts"]) == (0, 2)


def test_death_by_signal_and_out_of_memory_are_failures(daemon):
    task = daemon.sh("kill -9 $$", restart={**QUICK, "attempts": 1}, pid_mode="host")
    assert (task["exit"]["signal"], task["restarts"]) == ("SIGKILL", 1)
    task = daemon.run("/usr/bin/python3", "-c", "x = bytearray(200 << 20)", resources={"memory": 32},
                      restart={**QUICK, "attempts": 1})
    assert (task["exit"]["oom_killed"], task["restarts"]) == (True, 1)


def test_it_waits_for_its_restart_and_says_so(daemon, start):
    task = start("exit 5", restart={"attempts": 1, "delay": "1h"})
    view = wait_state(daemon, task, "restarting")
    assert view["last_exit"]["code"] == 5 and view["next_start_at"] > view["last_exit"]["finished_at"]
    assert view["pid"] is None
    assert daemon.post(f"/v1/tasks/{task['id']}/signal", {"signal": "TERM"}).json["code"] == "task_not_running"
    assert daemon.post(f"/v1/tasks/{task['id']}/pause", {}).json["code"] == "task_not_running"


def test_reading_its_files_meanwhile_leaves_no_process(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/false", restart={"attempts": 1, "delay": "1h"})
    wait_state(d, task, "restarting")
    supervisor = next(pid for pid, name in d.children().items() if name == "cloister-task")
    for _ in range(5):
        assert d.get(f"/v1/tasks/{task['id']}/files/local").status == 200
    children = pathlib.Path(f"/proc/{supervisor}/task/{supervisor}/children")
    wait_until(lambda: not children.read_text().split(), 5, "the end of those who read them")


def test_a_stop_ends_the_wait(daemon, start):
    task = start("exit 5", restart={"attempts": 1, "delay": "1h"})
    wait_state(daemon, task, "restarting")
    view = daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {}).json
    assert view["state"] == "exited" and view["exit"]["code"] == 5 and "waited" in view["exit"]["reason"]


def test_restart_ends_the_wait(daemon, start):
    task = start(f"{COUNT}; [ -e /local/again ] && exec sleep 60; touch /local/again; exit 5",
                 restart={"attempts": 1, "delay": "1h"})
    wait_state(daemon, task, "restarting")
    assert daemon.post(f"/v1/tasks/{task['id']}/restart", {}).status == 202
    assert wait_state(daemon, task, "running")["restarts"] == 1


def test_restart_replaces_the_process(daemon, start):
    task = start("exec sleep 60")
    before = daemon.task(task["id"])
    assert daemon.post(f"/v1/tasks/{task['id']}/restart", {"timeout": "0s"}).status == 202
    after = wait_until(lambda: (t := daemon.task(task["id"]))["state"] == "running" and t["restarts"] == 1 and t, 10)
    assert after["pid"] != before["pid"] and after["last_exit"]["reason"] == "restarted"
    assert not pathlib.Path(f"/proc/{before['pid']}").exists()


def test_an_ended_task_cannot_be_restarted(daemon):
    task = daemon.run("/bin/true")
    for verb in ("restart", "pause", "resume"):
        reply = daemon.post(f"/v1/tasks/{task['id']}/{verb}", {})
        assert (reply.status, reply.json["code"]) == (409, "task_ended"), verb


STUBBORN = "trap '' INT TERM; echo run >> /local/runs; while :; do sleep 0.1; done"


def start_stubborn(daemon, start, **spec):
    task = start(STUBBORN, **spec)
    wait_until(lambda: daemon.get(f"/v1/tasks/{task['id']}/files/local/runs").status == 200, 10, "its handler")
    return task


def test_a_stop_ends_a_restart_that_waits_for_its_run_to_end(daemon, start):
    task = start_stubborn(daemon, start, kill_timeout="1h")
    assert daemon.post(f"/v1/tasks/{task['id']}/restart", {}).status == 202
    assert daemon.post(f"/v1/tasks/{task['id']}/stop", {"timeout": "100ms"}).status == 202
    view = wait_state(daemon, task, "exited", "running")
    assert (view["state"], view["restarts"], view["exit"]["reason"]) == ("exited", 0, "killed after kill_timeout")


def test_a_forced_removal_ends_a_restart_too(daemon):
    task = daemon.start_task("/bin/sh", "-c", STUBBORN, kill_timeout="1h")
    wait_until(lambda: daemon.get(f"/v1/tasks/{task['id']}/files/local/runs").status == 200, 10, "its handler")
    assert daemon.post(f"/v1/tasks/{task['id']}/restart", {}).status == 202
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true", timeout=20).status == 204


def test_a_stop_is_no_failure(daemon, start):
    task = start("exec sleep 60", restart=QUICK)
    view = daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"timeout": "0s"}).json
    assert (view["state"], view["restarts"]) == ("exited", 0)


def test_a_restart_that_cannot_start_fails_and_leaves_nothing(own_daemon):
    d = own_daemon
    reply = d.post("/v1/tasks", {"command": "/bin/sh", "args": ["-c", "rmdir /local/w; touch /local/w; exit 1"],
                                 "work_dir": "/local/w", "restart": {**QUICK, "attempts": 5}})
    assert reply.status == 201
    view = d.wait_ended(reply.json["id"])
    assert view["state"] == "failed" and view["restarts"] == 1 and view["last_exit"]["code"] == 1, view
    assert view["error"]["errors"][0]["pointer"] == "/work_dir"
    assert not d.groups() and not d.mounts() and not d.sockets()


def test_runs_survive_a_restart_of_the_daemon(own_daemon):
    d = own_daemon
    waiting = d.start_task("/bin/sh", "-c", "exit 5", restart={"attempts": 1, "delay": "6s"})
    timed = d.start_task("/bin/sleep", "60", timeout="7s")
    wait_state(d, waiting, "restarting")
    d.process.kill()
    d.process.wait()
    d.start()
    assert d.task(waiting["id"])["state"] == "restarting"
    view = d.wait_ended(waiting["id"])
    assert (view["restarts"], view["exit"]["code"]) == (1, 5)
    view = d.wait_ended(timed["id"])
    assert view["exit"]["reason"] == "timeout"


def test_delay_mode_goes_on_after_the_interval(daemon, start):
    task = start("exit 1", restart={"attempts": 1, "delay": "0s", "interval": "5s", "mode": "delay"})
    view = wait_until(lambda: (t := daemon.task(task["id"]))["state"] == "restarting" and t["restarts"] == 1 and t, 10)
    assert view["next_start_at"] > view["last_exit"]["finished_at"]
    wait_until(lambda: daemon.task(task["id"])["restarts"] >= 2, 20, "the start after the interval")


@pytest.mark.parametrize("restart,field", [({"attempts": -1}, "attempts"), ({"mode": "never"}, "mode"),
                                           ({"interval": "1s"}, "interval"), ({"delay": "x"}, "delay"),
                                           ({"attempts": 3, "delay": "1m", "interval": "2m", "mode": "delay"}, "interval"),
                                           ({"condition": "no"}, "condition"), ({"tries": 1}, "tries")])
def test_bad_policies_name_the_field(daemon, restart, field):
    reply = daemon.post("/v1/tasks", {"command": "/bin/true", "restart": restart})
    assert reply.status == 422 and reply.json["errors"][0]["pointer"] == f"/restart/{field}", reply.body


# --- time -------------------------------------------------------------------------------------------------------------

def test_timeout_ends_it_and_is_the_reason(daemon):
    task = daemon.sh("sleep 60", timeout="300ms")
    assert task["exit"]["reason"] == "timeout" and task["exit"]["code"] is None


def test_timeout_holds_over_all_runs(daemon):
    task = daemon.sh("sleep 0.2; exit 1", timeout="3s", restart={"attempts": 1000, "delay": "0s", "interval": "1h"})
    assert task["exit"]["reason"] == "timeout" and 1 <= task["restarts"] <= 15


def test_timeout_gives_the_grace_of_the_stop(daemon):
    task = daemon.sh("trap 'exit 9' TERM; while :; do sleep 0.1; done", timeout="1s", kill_signal="SIGTERM")
    assert (task["exit"]["code"], task["exit"]["reason"]) == (9, "timeout")


def test_timeout_does_not_put_off_the_end_of_a_stop(daemon, start):
    task = start_stubborn(daemon, start, kill_timeout="1h", timeout="2s")
    assert daemon.post(f"/v1/tasks/{task['id']}/stop", {"timeout": "4s"}).status == 202
    view = daemon.wait_ended(task["id"])
    assert view["exit"]["reason"] == "killed after kill_timeout"


def test_a_stop_without_a_timeout_does_not_put_off_an_earlier_end(daemon, start):
    task = start_stubborn(daemon, start, kill_timeout="1h")
    for body in ({"timeout": "1s"}, {}):
        assert daemon.post(f"/v1/tasks/{task['id']}/stop", body).status == 202
    assert daemon.wait_ended(task["id"])["exit"]["reason"] == "killed after kill_timeout"


def test_cpu_timeout_counts_work_alone(daemon):
    # Its start is work too: 6 ms, and a third of a second on an emulated processor that is shared.
    assert daemon.sh("sleep 3.2", cpu_timeout="3s")["exit"]["code"] == 0
    task = daemon.sh("while :; do :; done", cpu_timeout="300ms")
    assert task["exit"]["reason"] == "cpu_timeout"
    assert task["exit"]["usage"]["cpu_ns"] >= 300e6


# --- pause ------------------------------------------------------------------------------------------------------------

def cpu(pid):
    return sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))


def test_pause_stops_all_work_and_resume_goes_on(daemon, start):
    task = start("while :; do :; done")
    reply = daemon.post(f"/v1/tasks/{task['id']}/pause", {})
    assert reply.status == 200 and reply.json["state"] == "paused"
    before = cpu(task["pid"])
    time.sleep(0.3)
    assert cpu(task["pid"]) == before
    reply = daemon.post(f"/v1/tasks/{task['id']}/resume", {})
    assert reply.status == 200 and reply.json["state"] == "running"
    wait_until(lambda: cpu(task["pid"]) > before, 5, "more work")


def test_a_paused_task_can_be_stopped_with_grace(daemon):
    script = "import signal,time; signal.signal(signal.SIGTERM, lambda *a: exit(9)); print('up', flush=True); time.sleep(60)"
    task = daemon.start_task("/usr/bin/python3", "-c", script)
    wait_until(lambda: daemon.get(f"/v1/tasks/{task['id']}/logs").body, 10, "the handler")
    assert daemon.post(f"/v1/tasks/{task['id']}/pause", {}).json["state"] == "paused"
    view = daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"signal": "SIGTERM"}).json
    assert view["exit"]["code"] == 9


def test_a_paused_task_can_be_killed_and_deleted(daemon, start):
    task = start("sleep 60")
    assert daemon.post(f"/v1/tasks/{task['id']}/pause", {}).status == 200
    view = daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"timeout": "0s"}).json
    assert view["exit"]["signal"] == "SIGKILL"


def test_pause_survives_a_restart_of_the_server(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sleep", "60")
    assert d.post(f"/v1/tasks/{task['id']}/pause", {}).status == 200
    d.process.kill()
    d.process.wait()
    d.start()
    assert d.task(task["id"])["state"] == "paused"
    assert d.post(f"/v1/tasks/{task['id']}/resume", {}).json["state"] == "running"


# --- change -----------------------------------------------------------------------------------------------------------

def patch(daemon, task, body, **headers):
    return daemon.request("PATCH", f"/v1/tasks/{task['id']}", body, headers)


def test_labels_change_also_after_the_end(daemon):
    task = daemon.run("/bin/true", labels={"a": "1", "b": "2"})
    reply = patch(daemon, task, {"labels": {"a": None, "c": "3"}})
    assert reply.status == 200 and reply.json["spec"]["labels"] == {"b": "2", "c": "3"}
    assert reply.json["version"] > task["version"]
    reply = patch(daemon, task, {"timeout": "1s"})
    assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/timeout"


def test_limits_change_in_the_kernel(daemon, start):
    task = start("sleep 60", resources={"memory": 64, "pids": 100, "cpu": 200})
    reply = patch(daemon, task, {"resources": {"memory": 128, "pids": None, "cpu": 400, "cpu_hard_limit": True}})
    assert reply.status == 200, reply.body
    files = {}
    for top in daemon.parents():
        for path in top.rglob(f"{task['id']}/*"):
            if path.name in ("memory.max", "memory.limit_in_bytes", "pids.max", "cpu.shares", "cpu.weight", "cpu.max",
                             "cpu.cfs_quota_us"):
                files[path.name] = path.read_text().strip()
    assert files.get("memory.max", files.get("memory.limit_in_bytes")) == str(128 << 20)
    assert files["pids.max"] == "max"
    assert files.get("cpu.shares", "400") == "400"
    assert not files.get("cpu.max", files.get("cpu.cfs_quota_us", "-1")).startswith(("max", "-1"))
    reply = patch(daemon, task, {"resources": {"memory": 32, "cpu_hard_limit": False}})
    assert reply.status == 200 and reply.json["spec"]["resources"]["memory"] == 32


def test_a_timeout_can_be_given_later_and_taken_back(daemon, start):
    task = start("sleep 60")
    assert patch(daemon, task, {"timeout": "1h"}).status == 200
    assert patch(daemon, task, {"timeout": "100ms"}).status == 200
    assert daemon.wait_ended(task["id"])["exit"]["reason"] == "timeout"


@pytest.mark.parametrize("body,pointer", [({"command": "/bin/false"}, "/command"), ({"user": "daemon"}, "/user"),
                                          ({"resources": {"cores": 1}}, "/resources/cores"), ({"args": None}, "/args"),
                                          ({"env": {"A": "b"}}, "/env"), ({"nothing": 1}, "/nothing"),
                                          ({"labels": {"": "x"}}, "/labels/"), ({"timeout": "x"}, "/timeout"),
                                          ({"command": None}, "/command")])
def test_what_cannot_change_is_named_and_nothing_changes(daemon, start, body, pointer):
    task = start("sleep 60")
    before = daemon.task(task["id"])
    reply = patch(daemon, task, body)
    assert reply.status == 422 and reply.json["errors"][0]["pointer"] == pointer, reply.body
    assert daemon.task(task["id"]) == before


def test_if_match_guards_against_lost_changes(daemon, start):
    task = start("sleep 60")
    version = daemon.task(task["id"])["version"]
    reply = patch(daemon, task, {"labels": {"x": "1"}}, **{"If-Match": f'"{version}"'})
    assert reply.status == 200 and reply.headers["ETag"] == f'"{version + 1}"'
    reply = patch(daemon, task, {"labels": {"x": "2"}}, **{"If-Match": f'"{version}"'})
    assert (reply.status, reply.json["code"]) == (412, "precondition_failed")
    assert daemon.task(task["id"])["spec"]["labels"] == {"x": "1"}


def test_a_change_survives_the_death_of_the_daemon(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sleep", "60", resources={"memory": 64})
    assert patch(d, task, {"resources": {"memory": 96}, "labels": {"k": "v"}}).status == 200
    d.process.kill()
    d.process.wait()
    d.start()
    spec = d.task(task["id"])["spec"]
    assert spec["resources"]["memory"] == 96 and spec["labels"] == {"k": "v"}


def test_a_limit_below_what_is_in_use_leaves_the_old_one(daemon, start):
    version = daemon.get("/v1/attributes/cgroup.memory").body.decode().strip()
    task = daemon.start_task("/usr/bin/python3", "-c", "x = bytearray(60 << 20); print('up', flush=True); import time; time.sleep(60)",
                             resources={"memory": 128})
    wait_until(lambda: daemon.get(f"/v1/tasks/{task['id']}/logs").body, 10, "the memory")
    reply = patch(daemon, task, {"resources": {"memory": 8}})
    if version == "1":  # v2 reclaims, and kills what is too large
        assert (reply.status, reply.json["code"]) == (409, "limit_in_use")
        assert daemon.task(task["id"])["spec"]["resources"]["memory"] == 128
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204
