"""A daemon of the tests' own, and a census of what it may leave behind. All through the HTTP API, as a user would."""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from skips import pytest_sessionfinish  # noqa: F401 (a hook)

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / os.environ.get("CLOISTER_BINARY", "build/release/cloisterd")
# Where tests choose what else is constant: the sanitizers' build has the faults, too.
FAULTY = BINARY if BINARY.parent.name in ("asan", "faults") else ROOT / "build/faults/cloisterd"
CGROUP_ROOT = pathlib.Path("/sys/fs/cgroup")
PARTS = ("share", "reserve")  # of our group in the v2 tree and in v1's cpuset
# Set by tests/guest/init: the kind of host that this is meant to be, and options for every daemon.
HOST = os.environ.get("CLOISTER_HOST", "")
FLAGS = os.environ.get("CLOISTER_FLAGS", "").split()
collect_ignore = [] if HOST == "ramdisk" else ["test_ramdisk.py"]  # that host is made by tests/guest/run alone


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=60):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(condition, seconds=10, what="the condition"):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {seconds} s")


class Daemon:
    def __init__(self, binary=BINARY, *flags, env=None, socket_path=None, netns=False):
        """netns: in a network namespace of its own, where its bridge and its rules touch nothing of the host's."""
        self.binary, self.flags, self.env, self.netns = binary, flags, env, netns
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cloister-test-"))
        self.dir.chmod(0o755)  # the server's account must reach its directory
        self.parent = self.dir.name
        self.socket = socket_path or str(self.dir / "run/cloister.sock")
        self.port = free_port()
        self.process = None
        self.start()

    def start(self):
        command = [self.binary, "--state-dir", self.dir / "state", "--run-dir", self.dir / "run", "--listen",
                   f"127.0.0.1:{self.port}", "--cgroup-parent", self.parent, "--tokens-file", self.dir / "tokens",
                   "--cni-config-dir", self.dir / "cni", *self.flags]
        command[1:1] = FLAGS
        if self.netns:
            command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]
        self.log = open(self.dir / "log", "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd="/",
                                        env={**os.environ, **(self.env or {})})
        wait_until(self.ready, 20, "readiness")

    def ready(self):
        assert self.process.poll() is None, (self.dir / "log").read_text()
        try:
            return self.get("/readyz").status == 200
        except OSError:
            return False

    def request(self, method, path, body=None, headers=None, timeout=60):
        connection = UnixConnection(self.socket, timeout)
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        if body is not None:
            headers = {"Content-Type": "application/json", **(headers or {})}
        try:
            connection.request(method, path, body, headers or {})
        except BrokenPipeError:
            pass  # refused before the body was read: the answer is there already
        reply = Reply(connection.getresponse())
        connection.close()
        return reply

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body, **more)

    def run(self, *command, **spec):
        """Runs a command to its end; the task with its output."""
        body = {"command": command[0], "args": list(command[1:]), **spec}
        reply = self.post("/v1/tasks?wait=exited&output=true", body)
        assert reply.status == 201, reply.body
        return reply.json

    def sh(self, script, **spec):
        return self.run("/bin/sh", "-c", script, **spec)

    def start_task(self, *command, **spec):
        reply = self.post("/v1/tasks", {"command": command[0], "args": list(command[1:]), **spec})
        assert reply.status == 201, reply.body
        return reply.json

    def task(self, task_id):
        return self.get(f"/v1/tasks/{task_id}").json

    def wait_ended(self, task_id, seconds=20):
        return wait_until(lambda: (t := self.task(task_id))["state"] in ("exited", "failed", "lost") and t, seconds,
                          f"the end of task {task_id}")

    def children(self):
        """pid -> process name of the launcher's children."""
        found = {}
        for pid in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            try:
                found[int(pid)] = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has ended since
        return found

    def server_pid(self):
        return next(pid for pid, name in self.children().items() if name == "cloister-server")

    def assert_server_is_small(self, pid=None):
        """The server has never held what it passed on. The sanitizer's build keeps what was freed in quarantine."""
        status = pathlib.Path(f"/proc/{pid or self.server_pid()}/status").read_text()
        assert "asan" in str(self.binary) or int(re.search(r"VmHWM:\s+(\d+)", status)[1]) < 64 << 10, status

    def parents(self):
        """Our own group in each hierarchy; those of others may come and go meanwhile."""
        return [*CGROUP_ROOT.glob(self.parent), *CGROUP_ROOT.glob(f"*/{self.parent}")]

    def groups(self):
        children = [p for top in self.parents() for p in top.glob("*") if p.is_dir()]
        parts = [p for p in children if p.name in PARTS]
        return [str(p) for p in children if p not in parts] + \
            [str(p) for part in parts for p in part.glob("*") if p.is_dir()]

    def processes(self):
        """Every process in one of our groups."""
        found = set()
        for group in self.groups():
            try:
                found |= set(pathlib.Path(group, "cgroup.procs").read_text().split())
            except OSError:  # removed since (ENOENT, ENODEV)
                pass
        return found

    def mounts(self):
        return [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if self.parent in line]

    def in_netns(self, *command, check=True, **more):
        """Output of a command run in the daemon's network namespace."""
        return subprocess.run(["nsenter", f"--net=/proc/{self.process.pid}/ns/net", *command], check=check,
                              capture_output=True, text=True, timeout=60, **more).stdout

    def network(self):
        """What tasks have of the network: namespaces, ports and leases, and of a daemon with its own namespace also
        interfaces and rules. The bridge and the plugins' own chains stay."""
        found = [str(p) for part in ("netns/spaces", "netns/ports", "cni/leases/*") for p in self.dir.glob(f"run/{part}/*")
                 if not p.name.startswith(("lock", "last_reserved"))]
        if self.netns and shutil.which("iptables-save"):
            links = [line for line in self.in_netns("ip", "-o", "link").splitlines() if ": veth" in line]
            rules = [line for line in self.in_netns("iptables-save").splitlines()
                     if re.search(r"id: |CNI-DN-|CNI-[0-9a-f]{20}| -[sd] 172\.", line)]
            found += links + rules
        return found

    def slots(self):
        """Ranges of ids that tasks have for their user namespaces."""
        path = self.dir / "run/userns"
        return sorted(os.listdir(path)) if path.exists() else []

    def directories(self):
        return sorted(os.listdir(self.dir / "state/tasks"))

    def sockets(self):
        return sorted(os.listdir(self.dir / "run/supervisors"))

    def rows(self):
        return sorted(t["id"] for t in self.get("/v1/tasks?limit=1000").json["items"])

    def census(self):
        """What may grow: each entry must be as before when a launch has failed."""
        return {"groups": self.groups(), "mounts": self.mounts(), "directories": self.directories(),
                "sockets": self.sockets(), "network": self.network(), "userns": self.slots(), "rows": self.rows(),
                "children": sorted(self.children().values())}

    def assert_as_before(self, before):
        """A helper process of the launcher may take a moment to be reaped; anything else must be gone at once."""
        now = self.census()
        assert {**now, "children": None} == {**before, "children": None}
        wait_until(lambda: self.census() == before, 5, "the end of the launcher's helpers")

    def stop(self):
        for task in self.get("/v1/tasks?limit=1000").json["items"]:
            assert self.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status in (204, 404)  # gc may be first
        wait_until(lambda: set(self.children().values()) == {"cloister-server"}, 20, "the end of all supervisors")
        left = {k: v for k, v in self.census().items() if k != "children"}
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        log = (self.dir / "log").read_text()
        self.discard()
        assert not any(left.values()), left
        assert code == 0 and "Sanitizer" not in log and "runtime error" not in log, log

    def discard(self):
        for group in self.parents():
            for part in PARTS:
                if (group / part).exists():
                    (group / part).rmdir()
            group.rmdir()
        self.log.close()
        while self.dir.exists():  # a supervisor may be removing its socket's last traces
            try:
                shutil.rmtree(self.dir)
            except FileNotFoundError:
                pass


class MountedDaemon(Daemon):
    """Its state is on a file system of its own, which mount_state mounts at the first start."""

    def mount_state(self, state):
        raise NotImplementedError

    def start(self):
        state = self.dir / "state"
        if not state.exists():
            state.mkdir()
            self.mount_state(state)
        super().start()

    def mounts(self):
        return [m for m in super().mounts() if f" {self.dir}/state " not in m]

    def discard(self):
        subprocess.run(["umount", self.dir / "state"], check=True)
        super().discard()


class MemoryDaemon(MountedDaemon):
    """Its state is in memory: the time is ours, not the disk's."""

    def mount_state(self, state):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m,nr_inodes=0,mode=755", "tmpfs", state], check=True)


@pytest.fixture(scope="session")
def daemon():
    d = Daemon()
    yield d
    d.stop()


@pytest.fixture
def own_daemon():
    d = Daemon()
    yield d
    d.stop()
