"""User namespaces: the task's ids are its own, on the host they belong to nobody else, and its root has no power there."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from conftest import ROOT, Daemon, wait_until
from roots import make_image
from test_exec_ws import run as run_ws, sync
from test_rootfs import WithoutCalls

RANGE = 65536
FIRST, LAST = 0x78000000, 0x7bffffff  # the default of userns_range
PROGRAMS = ["sh", "cat", "ls", "stat", "id", "touch", "mkdir", "chown", "sleep"]
# By /var/tmp: a tmpfs, as /tmp may be, has no id-mapped mounts before Linux 6.3.
WORK = "/var/tmp"


@pytest.fixture(scope="module")
def places():
    work = pathlib.Path(tempfile.mkdtemp(prefix="cloister-userns-", dir=WORK))
    work.chmod(0o755)
    make_image(work / "image", PROGRAMS)
    (work / "image/etc/theirs").write_text("x")
    os.chown(work / "image/etc/theirs", 1234, 2345)
    (work / "file").write_text("a file of the host\n")
    (work / "data").mkdir()
    (work / "data/root").write_text("r")
    (work / "data/theirs").write_text("t")
    os.chown(work / "data/theirs", 1234, 2345)
    yield work
    shutil.rmtree(work)


@pytest.fixture(scope="module")
def private(places):
    """A daemon that allows root, whose tasks are in user namespaces unless they say otherwise."""
    config = {"plugin": {"exec": {"config": {"default_userns_mode": "private", "allow_caps": ["all"]}}},
              "client": {"user_denylist": [],
                         "chroot": {"image": {str(places / "image"): "/"},
                                    "parts": {**{f"/{d}": f"/{d}" for d in ("bin", "lib", "lib64", "usr/bin", "usr/lib", "usr/lib64")},
                                              str(places / "image/etc"): "/etc", str(places / "file"): "/opt/file"}},
                         "host_volume": {"data": {"path": str(places / "data"), "allow_bidirectional": True}}}}
    (places / "cloister.json").write_text(json.dumps(config))
    d = Daemon(ROOT / "build/release/cloisterd", "--config", places / "cloister.json")
    yield d
    d.stop()


def out(task):
    assert task["exit"]["code"] == 0, task["output"]
    return task["output"]["stdout"]


def base_of(daemon, task):
    """The host's id of the task's 0, by the host's view of its process."""
    pid = daemon.task(task["id"])["pid"]
    maps = [pathlib.Path(f"/proc/{pid}/{name}_map").read_text().split() for name in ("uid", "gid")]
    assert maps[0] == maps[1] and maps[0][0] == "0" and maps[0][2] == str(RANGE)
    return int(maps[0][1])


def ids(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return {int(n) for n in re.search(r"^Uid:\s+(.*)", status, re.M)[1].split()}


def runs(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_ids_inside_are_the_task_s_and_outside_nobody_else_s(private):
    assert private.get("/v1/attributes/feature.userns").json == 1
    tasks = [private.start_task("/bin/sleep", "1000", user=user) for user in ("nobody", "0", "1234:2345", "root")]
    bases = [base_of(private, t) for t in tasks]
    for base, task, uid in zip(bases, tasks, (65534, 0, 1234, 0)):
        assert FIRST <= base <= LAST - RANGE + 1 and base % RANGE == 0
        assert ids(private.task(task["id"])["pid"]) == {base + uid}
    assert len(set(bases)) == len(bases) and private.slots() == sorted(str(b) for b in bases)
    for task in tasks:
        assert private.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204
    assert private.slots() == []


def test_the_default_is_the_host_s(daemon):
    assert out(daemon.sh("cat /proc/self/uid_map")).split() == ["0", "0", "4294967295"]
    assert daemon.slots() == []
    assert out(daemon.sh("cat /proc/self/uid_map; id -u", userns_mode="private")).split()[2:] == [str(RANGE), "65534"]


OWNERS = "stat -c '%u:%g' / /etc /etc/theirs /usr /usr/bin /bin/sh /local /alloc /tmp /dev /dev/null /dev/pts /dev/shm"


@pytest.mark.parametrize("chroot", ["image", "parts"])
@pytest.mark.parametrize("more", [{}, {"root": "readonly"}, {"root": "copy", "chroot": "image"}, {"resources": {"disk": 64}},
                                  {"network": {"mode": "none"}}, {"pid_mode": "host", "ipc_mode": "host"}])
def test_owners_are_right_inside(private, chroot, more):
    spec = {"chroot": chroot, "user": "0", **more}
    found = out(private.sh(OWNERS, **spec)).split()
    assert found == ["0:0", "0:0", "1234:2345"] + ["0:0"] * 10
    assert out(private.sh("stat -c %u:%g /secrets; touch /secrets/x", **{**spec, "user": "1234:2345"})) == "1234:2345\n"
    if spec["chroot"] == "parts":
        assert out(private.sh("stat -c %u:%g /opt/file; cat /opt/file", **spec)) == "0:0\na file of the host\n"


@pytest.mark.parametrize("root", ["overlay", "copy"])
def test_root_writes_to_its_own_root(private, places, root):
    script = ("echo more >> /etc/theirs && chown 7:8 /etc/theirs && mkdir /etc/new /made && cat /etc/theirs && "
              "stat -c '%u:%g' /etc/theirs /etc/new /made && ls /etc")
    task = private.sh(script, user="0", chroot="image", root=root)
    assert out(task) == "xmore\n7:8\n0:0\n0:0\nnew\npasswd\ntheirs\n"
    theirs = (places / "image/etc/theirs").stat()
    assert (theirs.st_uid, theirs.st_size) == (1234, 1) and not (places / "image/made").exists()


def test_files_of_the_task_have_its_owner_on_the_host(private):
    task = private.start_task("/bin/sh", "-c", "touch /local/x; chown 1234 /local/x; touch /local/y; sleep 1000", user="0")
    base = base_of(private, task)
    local = private.dir / f"state/tasks/{task['id']}/local"
    wait_until(lambda: (local / "y").exists(), what="the file")
    assert (local / "x").stat().st_uid == base + 1234 and (local / "y").stat().st_uid == base
    reply = private.post(f"/v1/tasks/{task['id']}/exec", {"command": "/usr/bin/stat", "args": ["-c", "%u", "/local/x"]})
    assert reply.json["output"]["stdout"] == "1234\n", reply.json
    assert private.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_volumes_keep_the_ids_inside(private, places):
    mount = {"volume": "data", "destination": "/data"}
    for root in ("overlay", "readonly", "copy"):
        task = private.sh("stat -c '%u:%g' /data /data/root /data/theirs; echo x > /data/made && chown 77:78 /data/made",
                          user="0", chroot="image", root=root, volume_mounts=[mount])
        assert out(task) == "0:0\n0:0\n1234:2345\n"
        made = (places / "data/made").stat()
        assert (made.st_uid, made.st_gid) == (77, 78)
        (places / "data/made").unlink()
    assert private.sh("echo x > /data/theirs", user="7", volume_mounts=[mount])["exit"]["code"] != 0
    assert private.sh("echo x > /data/root", user="0", volume_mounts=[{**mount, "read_only": True}])["exit"]["code"] != 0
    for mode in ("host-to-task", "bidirectional"):
        reply = private.post("/v1/tasks", {"command": "/bin/true", "volume_mounts": [{**mount, "propagation_mode": mode}]})
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/volume_mounts/0/propagation_mode"


# What root may do as root of the host, and must not from a user namespace: (command, further parts of the spec).
ATTEMPTS = {
    "mount": ("mount -t tmpfs none /tmp", {"cap_add": ["all"], "seccomp": "default"}),
    "umount": ("umount /proc/kcore || umount /proc/sys", {"cap_add": ["all"]}),
    "hostname": ("hostname other", {"cap_add": ["all"]}),
    "sysctl": ("echo 1 > /proc/sys/kernel/sysrq", {"cap_add": ["all"]}),
    "bind": ("mount --bind /usr /local", {"cap_add": ["all"]}),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_root_with_every_capability_has_no_power_over_the_host(private, name):
    command, more = ATTEMPTS[name]
    task = private.sh(f"({command}) 2>/dev/null && echo done", user="0", **more)
    assert task["output"]["stdout"] == "", task["output"]
    if name in ("mount", "hostname", "bind"):  # the control: with the host's ids the same works
        assert out(private.sh(f"{command} && echo done", user="0", userns_mode="host", **more)) == "done\n"


def test_root_cannot_reach_the_host_s_processes(private):
    victim = subprocess.Popen(["sleep", "1000"])
    try:
        script = f"kill -0 {victim.pid} 2>/dev/null && echo reached; wc -c 2>/dev/null < /proc/{victim.pid}/environ"
        spec = {"user": "0", "cap_add": ["all"], "pid_mode": "host"}
        assert private.sh(script, **spec)["output"]["stdout"] == ""
        assert private.sh(script, userns_mode="host", **spec)["output"]["stdout"].startswith("reached")
    finally:
        victim.kill()
        victim.wait()


def test_root_cannot_read_what_is_hidden(private):
    script = "cat /etc/shadow /proc/kcore /proc/keys 2>/dev/null | wc -c; ls /etc/cloister 2>/dev/null; true"
    assert out(private.sh(script, user="0", cap_add=["all"])).strip() == "0"


def test_capabilities_act_inside_only(private):
    """A capability of a user that is not root: over the task's files, not over those of others."""
    script = "grep CapEff /proc/self/status; touch /local/a && chown 5:6 /local/a && stat -c %u:%g /local/a"
    found = out(private.sh(script, cap_add=["chown"]))
    assert found == "CapEff:\t0000000000000001\n5:6\n"
    assert private.sh("touch /local/a && chown 5 /local/a")["exit"]["code"] != 0
    # /proc/sys is the host's: even its mode bits are not overruled.
    assert private.sh("cat /proc/1/root/etc/passwd >/dev/null && cat /proc/sys/kernel/cap_last_cap >/dev/null && "
                      "echo 1 > /proc/sys/vm/drop_caches", user="0", cap_add=["all"])["exit"]["code"] != 0
    # The set is the plan's, although a new namespace begins with all.
    bounding = out(private.sh("grep CapBnd /proc/self/status", user="0", cap_drop=["all"], cap_add=["kill"]))
    assert bounding == "CapBnd:\t0000000000000020\n"


def test_sessions_are_inside_too(private):
    task = private.start_task("/bin/sleep", "1000", user="0")
    base = base_of(private, task)
    run = f"/v1/tasks/{task['id']}/exec"
    script = "cat /proc/self/uid_map; id -u; stat -c %u /proc/1 /proc/self/; readlink /proc/self/ns/user; readlink /proc/1/ns/user"
    for user, uid in (("root", 0), ("nobody", 65534), ("1234", 1234)):
        reply = private.post(run, {"command": "/bin/sh", "args": ["-c", script], "user": user})
        lines = reply.json["output"]["stdout"].split("\n")
        assert lines[0].split() == ["0", str(base), str(RANGE)], reply.json
        assert lines[1:4] == [str(uid), "0", str(uid)]
        assert uid or lines[4] == lines[5]
    assert private.post(run, {"command": "/bin/hostname", "args": ["other"]}).json["exit"]["code"] != 0
    reply = private.post(run, {"command": "/bin/true", "user": "70000"})
    assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/user"
    assert private.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


@sync
async def test_a_session_s_terminal_is_the_user_s(private):
    task = private.start_task("/bin/sleep", "1000", user="0")
    heard = await run_ws(private, task, "/bin/sh", "-c", "stat -c %u:%g $(tty)", tty="true", user="1234")
    assert heard.out == b"1234:5\r\n"
    assert private.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_policy_holds_for_the_ids_inside():
    d = Daemon(ROOT / "build/release/cloisterd", "--denied-host-uids", "1234", "--default-userns-mode", "private")
    try:
        for user, status in (("root", 403), ("1234", 403), ("1235", 201)):
            assert d.post("/v1/tasks?wait=exited", {"command": "/bin/true", "user": user}).status == status
        for user in ("65536", "1:65536", "2013265920"):
            reply = d.post("/v1/tasks", {"command": "/bin/true", "user": user})
            assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/user"
    finally:
        d.stop()


def test_ranges_are_used_by_one_task_each_and_come_back():
    d = Daemon(ROOT / "build/release/cloisterd", "--userns-range", "2000000000-2000196607", "--default-userns-mode", "private")
    try:
        assert 2000000000 % RANGE != 0  # so of three times 65,536 ids two whole slots are left
        tasks = [d.start_task("/bin/sleep", "1000") for _ in range(2)]
        bases = {base_of(d, t) for t in tasks}
        assert len(bases) == 2 and all(b % RANGE == 0 and b > 2000000000 for b in bases)
        before = d.census()
        reply = d.post("/v1/tasks", {"command": "/bin/true"})
        assert (reply.status, reply.json["code"], reply.json["step"]) == (503, "userns_full", "userns")
        d.assert_as_before(before)
        assert d.post("/v1/tasks", {"command": "/bin/true", "userns_mode": "host"}).status == 201
        # A supervisor's death: the range comes back when the task's processes are gone, not before.
        victim = next(p for p, n in d.children().items() if n == "cloister-task")
        pid = next(int(t["pid"]) for t in map(lambda t: d.task(t["id"]), tasks)
                   if pathlib.Path(f"/proc/{t['pid']}/stat").read_text().rsplit(")", 1)[1].split()[1] == str(victim))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(d.slots()) == 1, what="the return of the range")
        assert not runs(pid)
        assert base_of(d, d.start_task("/bin/sleep", "1000")) in bases
        for task in d.get("/v1/tasks").json["items"]:
            d.request("DELETE", f"/v1/tasks/{task['id']}?force=true")
        assert d.slots() == []
        for _ in range(3):
            assert d.run("/bin/true")["exit"]["code"] == 0
        assert d.slots() == []
    finally:
        d.stop()


def test_the_range_lasts_over_restarts_and_the_daemon(own_daemon):
    task = own_daemon.start_task("/bin/sh", "-c", "cat /proc/self/uid_map >> /local/maps; touch /local/$$; exec sleep 1000",
                                 userns_mode="private")
    base = base_of(own_daemon, task)
    maps = own_daemon.dir / f"state/tasks/{task['id']}/local/maps"
    wait_until(lambda: maps.exists() and maps.read_text().count(str(base)) == 1, what="the first run")
    assert own_daemon.post(f"/v1/tasks/{task['id']}/restart").status == 202
    wait_until(lambda: maps.exists() and maps.read_text().count(str(base)) == 2, what="the second run")
    own_daemon.process.kill()
    own_daemon.process.wait()
    own_daemon.start()
    assert own_daemon.slots() == [str(base)] and base_of(own_daemon, task) == base


def test_both_dead_the_range_comes_back_at_the_next_start(own_daemon):
    task = own_daemon.start_task("/bin/sleep", "1000", userns_mode="private")
    base = base_of(own_daemon, task)
    supervisor = next(p for p, n in own_daemon.children().items() if n == "cloister-task")
    own_daemon.process.kill()
    own_daemon.process.wait()
    os.kill(supervisor, signal.SIGKILL)
    assert own_daemon.slots() == [str(base)]
    own_daemon.start()
    wait_until(lambda: own_daemon.slots() == [], what="the return of the range")


@pytest.mark.parametrize("options, said", [
    (["--userns-range", "1000-200000"], "userns_range"), (["--userns-range", "70000-80000"], "userns_range"),
    (["--userns-range", "3000000000-3000196607"], "userns_range"),
    (["--userns-range", "x"], "userns_range"), (["--userns-range", "99942400-100073471", "--server-user", "100000000"],
                                               "userns_range"),
    (["--default-userns-mode", "maybe"], "default_userns_mode")])
def test_bad_options_are_refused(options, said):
    work = tempfile.mkdtemp(prefix="cloister-userns-")
    done = subprocess.run([ROOT / "build/release/cloisterd", "--state-dir", f"{work}/state", "--run-dir", f"{work}/run",
                           "--listen", "none", *options], capture_output=True, text=True, timeout=20)
    shutil.rmtree(work)
    assert done.returncode != 0 and said in done.stderr


@pytest.mark.parametrize("calls", ["442", "428"])  # mount_setattr, open_tree
def test_where_the_kernel_cannot_it_is_refused_by_name(calls):
    d = WithoutCalls(calls)
    try:
        assert d.get("/v1/attributes/feature.userns").json == 0
        before = d.census()
        for root in ("overlay", "readonly"):
            reply = d.post("/v1/tasks", {"command": "/bin/true", "userns_mode": "private", "root": root})
            assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/userns_mode", reply.json
            assert reply.json["errno"] == "ENOSYS" and reply.json["step"] == "rootfs"
        d.assert_as_before(before)
        assert d.slots() == []
    finally:
        d.stop()


def test_where_the_file_system_cannot_it_is_refused_by_name(places):
    """An overlay has no id-mapped mounts."""
    target = places / "overlay"
    for name in ("overlay", "over-upper", "over-work"):
        (places / name).mkdir()
    subprocess.run(["mount", "-t", "overlay", "none", target, "-o", f"lowerdir={places}/image,upperdir={places}/over-upper,"
                    f"workdir={places}/over-work"], check=True)
    config = {"client": {"chroot": {"over": {str(target): "/"}}, "host_volume": {"over": {"path": str(target)}}}}
    (places / "over.json").write_text(json.dumps(config))
    d = Daemon(ROOT / "build/release/cloisterd", "--config", places / "over.json")
    try:
        before = d.census()
        spec = {"command": "/bin/true", "userns_mode": "private"}
        for more, pointer in (({"chroot": "over"}, "/userns_mode"), ({"chroot": "over", "root": "readonly"}, "/userns_mode"),
                              ({"volume_mounts": [{"volume": "over", "destination": "/v"}]}, "/volume_mounts/0/volume")):
            reply = d.post("/v1/tasks", {**spec, **more})
            assert reply.status == 422 and reply.json["errors"][0]["pointer"] == pointer, reply.json
        d.assert_as_before(before)
        assert d.slots() == []
    finally:
        d.stop()
        subprocess.run(["umount", target], check=True)


def test_in_a_bridge_network(places):
    d = Daemon(ROOT / "build/release/cloisterd", "--default-userns-mode", "private", netns=True)
    try:
        script = "cat /etc/hosts | grep 172.27; stat -c %u:%g /etc/hosts /etc/resolv.conf"
        task = d.sh(script, network={"mode": "bridge"})
        assert out(task).split()[-2:] == ["0:0", "0:0"] and out(task).startswith("172.27.")
    finally:
        d.stop()
