"""task.progress: how far the copy of a root is, in the log of events. With the build for faults the time between two is
the test's to choose."""
import json
import os
import pathlib
import shutil
import signal
import tempfile

import pytest

from conftest import FAULTY, Daemon, wait_until
from roots import make_image
from test_events import events, of_task

FILES = 4000


@pytest.fixture(scope="module")
def copies():
    assert FAULTY.exists(), "build it with: cmake --preset faults && cmake --build --preset faults"
    source = pathlib.Path(tempfile.mkdtemp(prefix="cloister-progress-", dir="/var/tmp"))
    source.chmod(0o755)
    image = make_image(source / "image", ["sh", "sleep", "true"])
    for i in range(FILES):
        (image / f"srv/{i}").write_text("x" * i)
    config = source / "cloister.json"
    config.write_text(json.dumps({"client": {"chroot": {"many": {str(image): "/"}}}}))
    d = Daemon(FAULTY, "--config", config)
    yield d
    d.stop()
    shutil.rmtree(source)


def copied(daemon, every_ms=None, command=("/bin/sleep", "60")):
    env = {} if every_ms is None else {"CLOISTER_PROGRESS_MS": str(every_ms)}
    return daemon.start_task(*command, root="copy", chroot="many", env=env)


def progress(daemon, task):
    return [e["data"] for e in events(daemon, f"&task={task['id']}&type=task.progress")]


def check(told, task):
    """Each is more than the last, and the last is all."""
    steps, last = told[:-1], told[-1]
    assert last == {"files": task["root"]["files"], "bytes": task["root"]["bytes"], "done": True}
    assert steps and not any(e["done"] for e in steps)
    assert all((a["files"], a["bytes"]) < (b["files"], b["bytes"]) and a["bytes"] <= b["bytes"]
               for a, b in zip(steps, steps[1:]))
    assert steps[-1]["files"] <= last["files"] and steps[-1]["bytes"] <= last["bytes"]


def test_a_copy_tells_how_far_it_is(copies):
    task = copied(copies, 5)
    told = progress(copies, task)
    assert task["state"] == "running" and task["root"]["files"] >= FILES
    check(told, task)
    assert of_task(copies, task) == ["task.created", "task.starting", *["task.progress"] * len(told), "task.running"]


def test_a_short_copy_and_another_root_tell_nothing(copies):
    assert progress(copies, copied(copies, 3600000)) == []
    assert progress(copies, copies.run("/bin/true", env={"CLOISTER_PROGRESS_MS": "0"})) == []


def test_a_copy_that_is_stopped_has_no_end(copies):
    reply = copies.post("/v1/tasks?timeout=1ms", {"command": "/bin/sleep", "args": ["60"], "root": "copy",
                                                  "chroot": "many", "env": {"CLOISTER_PROGRESS_MS": "5"}})
    task = reply.json
    wait_until(lambda: progress(copies, task), what="some progress")
    copies.post(f"/v1/tasks/{task['id']}/stop")
    if copies.wait_ended(task["id"])["state"] == "failed":  # else the copy was faster
        assert not any(e["done"] for e in progress(copies, task))


def test_progress_outlives_the_server(copies):
    reply = copies.post("/v1/tasks?timeout=1ms", {"command": "/bin/sleep", "args": ["60"], "root": "copy",
                                                  "chroot": "many", "env": {"CLOISTER_PROGRESS_MS": "5"}})
    task = reply.json
    wait_until(lambda: progress(copies, task), what="some progress")
    server = copies.server_pid()
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: copies.ready() and copies.server_pid() != server, 20, "the next server")
    wait_until(lambda: copies.task(task["id"])["state"] == "running", 60, "the end of the copy")
    check(progress(copies, task), copies.task(task["id"]))
