"""The wall clock jumps: what was to happen in so many seconds happens then, also when the daemon is started again."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from conftest import BINARY, Daemon, wait_until

DAY = 86400
SECONDS = 8  # of every timer: long enough that one which a jump has set off is seen


class Clock:
    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cloister-clock-"))
        self.dir.chmod(0o755)
        self.library, self.offset = self.dir / "clock.so", self.dir / "offset"
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", self.library, pathlib.Path(__file__).with_name("clock.c")],
                       check=True)
        self.set(0)

    def set(self, seconds):
        new = self.dir / "new"
        new.write_text(str(seconds))
        new.chmod(0o644)
        new.rename(self.offset)


@pytest.fixture
def timed():
    if "asan" in str(BINARY):
        pytest.skip("the sanitizer must be loaded first")
    clock = Clock()
    d = Daemon(env={**os.environ, "LD_PRELOAD": str(clock.library), "CLOCK_OFFSET": str(clock.offset)})
    yield clock, d
    d.stop()
    shutil.rmtree(clock.dir)


def start_again(d):
    os.kill(d.process.pid, signal.SIGKILL)
    d.process.wait()
    d.start()
    wait_until(d.ready, 20, "readiness")


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "started again"])
@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["ahead", "back"])
def test_timers_do_not_hear_of_it(timed, jump, restarted):
    clock, d = timed
    limited = d.start_task("/bin/sleep", "600", timeout=f"{SECONDS}s")
    waiting = d.start_task("/bin/sh", "-c", "exit 1", restart={"attempts": 1, "delay": f"{SECONDS}s"})
    ended = d.run("/bin/true", ttl=f"{SECONDS}s")
    stopped = d.start_task("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done", kill_signal="SIGTERM",
                           kill_timeout=f"{SECONDS}s")
    wait_until(lambda: d.task(waiting["id"])["state"] == "restarting", 5, "the end of the first run")
    began = time.monotonic()
    assert d.post(f"/v1/tasks/{stopped['id']}/stop").status == 202
    clock.set(jump)
    if restarted:
        start_again(d)
    time.sleep(2)
    assert d.task(limited["id"])["state"] == "running" and d.task(waiting["id"])["state"] == "restarting"
    assert d.task(stopped["id"])["state"] == "stopping" and ended["id"] in d.rows()
    assert d.wait_ended(limited["id"], 20)["exit"]["reason"] == "timeout"
    assert d.wait_ended(waiting["id"], 20)["restarts"] == 1
    assert d.wait_ended(stopped["id"], 20)["exit"]["signal"] == "SIGKILL"
    wait_until(lambda: ended["id"] not in d.rows(), 20, "the removal of what was to be kept for so long")
    assert time.monotonic() - began < 4 * SECONDS


def test_output_has_times_of_its_own_after_a_jump_back(timed):
    clock, d = timed
    task = d.start_task("/bin/sh", "-c", "i=0; while [ $i -lt 20 ]; do echo $i; i=$((i + 1)); sleep 0.1; done")
    time.sleep(0.5)
    clock.set(-DAY)
    d.wait_ended(task["id"])
    lines = d.get(f"/v1/tasks/{task['id']}/logs?format=ndjson").body.splitlines()
    times = [json.loads(line)["time"] for line in lines]
    assert len(times) == 20 and times == sorted(set(times))


def test_the_clock_of_the_daemon_is_the_one_that_jumps(timed):
    clock, d = timed
    clock.set(DAY)
    created = d.run("/bin/true")["created_at"]
    assert created[:10] == time.strftime("%Y-%m-%d", time.gmtime(time.time() + DAY))


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_list_in_pages_misses_nothing_after_a_jump_back(timed, order):
    clock, d = timed
    made = []
    for jump in (0, -DAY, -2 * DAY):
        clock.set(jump)
        made += [d.run("/bin/true")["id"] for _ in range(3)]
    listed, cursor = [], ""
    while True:
        page = d.get(f"/v1/tasks?limit=2&order={order}{cursor}").json
        listed += [t["id"] for t in page["items"]]
        if "next_cursor" not in page:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert listed == (made if order == "asc" else made[::-1])
