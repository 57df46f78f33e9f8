"""The three roots and the named chroots: what a task may write, what it sees of the host, what is left."""
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import pytest

from conftest import BINARY, ROOT, Daemon
from roots import fingerprint, make_image

MODES = ["overlay", "readonly", "copy"]
OWN = ["/local", "/alloc/data", "/secrets", "/tmp", "/dev/shm"]
NEW_MOUNT_CALLS = "428,429,430,431,432,433,442"  # open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
ODD = "a,b:c\\d e\nf"  # what mount(2) takes for separators


class Places:
    """Sources on the host, outside of any daemon's directory."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cloister-roots-", dir="/var/tmp"))
        self.dir.chmod(0o755)
        self.image = make_image(self.dir / "image")
        self.odd = make_image(self.dir / ODD)
        self.tools = self.dir / "tools"
        (self.tools / "bin").mkdir(parents=True)
        (self.tools / "bin/hello").write_text("#!/bin/sh\necho hello\n")
        (self.tools / "bin/hello").chmod(0o755)
        (self.dir / "extra.conf").write_text("extra\n")
        self.traps = make_image(self.dir / "traps")
        for name, target in (("proc", "/x"), ("sys", "../../../../x"), ("dev", "/etc"), ("tmp", "/usr"), ("up", "/")):
            (self.traps / name).symlink_to(target)
        self.kinds = make_image(self.dir / "kinds")
        self.fill_kinds(self.kinds / "srv")
        self.many = make_image(self.dir / "many")
        for i in range(200):
            (self.many / f"srv/{i}").mkdir()
            for k in range(100):
                (self.many / f"srv/{i}/{k}").write_text(f"{i} {k}")

    @staticmethod
    def fill_kinds(d):
        (d / "plain").write_text("host's\n")
        (d / "plain").chmod(0o640)
        os.chown(d / "plain", 1234, 2345)
        os.utime(d / "plain", (1000000000, 1000000000))
        os.link(d / "plain", d / "second-name")
        os.setxattr(d / "plain", "user.note", b"kept")
        shutil.copy2("/bin/cat", d / "power")
        os.setxattr(d / "power", "security.capability", b"\1\0\0\2\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
        shutil.copy2("/bin/cat", d / "setuid")
        (d / "setuid").chmod(0o4755)
        (d / "only-root").write_text("top secret")
        (d / "only-root").chmod(0o600)
        (d / "dangling").symlink_to("/no/such/place")
        os.mkfifo(d / "fifo")
        os.mknod(d / "device", 0o20666, os.makedev(1, 3))
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(d / "socket"))
        with open(d / "sparse", "wb") as f:
            f.truncate(64 << 20)
            f.seek(32 << 20)
            f.write(b"data")

    def config(self):
        return {
            "plugin": {"exec": {"config": {"allow_caps": ["all"]}}},
            "client": {
                "user_denylist": [],
                "chroot": {
                    "image": {str(self.image): "/"},
                    "odd": {str(self.odd): "/"},
                    "traps": {str(self.traps): "/"},
                    "kinds": {str(self.kinds): "/", "/no/such/source": "/none"},
                    "many": {str(self.many): "/"},
                    # mapped into each other, with places that the outer ones lack
                    "nested": {str(self.image): "/", str(self.tools): "/usr/local/tools",
                               str(self.tools / "bin"): "/opt/a/b", str(self.dir / "extra.conf"): "/etc/extra.conf"},
                    "flat": {"/bin": "/bin", "/usr": "/usr", "/lib": "/lib", "/lib64": "/lib64", "/etc": "/conf",
                             str(self.tools): "/usr/no-such-place/tools"},
                    "tmp": {"/usr": "/usr", "/bin": "/bin", "/lib": "/lib", "/lib64": "/lib64", "/tmp": "/host-tmp"},
                },
            },
        }


class OnOwnDisk(Daemon):
    """A daemon whose directories are on a file system of their own, of this size."""

    def __init__(self, size, *flags):
        self.size = size
        super().__init__(BINARY, *flags)

    def start(self):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.size},mode=755", "disk", self.dir], check=True)
        super().start()

    def mounts(self):
        return [line for line in super().mounts() if line.split()[4] != str(self.dir)]

    def discard(self):
        self.log.close()
        subprocess.run(["umount", self.dir], check=True)
        super().discard()


@pytest.fixture(scope="module")
def places():
    p = Places()
    yield p
    shutil.rmtree(p.dir)


@pytest.fixture(scope="module")
def rooted(places):
    file = places.dir / "cloister.json"
    file.write_text(json.dumps(places.config()))
    d = Daemon(BINARY, "--config", file)
    yield d
    log = (d.dir / "log").read_text()
    d.stop()
    assert "template" not in log  # the trees were put together once


def out(task):
    assert task["exit"]["code"] == 0, task["output"]
    return task["output"]["stdout"]


def writable(daemon, places, **spec):
    script = "".join(f"(echo x > {p}/made-by-task) 2>/dev/null && echo {p};" for p in places)
    return daemon.sh(script + "true", user="0", **spec)["output"]["stdout"].split()


@pytest.mark.parametrize("chroot", ["default", "image", "nested"])
@pytest.mark.parametrize("mode", MODES)
def test_root_writes_where_the_mode_lets_it(rooted, places, mode, chroot):
    if mode == "copy" and chroot == "default":
        pytest.skip("the host's /usr is large")
    before = fingerprint(places.image), fingerprint(places.tools)
    elsewhere = ["/.", "/usr", "/etc", "/usr/bin"] + (["/usr/local/tools", "/opt/a/b"] if chroot == "nested" else [])
    found = writable(rooted, elsewhere + OWN, root=mode, chroot=chroot)
    assert found == (OWN if mode == "readonly" else elsewhere + OWN)
    assert (fingerprint(places.image), fingerprint(places.tools)) == before
    assert not any(pathlib.Path(p, "made-by-task").exists() for p in elsewhere)


@pytest.mark.parametrize("mode", MODES)
def test_a_task_with_all_power_cannot_change_its_chroots_source(rooted, places, mode):
    before = fingerprint(places.image)
    script = ("for f in /etc/passwd /usr/bin/* /bin /srv; do echo evil >> $f; chmod 4777 $f; rm -rf $f; done;"
              "mount -o remount,rw / ; mount -o bind,remount,rw / ; echo evil > /usr/bin/cat; echo done")
    task = rooted.sh(script, user="0", root=mode, chroot="image", cap_add=["all"])
    assert task["exit"] and fingerprint(places.image) == before


@pytest.mark.parametrize("mode", MODES)
def test_nested_sources_show(rooted, mode):
    task = rooted.sh("/usr/local/tools/bin/hello; /opt/a/b/hello; cat /etc/extra.conf", root=mode, chroot="nested")
    assert out(task) == "hello\nhello\nextra\n"


@pytest.mark.parametrize("mode", ["overlay", "readonly"])
def test_a_source_below_another_that_lacks_its_place(rooted, mode):
    assert out(rooted.sh("/usr/no-such-place/tools/bin/hello", root=mode, chroot="flat")) == "hello\n"


@pytest.mark.parametrize("mode", MODES)
def test_a_source_may_have_any_name(rooted, mode):
    assert out(rooted.sh("cat /etc/passwd", root=mode, chroot="odd")).startswith("root:x:0:0")


@pytest.mark.parametrize("mode", MODES)
def test_links_of_an_image_lead_nowhere_outside(rooted, places, mode):
    before = sorted(os.listdir("/etc")), sorted(os.listdir("/")), fingerprint(places.traps)
    task = rooted.sh("readlink /proc/self/exe; ls /dev/null /sys/kernel; echo x > /tmp/y; ls /up/usr", root=mode,
                     chroot="traps", work_dir="/up/local")
    assert task["output"]["stdout"].startswith("/usr/bin/"), task["output"]
    assert (sorted(os.listdir("/etc")), sorted(os.listdir("/")), fingerprint(places.traps)) == before


def check_secrets(daemon, etc, **spec):
    """The control is the host itself: it has these files."""
    hidden = [f"{etc}/shadow", f"{etc}/gshadow", f"{etc}/shadow-", f"{etc}/ssl/private"]
    assert pathlib.Path("/etc/shadow").exists()
    task = daemon.sh(f"ls -d {etc}/passwd; ls -d {' '.join(hidden)} 2>/dev/null; cat {etc}/shadow; "
                     f"ls -A {daemon.dir}/state {daemon.dir}/run", user="0", cap_add=["all"], **spec)
    assert task["output"]["stdout"] == f"{etc}/passwd\n"


@pytest.mark.parametrize("chroot,etc", [("default", "/etc"), ("flat", "/conf")])
@pytest.mark.parametrize("mode", ["overlay", "readonly"])
def test_host_secrets_are_hidden_in_every_root(rooted, mode, chroot, etc):
    check_secrets(rooted, etc, root=mode, chroot=chroot)


def test_the_whole_host_as_a_root(places):
    """Our own directories are on a file system of their own then, as /run is."""
    file = places.dir / "host.json"
    file.write_text(json.dumps({"plugin": {"exec": {"config": {"allow_caps": ["all"]}}},
                                "client": {"user_denylist": [], "chroot": {"host": {"/": "/"}}}}))
    d = OnOwnDisk("64m", "--config", file)
    try:
        for mode in ("overlay", "readonly"):
            check_secrets(d, "/etc", root=mode, chroot="host")
            assert out(d.sh("ls -d /usr /var /home /local", root=mode, chroot="host")).split() == \
                ["/home", "/local", "/usr", "/var"]
    finally:
        d.stop()


def test_host_secrets_are_not_copied(places):
    config = {"client": {"chroot": {"etc": {str(places.image): "/", "/etc": "/conf"}}}}
    file = places.dir / "etc.json"
    file.write_text(json.dumps(config))
    d = Daemon(BINARY, "--config", file)
    try:
        task = d.sh("ls -d /conf/passwd; ls -d /conf/shadow /conf/gshadow /conf/ssl/private; true", root="copy",
                    chroot="etc")
        assert out(task) == "/conf/passwd\n"
        assert not list((d.dir / "state/tasks").glob("*/upper/root/conf/shadow"))
    finally:
        d.stop()


def test_a_source_that_holds_the_state_has_no_overlay(rooted):
    before = rooted.census()
    reply = rooted.post("/v1/tasks", {"command": "/bin/true", "chroot": "tmp"})
    assert reply.status == 500 and reply.json["step"] == "rootfs" and "state" in reply.json["detail"], reply.body
    rooted.assert_as_before(before)


def test_an_unknown_chroot_or_root_is_named(rooted):
    for field, value in (("chroot", "none"), ("root", "bind")):
        reply = rooted.post("/v1/tasks", {"command": "/bin/true", field: value})
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == f"/{field}", reply.body


def test_a_working_directory_is_made_in_a_root_that_is_read_only(rooted):
    task = rooted.sh("readlink /proc/self/cwd; stat -c %u /new/place; ls /usr/bin/sh", root="readonly", chroot="image",
                     work_dir="/new/place", user="nobody")
    assert out(task) == "/new/place\n65534\n/usr/bin/sh\n"


@pytest.mark.parametrize("mode", ["overlay", "readonly"])
def test_contents_are_those_of_now(rooted, places, mode):
    """Also of a file that was replaced by another one, and of one that was looked for in vain before."""
    for path, inside in ((places.tools / "now", "/usr/local/tools/now"), (places.image / "srv/now", "/srv/now")):
        for text in ("", "first\n", "second\n"):
            if text:
                path.with_suffix(".new").write_text(text)
                path.with_suffix(".new").rename(path)
            task = rooted.sh(f"cat {inside} 2>/dev/null; true", root=mode, chroot="nested")
            assert out(task) == text
        path.unlink()


def knows_attributes(directory):
    """tmpfs has "user." attributes since Linux 6.6."""
    try:
        os.setxattr(directory, "user.test", b"x")
    except OSError:
        return False
    return True


def test_what_a_copy_keeps(rooted, places):
    task = rooted.sh("cd /srv; stat -c '%n %a %u %g %h %Y' plain second-name; readlink dangling; ls; stat -c %s sparse;"
                     "echo task > plain; cat second-name", root="copy", chroot="kinds", user="0")
    lines = out(task).split("\n")
    assert lines[:2] == ["plain 640 1234 2345 1 1000000000", "second-name 640 1234 2345 1 1000000000"]
    assert lines[2] == "/no/such/place"
    assert lines[3:-3] == ["dangling", "only-root", "plain", "power", "second-name", "setuid", "sparse"]
    assert lines[-3:] == [str(64 << 20), "host's", ""]
    root = rooted.dir / f"state/tasks/{task['id']}/upper/root"
    if knows_attributes(rooted.dir):
        assert os.getxattr(root / "srv/second-name", "user.note") == b"kept"
    assert os.listxattr(root / "srv/power") == [] and os.listxattr(places.kinds / "srv/power") != []
    assert (places.kinds / "srv/plain").read_text() == "host's\n"
    copied, source = (root / "srv/sparse").stat(), (places.kinds / "srv/sparse").stat()
    assert copied.st_ino != source.st_ino and copied.st_blocks < 2048  # holes stay holes
    assert (root / "srv/sparse").read_bytes() == (places.kinds / "srv/sparse").read_bytes()


def test_a_copy_is_unreachable_for_the_servers_account(rooted):
    """It may hold set-id files: only root may pass the directory above it."""
    task = rooted.sh("true", root="copy", chroot="kinds")
    assert (rooted.dir / f"state/tasks/{task['id']}/upper").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", MODES)
def test_set_id_bits_give_nothing(rooted, places, mode):
    spec = {"root": mode, "chroot": "kinds", "user": "nobody", "no_new_privs": False}
    task = rooted.run("/srv/setuid", "/srv/only-root", **spec)
    assert "Permission denied" in task["output"]["stderr"] and task["output"]["stdout"] == ""
    control = subprocess.run([places.kinds / "srv/setuid", places.kinds / "srv/only-root"], check=True, user=65534,
                             capture_output=True, text=True)
    assert control.stdout == "top secret"


@pytest.mark.parametrize("mode", ["overlay", "readonly"])
def test_device_nodes_of_a_source_give_nothing(rooted, places, mode):
    task = rooted.sh("echo x > /srv/device", root=mode, chroot="kinds", user="0")
    assert task["exit"]["code"] != 0 and "Permission denied" in task["output"]["stderr"]
    (places.kinds / "srv/device").write_text("the control")


def test_a_copy_tells_its_size(rooted, places):
    task = rooted.sh("true", root="copy", chroot="many")
    assert task["root"]["mode"] == "copy" and task["root"]["files"] > 20000
    size = sum(p.stat().st_size for p in places.many.rglob("*") if p.is_file() and not p.is_symlink())
    assert task["root"]["bytes"] == size
    assert "root" not in rooted.sh("true", chroot="many")


def test_a_copy_can_be_stopped_and_leaves_nothing(rooted):
    before = rooted.census()
    reply = rooted.post("/v1/tasks?timeout=50ms", {"command": "/bin/sleep", "args": ["60"], "root": "copy",
                                                   "chroot": "many"})
    assert reply.status == 201 and reply.json["state"] == "starting", reply.body
    task = reply.json["id"]
    assert rooted.post(f"/v1/tasks/{task}/signal", {"signal": "TERM"}).json["code"] == "task_starting"
    assert rooted.post(f"/v1/tasks/{task}/stop?wait=exited").status in (200, 202)
    ended = rooted.wait_ended(task)
    assert ended["state"] == "failed" and ended["error"]["code"] == "task_stopped", ended
    assert not (rooted.dir / f"state/tasks/{task}/upper/root.part").exists()
    assert rooted.request("DELETE", f"/v1/tasks/{task}").status == 204
    rooted.assert_as_before(before)


def test_a_task_can_be_deleted_while_its_root_is_copied(rooted):
    before = rooted.census()
    reply = rooted.post("/v1/tasks?timeout=50ms", {"command": "/bin/sleep", "args": ["60"], "root": "copy",
                                                   "chroot": "many"})
    assert reply.json["state"] == "starting"
    assert rooted.request("DELETE", f"/v1/tasks/{reply.json['id']}?force=true").status == 204
    rooted.assert_as_before(before)


def test_a_full_disk_fails_a_copy_and_leaves_nothing(places):
    image = {str(places.image): "/"}
    for i in range(8):
        source = places.dir / f"fill-{i}"
        source.mkdir()
        (source / "data").write_bytes(os.urandom(4 << 20))
        image[str(source)] = f"/fill/{i}"
    file = places.dir / "full.json"
    file.write_text(json.dumps({"client": {"chroot": {"big": image}}}))
    d = OnOwnDisk("24m", "--config", file)
    try:
        before, free = d.census(), os.statvfs(d.dir).f_bfree
        reply = d.post("/v1/tasks", {"command": "/bin/true", "root": "copy", "chroot": "big"})
        assert (reply.status, reply.json["step"], reply.json["errno"]) == (507, "rootfs", "ENOSPC"), reply.body
        assert "fill-" in reply.json["detail"]
        d.assert_as_before(before)
        assert abs(os.statvfs(d.dir).f_bfree - free) < 256
    finally:
        d.stop()


@pytest.mark.parametrize("mode", ["overlay", "readonly"])
def test_a_start_does_not_depend_on_the_number_of_files(rooted, mode):
    def once(chroot):
        start = time.perf_counter()
        rooted.run("/bin/true", root=mode, chroot=chroot)
        return time.perf_counter() - start
    once("many"), once("image")
    times = [(once("many"), once("image")) for _ in range(9)]
    assert statistics.median(t[0] for t in times) < 3 * statistics.median(t[1] for t in times)


def test_a_failed_root_leaves_nothing(rooted, places):
    before = rooted.census()
    for mode in MODES:
        reply = rooted.post("/v1/tasks", {"command": "/no/such/command", "root": mode, "chroot": "image"})
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/command"
    rooted.assert_as_before(before)


class WithoutCalls(Daemon):
    """A daemon on a kernel that lacks some system calls."""

    def __init__(self, calls, *flags):
        wrapper = pathlib.Path(tempfile.mkdtemp(prefix="cloister-wrapper-")) / "cloisterd"
        wrapper.write_text(f"#!/bin/sh\nexec {sys.executable} {ROOT}/tests/api/without_calls.py {calls} {BINARY} \"$@\"\n")
        wrapper.chmod(0o755)
        super().__init__(wrapper, *flags)

    def discard(self):
        super().discard()
        shutil.rmtree(self.binary.parent)


@pytest.mark.parametrize("calls", [NEW_MOUNT_CALLS, "428", "429", "442"])
def test_without_the_new_mount_calls_roots_are_the_same(places, calls):
    file = places.dir / "cloister.json"
    config = places.config()
    config["client"]["host_volume"] = {"tools": {"path": str(places.tools)}}
    file.write_text(json.dumps(config))
    d = WithoutCalls(calls, "--config", file)
    try:
        assert "mount trees cannot be copied here: ENOSYS" in (d.dir / "log").read_text()
        before = fingerprint(places.image), fingerprint(places.tools)
        for mode in MODES:
            found = writable(d, ["/usr", "/etc", "/usr/local/tools"] + OWN, root=mode, chroot="nested")
            assert found == (OWN if mode == "readonly" else ["/usr", "/etc", "/usr/local/tools"] + OWN), mode
            mount = {"volume": "tools", "destination": "/new/v", "read_only": True}
            script = "/new/v/bin/hello; (echo x > /new/v/bin/x) 2>/dev/null && echo written; true"
            assert out(d.sh(script, root=mode, chroot="image", user="0", volume_mounts=[mount])) == "hello\n"
        assert (fingerprint(places.image), fingerprint(places.tools)) == before
        reply = d.post("/v1/tasks", {"command": "/bin/true", "volume_mounts": [
            {"volume": "tools", "destination": "/v", "propagation_mode": "host-to-task"}]})
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/volume_mounts/0/propagation_mode"
    finally:
        d.stop()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are x86-64's")
@pytest.mark.parametrize("call,number,steps", [
    ("setns", 308, {**dict.fromkeys(MODES, "mount_propagation"), "readonly": "rootfs"}),
    ("unshare", 272, dict.fromkeys(MODES, "cgroup_namespace")),
    ("copy_file_range", 326, {}),
    ("mount", 165, dict.fromkeys(MODES, "mount_propagation")), ("fstatfs", 138, dict.fromkeys(MODES, "rootfs")),
    ("renameat2", 316, {}), ("symlinkat", 266, {"overlay": "dev", "readonly": "rootfs", "copy": "rootfs"})])
def test_a_call_that_is_missing_is_done_without_or_named(places, call, number, steps):
    file = places.dir / "cloister.json"
    file.write_text(json.dumps(places.config()))
    d = WithoutCalls(str(number), "--config", file)
    try:
        before = d.census()
        for mode in MODES:
            spec = {"command": "/bin/true", "root": mode, "chroot": "flat" if mode == "readonly" else "image"}
            reply = d.post("/v1/tasks?wait=exited", spec)
            if mode in steps:
                assert reply.status == 500 and reply.json["step"] == steps[mode], (call, mode, reply.body)
                d.assert_as_before(before)
            else:
                assert reply.status == 201 and reply.json["exit"]["code"] == 0, (call, mode, reply.body)
                assert d.request("DELETE", f"/v1/tasks/{reply.json['id']}").status == 204
    finally:
        d.stop()
