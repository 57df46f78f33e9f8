"""Which devices a task may use: those of /dev, and nothing else, not even as root with its own mounts.

A node can only be opened where it is allowed and where its mount is no `nodev` one, and all mounts of a task but a
read-only /dev are. So that the device policy itself is seen to hold, a process of the test's own, root on the host,
opens nodes before it joins a task's groups (the control) and after.

Where the host has the v1 controller all is done twice: by the controller, and by the BPF program, by a daemon that does
not see the controller's hierarchy (in a mount namespace of its own)."""
import errno
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys

import pytest

from conftest import BINARY, CGROUP_ROOT, Daemon, wait_until

V1 = CGROUP_ROOT / "devices"
LISTED = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0),
          "ptmx": (5, 2), "pts": (136, 0)}
# Documentation/admin-guide/devices.txt of the kernel; not all of them have a driver on every host.
OTHERS = {"mem": "c 1:1", "kmem": "c 1:2", "port": "c 1:4", "zero-unknown": "c 1:6", "aio": "c 1:10", "kmsg": "c 1:11",
          "tty1": "c 4:1", "ttyS0": "c 4:64", "console": "c 5:1", "vcs": "c 7:0", "input": "c 13:0", "mixer": "c 14:0",
          "nvram": "c 10:144", "tun": "c 10:200", "fuse": "c 10:229", "kvm": "c 10:232", "btrfs": "c 10:234",
          "loop-control": "c 10:237", "dri": "c 226:0", "null-as-block": "b 1:3", "ram": "b 1:0", "loop0": "b 7:0",
          "sda": "b 8:0", "md0": "b 9:0", "pts-as-block": "b 136:0", "vda": "b 252:0", "dm": "b 253:0", "vdb": "b 254:0"}

# Opens each node of the directory argv[1] in each way: {name: {way: errno, 0 when it worked}}, once, then again as a
# member of the groups argv[2:]. A control that opens a disk must not write to it, so it only reads.
PROBE = """
import json, os, sys
def attempt(path, flags):
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
        return 0
    except OSError as e:
        return e.errno
ways = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}
def all_of(safe):
    return {n: {w: attempt(os.path.join(sys.argv[1], n), f) for w, f in ways.items()
                if not safe or w == "r" or n in ("kmsg", "null", "zero", "full")} for n in os.listdir(sys.argv[1])}
before = all_of(True)
for group in sys.argv[2:]:
    open(group + "/cgroup.procs", "w").write(str(os.getpid()))
print(json.dumps([before, all_of(False)]))
"""

CONFIG = """
client { user_denylist = [] }
plugin "exec" { config { allow_caps = ["all"] } }
"""


def without(directory, *hierarchies):
    """A cloisterd that does not see these hierarchies: they are unmounted in a mount namespace of its own only."""
    script = directory / "cloisterd"
    paths = " ".join(str(h) for h in hierarchies)
    script.write_text(f"#!/bin/sh\nexec unshare --mount --propagation private /bin/sh -c"
                      f" 'umount {paths} && exec {BINARY} \"$@\"' cloisterd \"$@\"\n")
    script.chmod(0o755)
    return script


def configured(directory):
    directory.chmod(0o755)
    file = directory / "cloister.conf"
    file.write_text(CONFIG)
    return "--config", file


@pytest.fixture(scope="module", params=["host's", "bpf"])
def devices(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("devices")
    v1 = (V1 / "devices.list").exists()
    if request.param == "bpf" and not v1:
        pytest.skip("without the v1 controller, the host's way is the BPF program")
    d = Daemon(without(directory, V1) if request.param == "bpf" else BINARY, *configured(directory))
    assert d.get("/v1/attributes").json["attributes"].get("cgroup.devices") == \
        ("1" if v1 and request.param != "bpf" else "bpf")
    yield d
    d.stop()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """A directory of the host with a node for each number."""
    directory = tmp_path_factory.mktemp("nodes")
    for name, (major, minor) in LISTED.items():
        os.mknod(directory / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    for name, text in OTHERS.items():
        kind, major, minor = text.replace(":", " ").split()
        os.mknod(directory / name, (stat.S_IFCHR if kind == "c" else stat.S_IFBLK) | 0o666,
                 os.makedev(int(major), int(minor)))
    yield directory
    shutil.rmtree(directory)


def probe(daemon, task, nodes):
    groups = [g for g in daemon.groups() if g.endswith(task["id"])]
    assert groups
    run = subprocess.run([sys.executable, "-c", PROBE, nodes, *groups], check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def assert_policy_holds(before, inside):
    assert all(e == errno.EPERM for name in OTHERS for e in inside[name].values()), inside
    opened = [name for name in OTHERS if 0 in before[name].values()]
    assert "kmsg" in opened and len(opened) > 1, f"the control opens too little: {before}"
    for name in ("null", "zero", "full", "random", "urandom"):
        assert before[name]["r"] == 0 and set(inside[name].values()) == {0}, (name, before[name], inside[name])
    assert all(errno.EPERM not in inside[name].values() for name in LISTED), inside


def test_only_listed_devices_open(devices, nodes):
    task = devices.start_task("/bin/sleep", "60")
    assert_policy_holds(*probe(devices, task, nodes))
    assert devices.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_the_policy_outlives_the_launcher(devices, nodes):
    task = devices.start_task("/bin/sleep", "60")
    devices.process.send_signal(signal.SIGKILL)
    devices.process.wait()
    devices.log.close()
    devices.start()
    assert_policy_holds(*probe(devices, task, nodes))
    again = devices.start_task("/bin/sleep", "60")
    assert_policy_holds(*probe(devices, again, nodes))
    for ended in (task, again):
        assert devices.request("DELETE", f"/v1/tasks/{ended['id']}?force=true").status == 204


def test_the_policy_holds_after_a_restart_of_the_task(devices, nodes):
    task = devices.start_task("/bin/sleep", "60")
    assert devices.post(f"/v1/tasks/{task['id']}/restart", {"timeout": "0s"}).status in (200, 202)
    wait_until(lambda: (t := devices.task(task["id"]))["state"] == "running" and t["restarts"] == 1)
    assert_policy_holds(*probe(devices, task, nodes))
    assert devices.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


USE = """
import fcntl, os, pty, termios
null = os.open('/dev/null', os.O_RDWR); assert os.write(null, b'x') == 1 and os.read(null, 1) == b''
zero = os.open('/dev/zero', os.O_RDWR); assert os.write(zero, b'x') == 1 and os.read(zero, 2) == bytes(2)
full = os.open('/dev/full', os.O_RDWR); assert os.read(full, 1) == bytes(1)
try:
    os.write(full, b'x'); assert False
except OSError as e:
    assert e.errno == 28, e
for name in ('random', 'urandom'):
    fd = os.open('/dev/' + name, os.O_RDWR); assert len(os.read(fd, 8)) == 8 and os.write(fd, b'x') == 1
open('/dev/shm/file', 'w').write('x')
pid, master = pty.fork()
if pid == 0:
    os.write(os.open('/dev/tty', os.O_RDWR), os.ttyname(0).encode()); os._exit(0)
text = b''
try:
    while chunk := os.read(master, 64): text += chunk
except OSError:
    pass
assert text.startswith(b'/dev/pts/') and os.waitpid(pid, 0)[1] == 0, text
print('all work')
"""


@pytest.mark.parametrize("user", ["nobody", "root"])
def test_listed_devices_work(devices, user):
    task = devices.run("/usr/bin/python3", "-c", USE, user=user)
    assert task["output"]["stdout"] == "all work\n", task["output"]
    ls = devices.run("/bin/ls", "/dev", user=user)["output"]["stdout"].split()
    assert ls == ["fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
                  "urandom", "zero"]


MKNOD = """
import json, os, socket, stat, sys
def attempt(fn):
    try:
        fn()
        return 0
    except OSError as e:
        return e.errno
found = {}
for name, (kind, major, minor) in json.loads(sys.argv[1]).items():
    path = sys.argv[2] + '/' + name
    mode = (stat.S_IFCHR if kind == 'c' else stat.S_IFBLK) | 0o666
    made = attempt(lambda: os.mknod(path, mode, os.makedev(major, minor)))
    found[name] = [made, attempt(lambda: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)))]
found['fifo'] = attempt(lambda: os.mkfifo(sys.argv[2] + '/fifo'))
found['socket'] = attempt(lambda: os.mknod(sys.argv[2] + '/socket', stat.S_IFSOCK | 0o600))
print(json.dumps(found))
"""


@pytest.mark.parametrize("user", ["nobody", "root"])
def test_with_cap_mknod_only_listed_devices_are_made(devices, tmp_path, user):
    """Of what a task makes a node stays on the host's disk, where no `nodev` holds: the server, which may enter the
    task's directory, could open it. So there must be none."""
    wanted = {n: ("c", *numbers) for n, numbers in LISTED.items()}
    wanted |= {n: (t[0], int(t[2:].split(":")[0]), int(t.split(":")[1])) for n, t in OTHERS.items()}
    task = devices.run("/usr/bin/python3", "-c", MKNOD, json.dumps(wanted), "/tmp", user=user, cap_add=["mknod"])
    found = json.loads(task["output"]["stdout"])
    assert {n: found[n] for n in LISTED} == {n: [0, errno.EACCES] for n in LISTED}  # EACCES: /tmp is nodev
    assert {n: found[n] for n in OTHERS} == {n: [errno.EPERM, errno.ENOENT] for n in OTHERS}
    assert found["fifo"] == found["socket"] == 0
    control = subprocess.run([sys.executable, "-c", MKNOD, json.dumps(wanted), tmp_path], check=True,
                             capture_output=True, text=True)
    made = json.loads(control.stdout)
    shutil.rmtree(tmp_path)
    assert {made[n][0] for n in wanted} == {0} and made["kmsg"] == [0, 0]


def test_deleting_host_files_needs_no_device(devices):
    """Overlayfs marks what is deleted by a character device 0:0."""
    task = devices.sh("rm /etc/hostname && ls /etc/hostname", user="root")
    assert task["exit"]["code"] == 2 and "No such file" in task["output"]["stderr"]


def test_root_with_mounts_of_its_own_opens_nothing(devices):
    """CAP_SYS_ADMIN mounts what is not nodev: here the host's own /dev."""
    script = "mount -t devtmpfs dev /tmp && cd /tmp && ls kmsg && (: >kmsg) && echo opened"
    task = devices.sh(script, user="root", cap_add=["sys_admin", "mknod"])
    assert task["output"]["stdout"] == "kmsg\n" and "Operation not permitted" in task["output"]["stderr"], task["output"]
    control = subprocess.run(["unshare", "--mount", "/bin/sh", "-c", script], check=False, capture_output=True, text=True)
    assert control.stdout == "kmsg\nopened\n", control


def test_a_writable_dev_of_its_own_opens_nothing(devices):
    script = ("mount -t tmpfs dev /tmp && cd /tmp && mknod null c 1 3 && : >null && echo null;"
              " mknod kmsg c 1 11 && : >kmsg && echo kmsg; mknod loop b 7 0 && head -c 1 loop && echo loop; true")
    task = devices.sh(script, user="root", cap_add=["sys_admin", "mknod"])
    assert task["output"]["stdout"] == "null\n", task["output"]
    assert task["output"]["stderr"].count("Operation not permitted") == 2
    control = subprocess.run(["unshare", "--mount", "/bin/sh", "-c", script], check=False, capture_output=True, text=True)
    assert control.stdout.startswith("null\nkmsg\n"), control


def test_a_policy_that_cannot_be_set_ends_the_start():
    if not (V1 / "devices.list").exists():
        pytest.skip("the unit test refuses the BPF program")
    d = Daemon()
    try:
        parent = V1 / d.parent
        (parent / "devices.deny").write_text("c 1:5 r")
        before = d.census()
        reply = d.post("/v1/tasks", {"command": "/bin/true"})
        assert reply.status == 500 and reply.json["step"] == "devices" and reply.json["errno"] == "EPERM", reply.body
        d.assert_as_before(before)
        (parent / "devices.allow").write_text("c 1:5 r")
        assert d.run("/bin/true")["exit"]["code"] == 0
    finally:
        d.stop()


def test_without_any_way_it_is_said(tmp_path):
    if not (V1 / "devices.list").exists():
        pytest.skip("here the BPF program is always there")
    v2 = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
          if " - cgroup2 " in line]
    tmp_path.chmod(0o755)
    d = Daemon(without(tmp_path, V1, *v2))
    try:
        attributes, driver = d.get("/v1/attributes").json, d.get("/v1/driver").json
        assert "cgroup.devices" not in attributes["attributes"] and driver["healthy"] is True
        assert "access to devices is not limited: no devices controller" in driver["health_description"]
        assert driver["health_description"] == attributes["driver"]["reason"]
        assert d.sh("echo hello > /dev/null && echo works")["output"]["stdout"] == "works\n"
    finally:
        d.stop()
