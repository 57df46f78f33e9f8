"""The host is started again: all processes are gone, and the boot id is another. The build with faults lets the daemon
take the boot id from its environment."""
import contextlib
import os
import signal

import pytest

from conftest import ROOT, Daemon, wait_until
from crash_load import processes

AGAIN = {"attempts": 1, "delay": "1h"}
COUNT = "echo run >> /local/runs; wc -l < /local/runs; "
FIRST, SECOND = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def host():
    binary = ROOT / "build/faults/cloisterd"
    assert binary.exists(), "build it with: cmake --preset faults && cmake --build --preset faults"
    d = Daemon(binary, "--gc-interval", "1h", env={"CLOISTER_BOOT_ID": FIRST})
    yield d
    d.stop()


def ours(d):
    """The launcher, what descends from it, and what is in our groups."""
    known = {d.process.pid, d.server_pid(), *map(int, d.processes())}
    parents = {pid: parent for pid, (_, parent) in processes(d.binary).items()}
    return known | {pid for pid, parent in parents.items() if parent == d.process.pid}


def reboot(d, prepare=lambda: None):
    pids = ours(d)
    for signum in (signal.SIGSTOP, signal.SIGKILL):  # all at once: none sees another's end
        for pid in sorted(pids):
            with contextlib.suppress(ProcessLookupError):  # one of a script's own
                os.kill(pid, signum)
    d.process.wait(20)
    wait_until(lambda: not pids & set(processes(d.binary)) and not d.processes(), 20, "the end of all processes")
    prepare()
    d.env = {"CLOISTER_BOOT_ID": SECOND}
    d.start()


def second_run(d, task):
    """Until what was left of the first is cleared away, its state is the last that is known of it: running."""
    return wait_until(lambda: (t := d.task(task["id"]))["state"] == "running" and t["restarts"] == 1 and t, 20,
                      "the second run")


def output(d, task, **query):
    more = "".join(f"&{k}={v}" for k, v in query.items())
    return d.get(f"/v1/tasks/{task['id']}/logs?stream=stdout{more}").body.decode()


def test_a_reboot_ends_what_ran_and_says_so(host):
    running = host.start_task("/bin/sleep", "300")
    paused = host.start_task("/bin/sleep", "300")
    ended = host.sh("exit 7")
    assert host.post(f"/v1/tasks/{paused['id']}/pause", {}).status == 200
    reboot(host)
    for task in (running, paused):
        lost = host.wait_ended(task["id"])
        assert lost["state"] == "lost" and lost["exit"]["reason"] == "ended by a reboot of the host"
        assert lost["exit"]["code"] is None and lost["exit"]["started_at"] == task["started_at"]
    assert host.task(ended["id"])["exit"] == ended["exit"]
    assert not host.groups() and not host.sockets()


def test_the_restart_policy_starts_it_again_where_it_was(host):
    task = host.start_task("/bin/sh", "-c", f"{COUNT} echo $(ls /etc/mark); touch /etc/mark; exec sleep 300",
                           restart=AGAIN, user="daemon")
    wait_until(lambda: output(host, task).count("\n") == 2, 10, "the output")
    before = output(host, task)
    reboot(host)
    now = second_run(host, task)
    assert now["pid"] != task["pid"]
    assert now["last_exit"]["reason"] == "ended by a reboot of the host" and now["last_exit"]["code"] is None
    assert now["last_exit"]["started_at"] == task["started_at"]
    wait_until(lambda: output(host, task).count("\n") == 4, 10, "the output of the second run")
    assert output(host, task).startswith(before) and output(host, task).split() == ["1", "2"], "one log over both boots"
    host.process.kill()
    host.process.wait()
    host.start()  # in the same boot: it runs on
    assert host.task(task["id"])["pid"] == now["pid"]


def test_what_was_being_stopped_is_not_started_again(host):
    task = host.start_task("/bin/sh", "-c", "trap '' INT; echo up; while :; do sleep 0.1; done", restart=AGAIN)
    wait_until(lambda: output(host, task) == "up\n", 10)
    assert host.post(f"/v1/tasks/{task['id']}/stop", {"timeout": "1h"}).status == 202
    reboot(host)
    lost = host.wait_ended(task["id"])
    assert (lost["state"], lost["exit"]["reason"], lost["restarts"]) == ("lost", "ended by a reboot of the host", 0)


def test_a_restart_that_was_due_is_made(host):
    task = host.start_task("/bin/sh", "-c", f"{COUNT} [ -e /local/second ] && exec sleep 300; touch /local/second; exit 5",
                           restart=AGAIN)
    wait_until(lambda: host.task(task["id"])["state"] == "restarting", 10)
    reboot(host)
    now = second_run(host, task)
    assert now["last_exit"]["code"] == 5
    wait_until(lambda: output(host, task) == "1\n2\n", 10)


def test_one_with_a_disk_of_its_own_gets_a_new_one(host):
    task = host.start_task("/bin/sh", "-c", "ls /local; touch /local/file; exec sleep 300", restart=AGAIN,
                           resources={"disk": 16})
    wait_until(lambda: host.processes(), 10)
    reboot(host)
    second_run(host, task)
    assert output(host, task) == ""


def test_after_a_power_cut_the_record_may_be_gone(host):
    task = host.start_task("/bin/sleep", "300")
    damaged = host.start_task("/bin/sleep", "300")
    again = host.start_task("/bin/sleep", "300", restart=AGAIN)

    def cut():
        for t in (task, again):
            (host.dir / "state/tasks" / t["id"] / "record").unlink()
        record = host.dir / "state/tasks" / damaged["id"] / "record"
        record.write_bytes(record.read_bytes()[:100])
    reboot(host, cut)
    for t in (task, damaged):
        assert host.wait_ended(t["id"])["exit"]["reason"] == "ended by a reboot of the host"
    second_run(host, again)


def test_one_that_waits_for_room_after_the_reboot_can_be_stopped(host):
    task = host.start_task("/bin/sleep", "300", restart=AGAIN)
    host.flags = ("--max-tasks", "1")
    other = host.start_task("/bin/sleep", "300", restart=AGAIN)
    reboot(host)
    second_run(host, task)
    assert host.task(other["id"])["state"] == "pending"
    reply = host.post(f"/v1/tasks/{other['id']}/stop?wait=exited", {})
    assert reply.status == 200 and reply.json["state"] == "lost", reply.body
    assert reply.json["exit"]["reason"].startswith("ended by a reboot of the host")
