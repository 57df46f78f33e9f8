"""How the daemon starts where it has less than it wants: another user, fewer capabilities, no account for the server."""
import contextlib
import os
import pathlib
import pwd
import socket
import subprocess
import tempfile
import threading

import pytest

from conftest import BINARY, Daemon, wait_until

USER = pwd.getpwnam("games")  # an ordinary account of every Debian
AS_USER = ["setpriv", f"--reuid={USER.pw_uid}", f"--regid={USER.pw_gid}", "--clear-groups"]
# chroot(2): "the superuser can escape from a chroot jail"; this is how.
LEAVE_CHROOT = """
import os
os.makedirs('/tmp/jail', exist_ok=True)
os.chroot('/tmp/jail')
for _ in range(64): os.chdir('..')
os.chroot('.')
"""
ESCAPE = LEAVE_CHROOT + "print(sorted(os.listdir('/')))"
CONTAINER = "chown,dac_override,fowner,fsetid,kill,mknod,net_bind_service,setfcap,setgid,setpcap,setuid,sys_chroot"


class StartedBy(Daemon):
    """A daemon that prefix starts, in a directory of that user's."""
    def __init__(self, directory, *prefix, uid=0, gid=0):
        directory.chmod(0o755)
        wrapper = directory / "cloisterd"
        wrapper.write_text(f"#!/bin/sh\nexec {' '.join(prefix)} {BINARY} \"$@\"\n")
        wrapper.chmod(0o755)
        self.owner = uid, gid
        super().__init__(wrapper)

    def start(self):
        os.chown(self.dir, *self.owner)
        super().start()


def assert_says_why(daemon, reason):
    """All interfaces tell that no task can be run, and why; and none is."""
    everything, driver = daemon.get("/v1/attributes").json, daemon.get("/v1/driver").json
    assert "driver.exec" not in everything["attributes"]
    assert everything["driver"] == {"healthy": False, "reason": reason}
    assert driver["healthy"] is False and driver["health_description"] == reason
    missing = daemon.get("/v1/attributes/driver.exec")
    assert missing.status == 404 and reason in missing.json["detail"]
    assert 'cloister_driver_available{driver="exec"} 0' in daemon.get("/metrics").body.decode()
    before = daemon.census()
    refused = daemon.post("/v1/tasks", {"command": "/bin/true"})
    assert refused.status == 503 and refused.json["code"] == "driver_unavailable" and reason in refused.json["detail"]
    daemon.assert_as_before(before)
    assert (daemon.dir / "log").read_text().count(reason) == 1


def test_as_an_ordinary_user_it_serves_all_but_tasks(tmp_path):
    d = StartedBy(tmp_path, *AS_USER, uid=USER.pw_uid, gid=USER.pw_gid)
    try:
        assert_says_why(d, "cloisterd must run as root")
        owners = {os.stat(f"/proc/{pid}").st_uid for pid in (d.process.pid, d.server_pid())}
        assert owners == {USER.pw_uid}
        status = pathlib.Path(f"/proc/{d.server_pid()}/status").read_text()
        assert "NoNewPrivs:\t1" in status and "CapEff:\t0000000000000000" in status
    finally:
        d.stop()


def test_an_ordinary_users_socket_is_its_own(tmp_path):
    d = StartedBy(tmp_path, *AS_USER, uid=USER.pw_uid, gid=USER.pw_gid)
    connect = ("import socket, sys\ns = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
               "s.sendall(b'GET /v1/tasks HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'); print(s.recv(12).decode())")
    try:
        for user, expected in (("games", "HTTP/1.1 200"), ("www-data", "")):
            account = pwd.getpwnam(user)
            run = subprocess.run(["setpriv", f"--reuid={account.pw_uid}", f"--regid={USER.pw_gid}", "--clear-groups",
                                  "/usr/bin/python3", "-c", connect, d.socket], check=False, capture_output=True, text=True)
            assert run.stdout.strip() == expected, run
    finally:
        d.stop()


@pytest.mark.parametrize("place", ["run", "state"])
def test_an_ordinary_user_is_told_which_place_it_may_not_write_to(place):
    with tempfile.TemporaryDirectory(prefix="cloister-test-") as top:
        mine, roots = pathlib.Path(top, "mine"), pathlib.Path(top, "roots")
        os.chmod(top, 0o755)
        mine.mkdir()
        roots.mkdir()
        os.chown(mine, USER.pw_uid, USER.pw_gid)
        places = {"run": mine / "run", "state": mine / "state"} | {place: roots / place}
        run = subprocess.run([*AS_USER, BINARY, "--listen", "none", "--run-dir", places["run"], "--state-dir",
                              places["state"]], check=False, capture_output=True, text=True, timeout=20)
        assert list(roots.iterdir()) == []
    assert run.returncode == 1
    assert str(places[place]) in run.stderr and "Permission denied" in run.stderr
    assert "not started as root" in run.stderr or "must run as root" in run.stderr


def test_root_with_a_containers_capabilities_says_what_it_lacks(tmp_path):
    bounding = "-all," + ",".join(f"+{cap}" for cap in CONTAINER.split(","))
    d = StartedBy(tmp_path, "setpriv", f"--bounding-set={bounding}", "--inh-caps=-all")
    try:
        assert set(d.get("/v1/attributes/caps.held").body.decode().strip().split(",")) == set(CONTAINER.split(","))
        assert_says_why(d, "lacks the capability sys_admin")
    finally:
        d.stop()


def test_without_its_account_the_server_has_a_uid_of_its_own():
    d = Daemon(BINARY, "--server-user", "nosuch")
    try:
        status = pathlib.Path(f"/proc/{d.server_pid()}/status").read_text()
        ids = "\t".join(["64646"] * 4)
        assert f"Uid:\t{ids}\n" in status and f"Gid:\t{ids}\n" in status and "Groups:\t64646 \n" in status
        assert 'there is no account \\"nosuch\\": the server runs as uid 64646' in (d.dir / "log").read_text()
        assert d.sh("id -u")["output"]["stdout"] == "65534\n"
        for user in ("64646", "4242:64646"):  # no task may be the server
            refused = d.post("/v1/tasks", {"command": "/bin/true", "user": user})
            assert refused.status == 403 and refused.json["errors"][0]["pointer"] == "/user", refused.body
    finally:
        d.stop()


def test_no_pivot_root_isolates_as_well():
    """On a root that pivot_root could leave too; test_ramdisk.py has one that it could not."""
    d = Daemon(BINARY, "--no-pivot-root")
    try:
        inside = d.run("/usr/bin/python3", "-c", "import os;print(sorted(os.listdir('/')))")["output"]["stdout"]
        assert "root" not in inside and "tmp" in inside
        task = d.run("/usr/bin/python3", "-c", ESCAPE, cap_add=["sys_chroot"])
        assert task["output"]["stdout"] == inside, task["output"]
        mounts = d.sh("cut -d' ' -f5 /proc/self/mountinfo")["output"]["stdout"].split()
        assert mounts[0] == "/" and not any(self_made in m for m in mounts for self_made in ("/state", "/cgroup"))
    finally:
        d.stop()


def test_the_server_is_never_root():
    run = subprocess.run([BINARY, "--server-user", "root", "--check-config"], check=False, capture_output=True, text=True)
    assert run.returncode == 2 and "server_user must not be root" in run.stderr


def test_the_server_has_no_hand_in_the_launchers_loop(own_daemon):
    """Who can add to an epoll instance chooses the pointers that its owner follows (epoll_ctl(2), data)."""
    def instances(pid):
        found = set()
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since
                if os.readlink(fd) == "anon_inode:[eventpoll]":
                    found.add(pathlib.Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text())
        return found
    launchers = instances(own_daemon.process.pid)
    assert launchers and all("tfd:" in i for i in launchers), "what it waits for is told, and tells them apart"
    assert not launchers & instances(own_daemon.server_pid())


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_server_that_is_still_on_its_way_out_is_waited_for(own_daemon, kind):
    """As that of a launcher that was killed, while the disk lets it wait."""
    d = own_daemon
    d.process.kill()
    d.process.wait()
    held = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    if kind == "unix":
        pathlib.Path(d.socket).unlink(missing_ok=True)
        held.bind(d.socket)
    else:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        wait_until(lambda: bound(held, d.port), what="the old server's end")
    held.listen()
    threading.Timer(0.7, held.close).start()
    d.start()
    assert d.run("/bin/true")["exit"]["code"] == 0


def bound(s, port):
    try:
        s.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("flag", ["--socket", "--listen"])
def test_a_second_daemon_is_refused(own_daemon, tmp_path, flag):
    place = own_daemon.socket if flag == "--socket" else f"127.0.0.1:{own_daemon.port}"
    flags = {"--socket": str(tmp_path / "s"), "--listen": "none", flag: place}
    end = subprocess.run([BINARY, "--state-dir", tmp_path / "state", "--run-dir", tmp_path / "run", "--cgroup-parent",
                          own_daemon.parent, *[text for pair in flags.items() for text in pair]], capture_output=True,
                         text=True, timeout=30, check=False)
    assert end.returncode == 1 and place in end.stderr, end.stderr
    assert own_daemon.get("/readyz").status == 200
