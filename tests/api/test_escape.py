"""Ways out of a task, and what leaks into one: each is tried, fails, and has a control in which it works, where the
defence is off: on the host itself, in a bare chroot, or in a task that the operator lets do it.

The attempts are those of attempts.py. They are made by nobody, and by root with all capabilities of this host but those
that are the very power to do it (POWER there). The other tests here are of what is no single attempt. docs/isolation.md
lists all, with those of other files."""
import ctypes
import json
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import sys
import tempfile

import pytest

import attempts
from conftest import BINARY, Daemon

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are x86-64's")

CHROOT = "/bin=/bin,/etc=/etc,/lib=/lib,/lib64=/lib64,/sbin=/sbin,/usr=/usr"
PYTHON = "/usr/bin/python3"
SCRIPT = pathlib.Path(attempts.__file__)
# What the kernel at hand lacks cannot be shown to work anywhere.
LACKING = {"ENOENT", "ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ENODEV", "ENXIO", "EOPNOTSUPP", "EIO", "ENODATA"}
GROUPS = sorted({tuple(p) for p in attempts.POWER.values()})

libc = ctypes.CDLL(None, use_errno=True)


class Ground:
    """What a task must not reach: a file of the host's root, and what listens or lies on the host."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cloister-escape-", dir="/var/tmp"))
        self.dir.chmod(0o755)
        (self.dir / "program").mkdir()
        shutil.copy2(SCRIPT, self.dir / "program")
        self.canary = self.dir / "canary"
        self.canary.write_text("the host's")
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind("\0" + self.dir.name)
        self.abstract.listen()
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.shm_file = pathlib.Path("/dev/shm", self.dir.name)
        self.shm_file.write_text("the host's")
        self.shm_file.chmod(0o666)
        self.shm = libc.shmget(0, 4096, 0o1666)  # IPC_PRIVATE, IPC_CREAT
        (self.dir / "disk").write_bytes(bytes(1 << 20))
        self.loop = subprocess.run(["losetup", "--find", "--show", self.dir / "disk"], check=True, capture_output=True,
                                   text=True).stdout.strip()
        disk = os.stat(self.loop).st_rdev
        self.args = {"canary": str(self.canary), "abstract": self.dir.name, "port": self.tcp.getsockname()[1],
                     "shm": self.shm, "shm_file": str(self.shm_file), "disk": [os.major(disk), os.minor(disk)]}

    def close(self):
        subprocess.run(["losetup", "--detach", self.loop], check=True)
        libc.shmctl(self.shm, 0, None)  # IPC_RMID
        self.shm_file.unlink()
        self.abstract.close()
        self.tcp.close()
        shutil.rmtree(self.dir)


@pytest.fixture(scope="module")
def ground():
    g = Ground()
    yield g
    g.close()


def daemon_of(ground, *flags):
    return Daemon(BINARY, "--chroot-env", f"{CHROOT},{ground.dir}/program=/program", "--user-denylist", "",
                  "--allow-caps", "all", "--allow-seccomp-unconfined", *flags)


@pytest.fixture(scope="module")
def free(ground):
    """A daemon whose operator allows everything."""
    d = daemon_of(ground)
    ground.args["api"] = d.socket
    yield d
    d.stop()


def held(daemon):
    return set(daemon.get("/v1/attributes/caps.held").body.decode().strip().strip('"').split(","))


def tried(daemon, ground, names, **spec):
    task = daemon.run(PYTHON, "/program/attempts.py", json.dumps(names), json.dumps(ground.args),
                      **{"network": {"mode": "none"}, **spec})
    assert task["exit"]["code"] == 0, task["output"]
    return json.loads(task["output"]["stdout"])


def refused(outcomes):
    """None was done, and none was a fault of the attempt's own."""
    assert not {n: o for n, o in outcomes.items() if o in (0, "broken", "SIGALRM", "SIGSEGV", "SIGKILL")}, outcomes


def who(daemon, user, power):
    """nobody as it is, or root with all that there is but this power."""
    if user == "nobody":
        return {}
    return {"user": "root", "cap_drop": ["all"], "cap_add": sorted(held(daemon) - set(power))}


@pytest.mark.parametrize("user", ["nobody", "root"])
@pytest.mark.parametrize("power", GROUPS, ids=lambda p: "-".join(p) or "none")
def test_attempts_fail(free, ground, user, power):
    names = [n for n, p in attempts.POWER.items() if tuple(p) == power]
    if "sys_resource" not in held(free):  # the floor is the daemon's own, which it cannot raise then
        names = [n for n in names if n != "lower_oom_score_adj"]
    refused(tried(free, ground, names, **who(free, user, power)))


@pytest.fixture(scope="module")
def controls(free, ground):
    """Outcomes on the host, in a bare chroot, and in tasks that may do everything."""
    everything = {"user": "root", "cap_add": ["all"], "network": {"mode": "host"}}
    names = list(attempts.ATTEMPTS)
    on_host = [sys.executable, "-B", str(SCRIPT), json.dumps(names), json.dumps({**ground.args, "place": str(ground.dir)})]
    bare = f"""
        mount --make-rprivate / && mkdir -p {ground.dir}/bare && mount -t tmpfs none {ground.dir}/bare
        cd {ground.dir}/bare && mkdir tmp proc program etc
        for d in usr bin lib lib64; do [ ! -e /$d ] || {{ mkdir -p $d && mount --bind /$d $d; }}; done
        mount --bind {ground.dir}/program program && mount -t proc none proc
        exec 9</
        exec chroot . {PYTHON} /program/attempts.py "$@" """
    yield {
        "host": json.loads(subprocess.run(["unshare", "--mount", *on_host], check=True, capture_output=True).stdout),
        "bare chroot": json.loads(subprocess.run(
            ["unshare", "--mount", "/bin/sh", "-ec", bare, "sh", json.dumps(["double_chroot", "upwards_from_every_descriptor",
             "root, cwd or a descriptor of another process"]), json.dumps(ground.args)],
            check=True, capture_output=True).stdout),
        "capabilities": tried(free, ground, names, **everything),
        "no filter": tried(free, ground, names, **everything, seccomp="unconfined"),
    }


def test_controls_work(free, controls):
    """Each attempt works where nothing is in its way, or this kernel has nothing that could be tried."""
    lacking, without = [], set(attempts.POWER)
    for name in attempts.ATTEMPTS:
        outcomes = {where: found[name] for where, found in controls.items() if name in found}
        if 0 in outcomes.values():
            without.discard(name)
        elif set(outcomes.values()) & LACKING or set(attempts.POWER[name]) - held(free) == set(attempts.POWER[name]) != set():
            without.discard(name)
            lacking.append((name, outcomes))
    assert not without, {n: {w: f.get(n) for w, f in controls.items()} for n in without}
    assert len(lacking) < len(attempts.ATTEMPTS) / 4, lacking


@pytest.mark.parametrize("user", ["nobody", "root"])
def test_attempts_fail_without_pivot_root(ground, user):
    """The old root is not detached there; the ways to it must be closed all the same (runc's no_pivot.bats)."""
    d = daemon_of(ground, "--no-pivot-root")
    try:
        names = ["double_chroot", "upwards_from_every_descriptor", "root, cwd or a descriptor of another process",
                 "mount proc", "user_namespace_then_mount_cgroup", "unshare NEWUSER", "read /proc/kcore",
                 "write /proc/sysrq-trigger", "unmount /proc/sys"]
        ground.args["api"] = d.socket
        refused(tried(d, ground, names, **who(d, user, ["sys_admin", "sys_ptrace"])))
    finally:
        d.stop()


@pytest.mark.parametrize("user", ["nobody", "root"])
def test_the_hosts_processes_are_seen_but_not_entered(free, ground, user):
    """pid_mode and ipc_mode host: what is shared is told; the files, the memory and the programs of others are not."""
    names = ["root, cwd or a descriptor of another process", "write_to_the_program_of_another_process",
             "setns to init's mount namespace", "process_vm_readv of init", "ptrace", "double_chroot"]
    spec = {"pid_mode": "host", "ipc_mode": "host", **who(free, user, ["sys_ptrace", "sys_admin"])}
    refused(tried(free, ground, names, **spec))
    shared = tried(free, ground, ["shared_memory_of_the_host"], **spec)
    assert shared == {"shared_memory_of_the_host": 0}  # the control of the private mode


# --- descriptors ----------------------------------------------------------------------------------------------------
FDS = "import os; print(sorted(int(f) for f in os.listdir('/proc/self/fd')))"


@pytest.fixture(scope="module")
def inheriting(tmp_path_factory):
    """A daemon that was started with twenty descriptors of somebody else, and in groups that are not its own."""
    directory = tmp_path_factory.mktemp("inherit")
    script = directory / "cloisterd"
    fds = " ".join(f"{n}</" for n in range(10, 29))
    script.write_text(f"#!/bin/bash\nexec {fds} 29<>/dev/null\nexec setpriv --groups 0,4,27,998 {BINARY} \"$@\"\n")
    script.chmod(0o755)
    d = Daemon(script)
    yield d
    d.stop()


def test_no_descriptor_leaks_into_a_task(inheriting):
    """CVE-2024-21626's root. Many at once: a fork of one start must not take what another has just opened."""
    control = subprocess.run(["bash", "-c", f'exec 10</; exec {PYTHON} -c "$1"', "bash", FDS], check=True,
                             capture_output=True, text=True).stdout
    assert "10" in control
    found = []
    for _ in range(4):
        ids = [inheriting.start_task(PYTHON, "-c", FDS)["id"] for _ in range(8)]
        for task in ids:
            inheriting.wait_ended(task)
            found.append(inheriting.get(f"/v1/tasks/{task}/logs?stream=stdout").body.decode())
    assert set(found) == {"[0, 1, 2, 3]\n"}, found  # 3 is the listing's own
    task = inheriting.start_task("/bin/sleep", "60")
    session = inheriting.post(f"/v1/tasks/{task['id']}/exec", {"command": PYTHON, "args": ["-c", FDS]}).json
    assert session["output"]["stdout"] == "[0, 1, 2, 3]\n"


@pytest.mark.parametrize("user,expected", [("nobody", "65534 65534 65534"), ("4242", "4242 65534 65534"),
                                           ("4242:4343", "4242 4343 4343"), ("daemon", "1 1 1")])
def test_no_group_of_the_daemons_leaks_into_a_task(inheriting, user, expected):
    """CVE-2022-36109 and its kin."""
    status = pathlib.Path(f"/proc/{inheriting.process.pid}/status").read_text()
    assert "Groups:\t0 4 27 998" in status  # the control
    out = inheriting.sh("echo $(id -u) $(id -g) $(id -G)", user=user)["output"]["stdout"]
    assert out == expected + "\n"


@pytest.mark.parametrize("user", ["00", "-1", "4294967295", "4294967296", " 0", "0x0", "0 ", "+0", "1000:", ":0", "1:-1",
                                  "nobody:root", "1:0:0", "", "no such", "٠", "root\n", "../root", "18446744073709551616"])
def test_a_user_that_is_no_user_is_nobody_elses(free, user):
    """CVE-2016-3697, CVE-2024-40635: nothing falls back to root. The control: this daemon allows root."""
    reply = free.post("/v1/tasks", {"command": "/bin/true", "user": user})
    assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/user", reply.body
    assert free.sh("id -u", user="0")["output"]["stdout"] == "0\n"


@pytest.mark.parametrize("user", [None, 0, 1.5, True, ["root"], {"name": "root"}])
def test_a_user_of_another_type_is_refused(free, user):
    reply = free.post("/v1/tasks", {"command": "/bin/true", "user": user})
    assert reply.status in (201, 422) and (reply.status == 422 or free.task(reply.json["id"])["spec"]["user"] == "nobody")


def test_denied_groups_count_as_supplementary_ones_too(ground, tmp_path):
    """The account "list" has no second group; "games" as its own group is denied whichever way it comes."""
    d = daemon_of(ground, "--denied-host-gids", "60,4300-4400", "--denied-host-uids", "38")
    try:
        for user in ("games", "4242:60", "4242:4343", "list", "38", "38:100"):
            reply = d.post("/v1/tasks", {"command": "/bin/true", "user": user})
            assert reply.status == 403 and reply.json["errors"][0]["pointer"] == "/user", (user, reply.body)
        assert d.sh("id -g", user="4242:61")["output"]["stdout"] == "61\n"
    finally:
        d.stop()


# --- capability sets ------------------------------------------------------------------------------------------------
NUMBERS = {"chown": 0, "dac_override": 1, "fowner": 3, "fsetid": 4, "kill": 5, "setgid": 6, "setuid": 7, "setpcap": 8,
           "net_bind_service": 10, "net_raw": 13, "sys_chroot": 18, "mknod": 27, "audit_write": 29, "setfcap": 31}
DEFAULT = set(NUMBERS) - {"net_raw"}
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def sets_of(text):
    return [int(line.split()[1], 16) for line in text.splitlines() if line.split(":")[0] in SETS]


def bits(names):
    return sum(1 << NUMBERS[n] for n in names)


@pytest.mark.parametrize("user", ["nobody", "root", "4242"])
@pytest.mark.parametrize("add,drop", [
    ([], []), (["net_raw"], []), ([], ["all"]), (["chown"], ["all"]), (["CAP_KILL", "net_raw"], ["all"]), ([], ["mknod"]),
    (["mknod"], ["mknod"]), (["net_bind_service"], ["chown", "setuid", "setgid"])])
def test_the_capability_sets_are_as_computed(free, user, add, drop):
    """Of the task and of its sessions. A user that is not root holds what was added, and nothing by inheritance
    (CVE-2022-24769, CVE-2016-8867, CVE-2019-12618)."""
    added = {a.lower().removeprefix("cap_") for a in add}
    bounding = (set() if "all" in drop else DEFAULT - set(drop)) | added
    mine = bounding if user == "root" else added
    inheritable = ambient = 0 if user == "root" else bits(added)
    expected = [inheritable, bits(mine), bits(mine), bits(bounding), ambient]
    task = free.start_task("/bin/sh", "-c", "cat /proc/self/status; sleep 60", user=user, cap_add=add, cap_drop=drop)
    session = free.post(f"/v1/tasks/{task['id']}/exec", {"command": "/bin/cat", "args": ["/proc/self/status"]}).json
    main = free.post(f"/v1/tasks/{task['id']}/exec", {"command": "/bin/cat", "args": ["/proc/1/status"]}).json
    assert sets_of(main["output"]["stdout"]) == expected
    assert sets_of(session["output"]["stdout"]) == expected
    assert free.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204
