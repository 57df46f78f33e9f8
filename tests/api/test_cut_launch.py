"""A launch that is cut between two calls of the launcher, by strace: with its row, the task is told as failed and can be
removed; without one, what was made is removed at the next start."""
import contextlib
import http.client
import sqlite3

import pytest

from conftest import wait_until
from fault_sweep import traced


def cut(d, call, when):
    """The launcher dies as it enters the call: what came before is there, and nothing else."""
    with traced(d.process.pid, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"):
        with contextlib.suppress(OSError, http.client.HTTPException):
            d.post("/v1/tasks", {"command": "/bin/true"}, timeout=20)
        d.process.wait(20)


@pytest.mark.parametrize("row", ["kept", "dropped"])
@pytest.mark.parametrize("call,when", [("chown", 1), ("chmod", 1), ("bind", 1), ("chown", 2), ("listen", 1),
                                       ("clone", 1)])
def test_a_launch_that_is_cut_leaves_nothing(own_daemon, call, when, row):
    d = own_daemon
    before = d.census()
    cut(d, call, when)
    made = d.directories()
    assert len(made) == 1, "it was cut after its directory was made"
    if row == "dropped":
        with contextlib.closing(sqlite3.connect(d.dir / "state/server/cloister.db")) as db:
            assert db.execute("DELETE FROM tasks WHERE id = ?", made).rowcount == 1
            db.commit()
    d.start()
    if row == "kept":
        failed = d.wait_ended(made[0])
        assert failed["state"] == "failed" and failed["error"]["code"] == "launch_cut_short", failed
        assert d.request("DELETE", f"/v1/tasks/{made[0]}").status == 204
    wait_until(lambda: d.census() == before, 20, f"the census of before: {before} {d.census()}")
