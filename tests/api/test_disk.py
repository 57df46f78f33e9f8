"""resources.disk: what a task can write has a bound, and what serves for it leaves nothing."""
import errno
import os
import pathlib

import pytest

from conftest import wait_until

MIB = 1 << 20
FILL = "head -c {n} /dev/zero > {path} 2>/dev/null; stat -c %s {path}"


def backing_files(daemon):
    found = []
    for path in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if daemon.parent in path.read_text():
                found.append(path)
        except OSError:  # it has been let go since (ENODEV)
            pass
    return found


@pytest.mark.parametrize("path", ["/local/x", "/tmp/x", "/alloc/data/x", "/usr/x", "/var/x"])
def test_every_place_counts(daemon, path):
    made = "mkdir -p /var; " if path.startswith("/var") else ""
    task = daemon.sh(made + FILL.format(n=64 * MIB, path=path), resources={"disk": 16}, user="nobody",
                     cap_add=["dac_override"])
    size = int(task["output"]["stdout"].split()[-1])
    assert 4 * MIB < size < 16 * MIB, task["output"]
    assert task["disk"] == {"limit": 16, "mode": "ext4"}


def test_all_places_count_together(daemon):
    script = "for d in local tmp alloc/data; do head -c 6000000 /dev/zero > /$d/x 2>/dev/null; stat -c %s /$d/x; done"
    sizes = [int(n) for n in daemon.sh(script, resources={"disk": 16})["output"]["stdout"].split()]
    assert sizes[0] == 6000000 and sum(sizes) < 16 * MIB


def test_without_the_limit_there_is_none(daemon):
    task = daemon.sh(FILL.format(n=64 * MIB, path="/local/x"))
    assert task["output"]["stdout"] == f"{64 * MIB}\n" and "disk" not in task


def test_output_is_not_of_it(daemon):
    task = daemon.sh("head -c 20000000 /dev/zero", resources={"disk": 4}, logs={"max_file_size": 50})
    assert task["exit"]["code"] == 0


def test_a_full_disk_is_the_tasks_alone(daemon):
    fills = daemon.start_task("/bin/sh", "-c", "cat /dev/zero > /local/x; exec sleep 60", resources={"disk": 8})
    assert daemon.sh("echo y > /local/y && cat /local/y")["output"]["stdout"] == "y\n"
    assert daemon.request("DELETE", f"/v1/tasks/{fills['id']}?force=true").status == 204


def test_it_lasts_from_run_to_run(daemon):
    task = daemon.sh("echo run >> /local/runs; wc -l < /local/runs; exit 1", resources={"disk": 8},
                     restart={"attempts": 2, "delay": "0s"})
    assert task["output"]["stdout"] == "1\n2\n3\n"


def test_neither_mounts_nor_loop_devices_are_left(own_daemon):
    d = own_daemon
    before = d.census()
    task = d.start_task("/bin/sleep", "60", resources={"disk": 8})
    assert d.mounts() == before["mounts"], "the host sees nothing of it"
    assert len(backing_files(d)) == 1
    assert d.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204
    wait_until(lambda: not backing_files(d), 5, "the end of the loop device")
    d.assert_as_before(before)


def test_neither_after_a_start_that_failed(own_daemon):
    d = own_daemon
    before = d.census()
    for _ in range(3):
        reply = d.post("/v1/tasks", {"command": "/none", "resources": {"disk": 8}})
        assert reply.status == 422
    wait_until(lambda: not backing_files(d), 5, "the end of the loop devices")
    d.assert_as_before(before)


def test_nor_when_the_supervisor_is_killed(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sleep", "60", resources={"disk": 8})
    supervisor = next(pid for pid, name in d.children().items() if name == "cloister-task")
    os.kill(supervisor, 9)
    assert d.wait_ended(task["id"])["state"] == "lost"
    assert d.request("DELETE", f"/v1/tasks/{task['id']}").status == 204
    wait_until(lambda: not backing_files(d), 5, "the end of the loop device")
    assert not d.directories()


def test_more_than_the_file_system_can_hold_in_a_file_names_the_field(daemon):
    most = 16777216
    with open(daemon.dir / "large", "wb") as f:
        try:
            f.truncate(most << 20)
        except OSError as e:
            assert e.errno == errno.EFBIG
        else:
            f.truncate(0)
            return  # this file system could
    before = daemon.census()
    reply = daemon.post("/v1/tasks", {"command": "/bin/true", "resources": {"disk": most}})
    assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/resources/disk", reply.body
    daemon.assert_as_before(before)


def test_it_holds_in_a_copied_root_too(own_daemon, tmp_path):
    d = own_daemon
    reply = d.post("/v1/tasks?dry_run=true", {"command": "/bin/true", "root": "copy", "resources": {"disk": 16}})
    assert reply.status == 200
    # the whole of /usr does not fit: a named refusal that leaves nothing
    before = d.census()
    reply = d.post("/v1/tasks", {"command": "/bin/true", "root": "copy", "resources": {"disk": 4}})
    assert reply.status == 507 and reply.json["step"] == "rootfs", reply.body
    d.assert_as_before(before)


@pytest.mark.parametrize("value", [0, 3, -1, "8", 1.5])
def test_bad_values_name_the_field(daemon, value):
    reply = daemon.post("/v1/tasks", {"command": "/bin/true", "resources": {"disk": value}})
    assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/resources/disk"
