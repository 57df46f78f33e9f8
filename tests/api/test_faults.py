"""Each isolation step is made to fail in turn: the answer names it, and nothing is left. Needs the build with faults."""
import pathlib

import pytest

from conftest import ROOT, Daemon

STEPS = ["network", "cgroup", "cgroup_namespace", "mount_propagation", "fsuid", "rootfs", "volumes", "network_files", "volume_mounts", "dev",
         "proc", "sys", "pivot_root", "hostname", "oom_score_adj", "work_dir", "command", "rlimits", "userns", "groups", "capabilities",
         "no_new_privs", "signals", "close_fds", "verify", "seccomp", "execve"]


@pytest.fixture(scope="module")
def faulty():
    binary = ROOT / "build/faults/cloisterd"
    assert binary.exists(), "build it with: cmake --preset faults && cmake --build --preset faults"
    d = Daemon(binary)
    yield d
    d.stop()


@pytest.mark.parametrize("userns", ["host", "private"])
@pytest.mark.parametrize("step", STEPS)
def test_a_failed_step_is_named_and_leaves_nothing(faulty, step, userns):
    before = faulty.census()
    reply = faulty.post("/v1/tasks", {"command": "/bin/true", "env": {"CLOISTER_FAIL_STEP": step}, "userns_mode": userns})
    assert reply.status in (422, 500) and reply.json["step"] == step and reply.json["errno"] == "EIO", reply.body
    faulty.assert_as_before(before)


SESSION_STEPS = ["close_fds", "oom_score_adj", "namespaces", "command", "terminal", "rlimits", "userns", "groups", "capabilities",
                 "no_new_privs", "work_dir", "spawn", "signals", "verify", "seccomp", "execve"]


@pytest.mark.parametrize("step", SESSION_STEPS)
def test_a_failed_step_of_a_session_is_named_and_leaves_nothing(faulty, step):
    task = faulty.start_task("/bin/sleep", "1000", userns_mode="private")
    before, processes = faulty.census(), faulty.processes()
    reply = faulty.post(f"/v1/tasks/{task['id']}/exec",
                        {"command": "/bin/true", "env": {"CLOISTER_FAIL_STEP": step}})
    assert reply.status in (422, 500) and reply.json["step"] == step and reply.json["errno"] == "EIO", reply.body
    assert faulty.get(f"/v1/tasks/{task['id']}/execs").json["items"] == [] and faulty.processes() == processes
    assert not [g for top in faulty.parents() for g in top.rglob("exec-*")]
    faulty.assert_as_before(before)
    assert faulty.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_without_a_fault_it_runs(faulty):
    assert faulty.run("/bin/true")["exit"]["code"] == 0


def test_the_release_build_knows_no_faults(daemon):
    if pathlib.Path(daemon.binary).parent.name == "asan":
        pytest.skip("the ASan build has the faults too")
    assert daemon.run("/bin/true", env={"CLOISTER_FAIL_STEP": "rootfs"})["exit"]["code"] == 0
