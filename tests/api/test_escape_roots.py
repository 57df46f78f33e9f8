"""Ways out through what a task is given: its root, what it shares with other tasks, and the daemon's own files. As in
test_escape.py, each attempt has a control in which it works."""
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess

import pytest

from conftest import BINARY, CGROUP_ROOT, Daemon, wait_until
from roots import make_image

PYTHON = "/usr/bin/python3"
USER = 4242  # of nobody on the host


class Images:
    """Roots that are traps for who enters them with power."""

    def __init__(self, directory):
        self.dir = directory
        self.victim = directory / "victim"  # of the host
        for name in (self.victim, self.victim / "pts", self.victim / "shm"):
            name.mkdir()
        (self.victim / "null").write_text("the host's")
        self.chroots = {}
        for place in ("proc", "sys", "dev"):
            self.image(f"{place}-absolute", lambda root, p=place: (root / p).symlink_to(self.victim))
            self.image(f"{place}-relative", lambda root, p=place: (root / p).symlink_to("../" * 20 + str(self.victim)))
            self.image(f"{place}-file", lambda root, p=place: (root / p).write_text(""))
        for place in ("pts", "shm", "mqueue", "null", "ptmx"):
            self.image(f"dev-{place}", lambda root, p=place: ((root / "dev").mkdir(), (root / "dev" / p).symlink_to(self.victim)))
        self.nss = self.image("nss", self.evil_names)
        self.image("bits", self.file_capabilities)

    def image(self, name, change):
        root = make_image(self.dir / name, ["sh", "cat", "id", "stat", "ls"])
        change(root)
        self.chroots[name] = {str(root): "/"}
        return root

    def evil_names(self, root):
        """Libraries that leave a mark when they are loaded, wherever the C library may look for one."""
        source = self.dir / "mark.c"
        source.write_text("#include <fcntl.h>\n#include <unistd.h>\n__attribute__((constructor)) static void mark(void)\n"
                          "{ open(\"/tmp/mark\", O_CREAT | O_WRONLY, 0666); open(\"/alloc/data/mark\", O_CREAT | O_WRONLY, 0666); }\n")
        library = root / "usr/lib/libnss_evil.so.2"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
        (root / "etc/nsswitch.conf").write_text("passwd: evil\ngroup: evil\nhosts: evil\n")
        (root / "etc/ld.so.preload").write_text("/usr/lib/libnss_evil.so.2\n")
        (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nnobody:x:0:0::/:/bin/sh\n")
        (root / "tmp").mkdir()
        program = self.dir / "ids.c"
        program.write_text("#include <stdio.h>\n#include <unistd.h>\nint main(void)\n"
                           "{ printf(\"%d %d %d\\n\", getuid(), getgid(), getgroups(0, 0)); return 0; }\n")
        subprocess.run(["gcc", "-static", "-o", root / "usr/bin/ids", program], check=True)

    @staticmethod
    def file_capabilities(root):
        shutil.copy2("/bin/cat", root / "srv/power")
        os.setxattr(root / "srv/power", "security.capability", b"\1\0\0\2\2" + bytes(15))  # dac_override, effective
        (root / "srv/secret").write_text("the host's")
        (root / "srv/secret").chmod(0o600)


@pytest.fixture(scope="module")
def images():
    directory = pathlib.Path(subprocess.run(["mktemp", "-d", "/var/tmp/cloister-images-XXXXXX"], check=True,
                                            capture_output=True, text=True).stdout.strip())
    directory.chmod(0o755)
    (directory / "shared").mkdir()
    (directory / "shared").chmod(0o777)
    yield Images(directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def trapped(images):
    file = images.dir / "cloister.json"
    file.write_text(json.dumps({
        "plugin": {"exec": {"config": {"allow_caps": ["all"], "allow_seccomp_unconfined": True}}},
        "client": {"user_denylist": [], "chroot": images.chroots,
                   "host_volume": {"shared": {"path": str(images.dir / "shared")}}}}))
    d = Daemon(BINARY, "--config", file)
    yield d
    d.stop()


def all_of(directory):
    return {str(p): (s.st_mode, s.st_uid, s.st_nlink, s.st_size, s.st_mtime_ns)
            for p in sorted(directory.rglob("*")) for s in [p.lstat()]}


PLACES = [f"{p}-{k}" for p in ("proc", "sys", "dev") for k in ("absolute", "relative", "file")] + \
    [f"dev-{p}" for p in ("pts", "shm", "mqueue", "null", "ptmx")]


@pytest.mark.parametrize("mode", ["overlay", "readonly", "copy"])
@pytest.mark.parametrize("name", PLACES)
def test_an_image_does_not_lead_the_set_up_astray(trapped, images, name, mode):
    """CVE-2019-19921, CVE-2023-27561, CVE-2026-41579: the image's /proc, /sys or /dev is a link to the host, or no
    directory. The start is refused, or what is there is the task's own."""
    link = images.dir / name / name.split("-")[0]
    if not name.endswith("-file"):  # the control: followed on the host, it leads to the host
        inner = [p for p in [link, *(link.iterdir() if link.is_dir() and not link.is_symlink() else [])] if p.is_symlink()]
        assert inner and inner[0].resolve() == images.victim
    before, state = all_of(images.victim), trapped.census()
    reply = trapped.post("/v1/tasks?wait=exited&output=true", {
        "command": "/bin/sh", "chroot": name, "root": mode, "user": "0", "cap_add": ["all"],
        "args": ["-c", "stat -f -c %T /proc/self /sys; stat -c %t:%T /dev/null; ls /dev/pts /dev/shm; cat /proc/kcore"]})
    assert all_of(images.victim) == before
    if reply.status == 201:
        lines = reply.json["output"]["stdout"].split()
        assert lines[:3] == ["proc", "sysfs", "1:3"] and "null" not in lines, reply.json["output"]
        assert trapped.request("DELETE", f"/v1/tasks/{reply.json['id']}").status == 204
    else:
        assert reply.status in (422, 500) and reply.json["step"] in ("rootfs", "proc", "sys", "dev"), reply.body
    trapped.assert_as_before(state)


def test_nothing_of_the_image_is_loaded_with_power(trapped, images):
    """CVE-2019-14271, CVE-2025-32463: accounts are looked up on the host, before the root is entered; nothing is loaded
    from the image. The command itself is static, so that who loads the library is not the task."""
    mark = images.nss / "tmp/mark"
    subprocess.run(["chroot", images.nss, "/usr/bin/id", "nobody"], check=False, capture_output=True)
    assert mark.exists()  # the control
    mark.unlink()
    for mode in ("overlay", "readonly", "copy"):
        for user, expected in (("nobody", "65534 65534 1\n"), ("daemon", "1 1 1\n")):
            task = trapped.run("/usr/bin/ids", chroot="nss", root=mode, user=user)
            assert task["output"]["stdout"] == expected, task
            assert not mark.exists() and not list((trapped.dir / "state/tasks" / task["id"]).rglob("mark"))


def test_file_capabilities_give_nothing(trapped, images):
    control = subprocess.run([images.dir / "bits/srv/power", images.dir / "bits/srv/secret"], check=True, user=USER,
                             capture_output=True, text=True)
    assert control.stdout == "the host's"
    for mode in ("overlay", "readonly", "copy"):
        task = trapped.run("/srv/power", "/srv/secret", chroot="bits", root=mode, user=str(USER), no_new_privs=False)
        assert task["output"]["stdout"] == "" and "Permission denied" in task["output"]["stderr"]


CHANGE = """
import glob, os
done = 0
for path in glob.glob('/usr/bin/*')[:700] + glob.glob('/etc/*')[:200]:
    if not os.path.isfile(path) or os.path.islink(path): continue
    for change in (lambda: open(path, 'ab').write(b'evil'), lambda: os.chmod(path, 0o4777), lambda: os.truncate(path, 1),
                   lambda: os.chown(path, 1, 1), lambda: os.link(path, path + '.evil'), lambda: os.unlink(path)):
        try: change(); done += 1
        except OSError: pass
print(done)
"""


@pytest.mark.parametrize("root", ["overlay", "readonly"])
def test_files_of_the_host_stay_as_they_are(trapped, root):
    """No inode of the host can be changed, by root with every capability. The control: in an overlay all is done."""
    files = [p for d, n in (("/usr/bin", 700), ("/etc", 200)) for p in sorted(pathlib.Path(d).iterdir())[:n]
             if p.is_file() and not p.is_symlink()]

    def prints():
        return {p: (hashlib.sha256(p.read_bytes()).digest(), s.st_mode, s.st_uid, s.st_nlink, s.st_ino)
                for p in files for s in [p.stat()]}
    before = prints()
    done = int(trapped.run(PYTHON, "-c", CHANGE, root=root, user="0", cap_add=["all"])["output"]["stdout"])
    assert prints() == before and len(before) > 200
    assert done > 1000 if root == "overlay" else done == 0


def test_ones_files_are_nothing_to_accounts_of_the_host(trapped):
    """CVE-2021-41091, CVE-2021-41103. The control is root."""
    task = trapped.sh("cp /bin/cat /local/own; chmod 4755 /local/own; echo secret > /local/file; echo said", user="0")
    find = ["find", trapped.dir / "state", trapped.dir / "run", "-type", "f", "(", "-readable", "-o", "-executable", ")"]
    found = subprocess.run(find, check=False, user=USER, group=USER, extra_groups=[], capture_output=True, text=True)
    public = [line for line in found.stdout.split() if not line.endswith("/run/cni/cloister.conflist")]  # the default one
    assert not public and "Permission denied" in found.stderr
    control = subprocess.run(find, check=True, capture_output=True, text=True).stdout
    assert "/own" in control and task["id"] in control


# --- other tasks ----------------------------------------------------------------------------------------------------
NEIGHBOUR = """
import ctypes, glob, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
class iov(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
def attempt(fn):
    try: return bool(fn())
    except OSError: return False
def ok(r): return r != -1
pid, kind = int(sys.argv[1]), sys.argv[2]
def connects():
    s = socket.socket(socket.AF_UNIX); s.connect('\\0cloister-neighbour'); return True
tries = {
    'signal': lambda: os.kill(pid, 0) is None,
    'environment': lambda: any(attempt(lambda p=p: b'NEIGHBOUR=secret' in open(p, 'rb').read()) for p in glob.glob('/proc/*/environ')),
    'memory': lambda: attempt(lambda: os.open(f'/proc/{pid}/mem', os.O_RDONLY)),
    'shared memory': lambda: ok(libc.shmget(0x7e57, 0, 0)),
    'semaphores': lambda: ok(libc.semget(0x7e57, 0, 0)),
    'message queue': lambda: ok(libc.msgget(0x7e57, 0)),
    'posix queue': lambda: ok(libc.mq_open(b'/neighbour', 0)),
    'abstract socket': connects,
    **{f'file in {d}': (lambda d=d: os.path.exists(d + '/neighbour')) for d in ('/tmp', '/dev/shm', '/local', '/alloc/data', '/secrets')},
}
if kind == 'make':
    libc.shmget(0x7e57, 4096, 0o1666); libc.semget(0x7e57, 1, 0o1666); libc.msgget(0x7e57, 0o1666)
    libc.mq_open(b'/neighbour', 0o102, 0o666, None)
    s = socket.socket(socket.AF_UNIX); s.bind('\\0cloister-neighbour'); s.listen()
    for d in ('/tmp', '/dev/shm', '/local', '/alloc/data', '/secrets'): open(d + '/neighbour', 'w').write('x')
    print('made', flush=True)
    import time; time.sleep(1000)
print(json.dumps({n: attempt(fn) for n, fn in tries.items()}))
"""


def test_a_task_of_the_same_user_is_out_of_reach(trapped):
    """CVE-2021-3283. The control is a session in that task, which reaches all of it."""
    spec = {"env": {"NEIGHBOUR": "secret"}, "network": {"mode": "none"}}
    one = trapped.start_task(PYTHON, "-c", NEIGHBOUR, "1", "make", **spec)
    wait_until(lambda: b"made" in trapped.get(f"/v1/tasks/{one['id']}/logs").body)
    control = trapped.post(f"/v1/tasks/{one['id']}/exec", {"command": PYTHON, "args": ["-c", NEIGHBOUR, "1", "try"]}).json
    assert json.loads(control["output"]["stdout"]) == dict.fromkeys(json.loads(control["output"]["stdout"]), True), control
    other = trapped.run(PYTHON, "-c", NEIGHBOUR, str(one["pid"]), "try", network={"mode": "none"})
    reached = json.loads(other["output"]["stdout"])
    assert len(reached) > 10 and not any(reached.values()), reached
    assert trapped.request("DELETE", f"/v1/tasks/{one['id']}?force=true").status == 204


TAKE = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.bind('/shared/' + sys.argv[1]); os.chmod('/shared/' + sys.argv[1], 0o777); s.listen()
    connection, _ = s.accept()
    fd = socket.recv_fds(connection, 1, 1)[1][0]
os.fchdir(fd)
os.chdir('../' * 64)
os.chroot('.')
print(os.path.exists(sys.argv[2]))
"""
GIVE = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect('/shared/' + sys.argv[1])
    socket.send_fds(s, [b'x'], [os.open('/', os.O_PATH)])
"""


def test_a_root_that_another_task_hands_over_is_not_the_hosts(trapped, images):
    """With CAP_SYS_CHROOT, and two roots, one leaves a chroot; there is nothing above. The control hands over the host's
    root."""
    canary = images.dir / "canary"
    canary.write_text("")
    shared = {"volume_mounts": [{"volume": "shared", "destination": "/shared"}], "user": "0"}

    def taker(name):
        task = trapped.start_task(PYTHON, "-c", TAKE, name, str(canary), **shared)
        wait_until((images.dir / "shared" / name).exists)
        return task["id"]

    def told(task):
        assert trapped.wait_ended(task)["exit"]["code"] == 0, trapped.get(f"/v1/tasks/{task}/logs").body
        return trapped.get(f"/v1/tasks/{task}/logs?stream=stdout").body
    task = taker("attempt")
    assert trapped.run(PYTHON, "-c", GIVE, "attempt", **shared)["exit"]["code"] == 0
    assert told(task) == b"False\n"
    task = taker("control")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(images.dir / "shared/control"))
        root = os.open("/", os.O_PATH)
        socket.send_fds(s, [b"x"], [root])
        os.close(root)
        assert told(task) == b"True\n"


def test_shared_memory_is_bounded_and_counts_as_the_tasks(trapped):
    fill = "head -c 80000000 /dev/zero > /dev/shm/x; stat -c %s /dev/shm/x"
    task = trapped.sh(fill)
    assert int(task["output"]["stdout"]) == 64 << 20 and "No space" in task["output"]["stderr"]
    if trapped.get("/v1/attributes/cgroup.memory").status == 200:
        assert trapped.sh(fill, resources={"memory": 32})["exit"]["oom_killed"]


# --- control groups -------------------------------------------------------------------------------------------------

def test_the_place_in_the_hosts_hierarchies_is_hidden(trapped):
    task = trapped.start_task("/bin/sleep", "60")
    seen = trapped.post(f"/v1/tasks/{task['id']}/exec", {"command": "/bin/cat", "args": ["/proc/1/cgroup"]}).json["output"]["stdout"]
    host = pathlib.Path(f"/proc/{task['pid']}/cgroup").read_text()
    assert task["id"] not in seen and trapped.parent not in seen
    assert not trapped.parents() or task["id"] in host  # the control
    assert trapped.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_a_hierarchy_that_a_task_mounts_begins_at_its_own_group(trapped):
    """CVE-2022-0492: release_agent is in a hierarchy's root alone, which even CAP_SYS_ADMIN does not show."""
    v1 = [c for c in ("memory", "pids", "freezer") if (CGROUP_ROOT / c / "release_agent").exists()]
    for kind, option in [("cgroup", f"-o {c}") for c in v1] or [("cgroup2", "")]:
        script = f"mount -t {kind} {option} none /tmp && ls /tmp && grep -qx 1 /tmp/cgroup.procs && echo own"
        task = trapped.sh(script, user="0", cap_add=["sys_admin"])
        if "mount" in task["output"]["stderr"]:  # a host without control groups
            continue
        names = task["output"]["stdout"].split()
        assert "cgroup.procs" in names and names[-1] == "own" and "release_agent" not in names, task["output"]


# --- the daemon's own records ---------------------------------------------------------------------------------------

def test_texts_of_any_kind_come_back_as_they_were(own_daemon):
    """CVE-2018-15686: what is stored cannot be read as anything else, also after kill -9 of all of ours."""
    odd = ["", "a\nb=c\n\n", "\"quote\" 'one' \\ %s %n $(id) `id`", "{\"user\":\"root\"}", "é\u2028\U0001f600", "x" * 100_000]
    spec = {"command": "/bin/sleep", "args": ["60", *odd], "labels": {"a": "b=c \"d\""}, "stdin": odd[1],
            "env": {f"K{i}": v for i, v in enumerate(odd)}}
    task = own_daemon.post("/v1/tasks?wait=exited", spec).json  # sleep(1) takes no such arguments
    before = own_daemon.task(task["id"])["spec"]
    assert before["args"] == spec["args"] and before["env"] == spec["env"] and before["stdin"] == spec["stdin"]
    for pid in [own_daemon.process.pid, *own_daemon.children()]:
        os.kill(pid, signal.SIGKILL)
    own_daemon.process.wait()
    own_daemon.log.close()
    own_daemon.start()
    assert own_daemon.task(task["id"])["spec"] == before


@pytest.mark.parametrize("name", ["alloc", "local", "secrets", "logs", "tmp", "con", "CON", "upper", "work", "state.json", "0"])
def test_a_name_is_no_path(trapped, name):
    task = trapped.sh("ls -d /local /alloc /secrets /tmp", name=name)
    assert task["exit"]["code"] == 0 and task["name"] == name and task["id"] in trapped.directories()
    assert name not in trapped.directories()


@pytest.mark.parametrize("name", [".", "..", "../x", "a/b", "-", "", "a\nb", "a b", "\u2024\u2024", "x" * 129, "%2e%2e"])
def test_what_could_be_a_path_is_no_name_and_no_id(trapped, name):
    from urllib.parse import quote
    before = trapped.census()
    for field, more in (("/name", {"name": name}), ("/network/group", {"network": {"mode": "group", "group": name}}),
                        ("/chroot", {"chroot": name}), ("/seccomp", {"seccomp": name})):
        reply = trapped.post("/v1/tasks", {"command": "/bin/true", **more})
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == field, reply.body
    for method, tail in (("GET", ""), ("DELETE", "?force=true"), ("GET", "/logs"), ("GET", "/stats")):
        assert trapped.request(method, f"/v1/tasks/{quote(name, safe='')}{tail}").status in (400, 404, 405)
    trapped.assert_as_before(before)


def test_we_run_from_a_sealed_copy(trapped):
    """Whoever gets at the program that our processes run has a copy that nobody can change, not the installed file."""
    task = trapped.start_task("/bin/sleep", "60")
    installed = os.stat(BINARY)
    processes = [trapped.process.pid, *trapped.children()]
    assert "cloister-task" in trapped.children().values()
    for pid in processes:
        fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & 0xf == 0xf  # F_SEAL_SEAL, SHRINK, GROW, WRITE
        assert (os.fstat(fd).st_dev, os.fstat(fd).st_ino) != (installed.st_dev, installed.st_ino)
        os.close(fd)
        with pytest.raises(OSError):
            os.open(f"/proc/{pid}/exe", os.O_WRONLY)
    fd = os.open(BINARY, os.O_RDONLY)
    with pytest.raises(OSError):  # the control: a file has no seals
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    os.close(fd)
    assert trapped.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


OPEN_PROGRAMS = """
import os, sys
seen, own = set(), os.readlink('/proc/self/exe')
print('ready', flush=True)
while not os.path.exists('/local/stop'):
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            exe = os.readlink(f'/proc/{pid}/exe')
            if 'cloister' in exe: seen.add(exe)
            if exe != own: os.close(os.open(f'/proc/{pid}/exe', os.O_WRONLY)); seen.add('written ' + exe)
        except OSError as e:
            if e.errno == 26 and 'cloister' in exe: seen.add('busy ' + exe)
print(sorted(x for x in seen if 'cloister' in x))
"""


@pytest.mark.parametrize("trick", [False, True])
def test_our_program_is_never_written_by_root_either(trapped, trick):
    """CVE-2019-5736, with all capabilities but the one over other processes; test_exec.py has nobody's case. A script
    whose interpreter is /proc/self/exe makes a session execute our program in the task: there it can be opened, but is
    a sealed copy, and busy (ETXTBSY) for as long as the task's supervisor lives. Otherwise it is not even seen."""
    held = set(trapped.get("/v1/attributes/caps.held").body.decode().strip().split(","))
    digest = hashlib.sha256(pathlib.Path(BINARY).read_bytes()).digest()
    task = trapped.start_task(PYTHON, "-c", OPEN_PROGRAMS, user="0", cap_drop=["all"],
                              cap_add=sorted(held - {"sys_ptrace", "sys_admin"}))
    path = f"/v1/tasks/{task['id']}"
    wait_until(lambda: trapped.get(f"{path}/logs").body == b"ready\n")
    script = "echo '#!/proc/self/exe' > /local/x; chmod 755 /local/x"
    assert trapped.post(f"{path}/exec", {"command": "/bin/sh", "args": ["-c", script]}).json["exit"]["code"] == 0
    for _ in range(60):
        assert trapped.post(f"{path}/exec", {"command": "/local/x" if trick else "/bin/true"}).status in (200, 422)
    trapped.post(f"{path}/exec", {"command": "/usr/bin/touch", "args": ["/local/stop"]})
    trapped.wait_ended(task["id"])
    seen = trapped.get(f"{path}/logs").body
    assert b"written" not in seen and (trick or seen == b"ready\n[]\n"), seen
    assert hashlib.sha256(pathlib.Path(BINARY).read_bytes()).digest() == digest
    assert "cloisterd" in os.readlink(f"/proc/{trapped.process.pid}/exe")  # the control: on the host it is seen
