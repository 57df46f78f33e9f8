"""task.oom: kills for memory are told while the task runs on, each once, also over restarts of the server and of the
task."""
import re

import pytest

from conftest import wait_until
from test_events import events, of_task
from test_exec_events import Absence

# Takes more than there is, and is alone in it: the shell waits. A second process that takes memory while the first one
# dies, the other end of a pipe say, can make the kernel kill one more: a victim no longer counts before its pages are free
# (Linux 6.1, exit_mmap).
EAT = "dd if=/dev/zero of=/dev/null bs=200M count=1"
# Each line of input is a process that does. The shell itself lives on.
EATER = ("/bin/sh", "-c", f"while read -r how; do case $how in eat) {EAT};; end) exit 3;; esac; echo done; done")
SPEC = {"resources": {"memory": 32, "swap": 0}, "stdin": {"open": True}}
AT_ONCE = ("/bin/sh", "-c", f"{EAT}; sleep 0.1; exit 1")


def told(daemon, task):
    return [e["data"]["kills"] for e in events(daemon, f"&task={task['id']}&type=task.oom")]


def tell(daemon, task, word):
    assert daemon.request("PUT", f"/v1/tasks/{task['id']}/stdin", word + "\n",
                          {"Content-Type": "application/octet-stream"}).status in (200, 204)


def output(daemon, task):
    return daemon.get(f"/v1/tasks/{task['id']}/logs?stream=stdout").body.decode()


def total(daemon):
    return int(re.search(r"^cloister_task_oom_kills_total (\d+)$", daemon.get("/metrics").body.decode(), re.M)[1])


def kernel(daemon, task):
    return daemon.get(f"/v1/tasks/{task['id']}/stats").json["memory"]["oom_kills"]


@pytest.fixture
def eater(own_daemon):
    task = own_daemon.start_task(*EATER, **SPEC)
    return task


def eat(daemon, task):
    """One more process dies; how many have died."""
    before = kernel(daemon, task)
    tell(daemon, task, "eat")
    return wait_until(lambda: (n := kernel(daemon, task)) > before and n, what="a kill")


def test_a_kill_is_told_while_the_task_runs_on(own_daemon, eater):
    before = total(own_daemon)
    for _ in range(3):
        n = eat(own_daemon, eater)
        wait_until(lambda n=n: sum(told(own_daemon, eater)) == n, what="the event")
        assert own_daemon.task(eater["id"])["state"] == "running"
    tell(own_daemon, eater, "end")
    ended = own_daemon.wait_ended(eater["id"])
    assert ended["exit"]["code"] == 3 and ended["exit"]["oom_killed"]
    assert sum(told(own_daemon, eater)) == n == kernel(own_daemon, eater) == total(own_daemon) - before
    assert of_task(own_daemon, eater)[-1] == "task.exited"


def test_kills_while_there_is_no_server(own_daemon, eater):
    d = own_daemon
    n = eat(d, eater)
    wait_until(lambda: sum(told(d, eater)) == n, what="the event")
    with Absence(d):
        pass
    assert sum(told(d, eater)) == n and total(d) == 0  # told by the last server
    tell(d, eater, "eat")
    with Absence(d):
        groups = [g for top in d.parents() for g in top.glob(f"**/{eater['id']}/memory.*")
                  if g.name in ("memory.oom_control", "memory.events")]
        count = lambda: max(int(re.search(r"^oom_kill (\d+)$", g.read_text(), re.M)[1]) for g in groups)
        wait_until(lambda: count() > n, what="a kill")
    wait_until(lambda: sum(told(d, eater)) == kernel(d, eater) > n, what="the event")
    assert d.post(f"/v1/tasks/{eater['id']}/stop?wait=exited").status == 200
    assert sum(told(d, eater)) == kernel(d, eater)
    with Absence(d):
        pass
    assert sum(told(d, eater)) == kernel(d, eater) and total(d) == 0


def test_kills_of_all_runs_are_told(own_daemon):
    """Runs that are too short to be watched, and a server that misses some of them."""
    d = own_daemon
    task = d.start_task(*AT_ONCE, resources=SPEC["resources"],
                        restart={"attempts": 4, "delay": "100ms", "interval": "1h"})
    with Absence(d):
        wait_until(lambda: not d.sockets(), 60, "the last run")
    ended = d.wait_ended(task["id"])
    assert ended["exit"]["oom_killed"] and ended["restarts"] == 4, ended
    assert sum(told(d, task)) == 5  # one in each run
