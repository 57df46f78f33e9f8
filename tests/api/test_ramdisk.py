"""A host whose root is the initramfs, which pivot_root cannot leave: no_pivot_root moves the task's root over it. The
other tests run here with that option (CLOISTER_FLAGS); made by tests/guest/run ramdisk."""
import pathlib

import conftest
from conftest import BINARY, Daemon
from test_start import ESCAPE


def test_the_root_is_the_initramfs():
    at_root = [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == "/"]
    assert len(at_root) == 1 and " - rootfs rootfs " in at_root[0]


def test_without_the_option_it_is_said_and_no_task_is_taken(monkeypatch):
    monkeypatch.setattr(conftest, "FLAGS", [])
    d = Daemon(BINARY)
    try:
        reason = "the root is a ramdisk: no_pivot_root must be set"
        assert d.get("/v1/attributes/feature.pivot_root").body == b"0\n"
        assert d.get("/v1/attributes").json["driver"] == {"healthy": False, "reason": reason}
        refused = d.post("/v1/tasks", {"command": "/bin/true"})
        assert refused.status == 503 and reason in refused.json["detail"]
    finally:
        d.stop()


def test_with_the_option_tasks_run(daemon):
    assert daemon.get("/v1/attributes/driver.exec").body == b"1\n"
    task = daemon.sh("echo hello; id -u; ls /")
    assert task["exit"]["code"] == 0 and task["output"]["stdout"].startswith("hello\n65534\n")
    assert "cloister" not in task["output"]["stdout"]  # the host has /cloister


def test_a_task_that_may_chroot_does_not_get_out(daemon):
    inside = daemon.run("/usr/bin/python3", "-c", "import os;print(sorted(os.listdir('/')))")["output"]["stdout"]
    task = daemon.run("/usr/bin/python3", "-c", ESCAPE, cap_add=["sys_chroot"])
    assert task["output"]["stdout"] == inside and "cloister" not in inside, task["output"]
