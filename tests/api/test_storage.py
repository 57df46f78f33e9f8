"""A file system that is full, read-only or failing, and a database or a record that is damaged: what cannot be made
durable is refused, running tasks go on, and when it is over the daemon serves again by itself."""
import array
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

from conftest import BINARY, MountedDaemon, Reply, UnixConnection, wait_until


FS_IOC_GETFLAGS, FS_TOPDIR_FL = 0x80086601, 0x20000  # linux/fs.h, on 64 bits


class SmallDaemon(MountedDaemon):
    """Its state is on an ext4 file system of 24 MiB."""

    def mount_state(self, state):
        image = self.dir / "image"
        with open(image, "wb") as f:
            f.truncate(24 << 20)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop,errors=remount-ro", image, state], check=True)

    def fill(self):
        """To the last block."""
        with open(self.dir / "state/filler", "wb", buffering=0) as f:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        f.write(bytes(size))
            os.fsync(f.fileno())

    def free(self):
        (self.dir / "state/filler").unlink()


@pytest.fixture
def small():
    d = SmallDaemon()
    yield d
    d.stop()


def refused(d):
    reply = d.post("/v1/tasks", {"command": "/bin/true"})
    assert reply.status in (500, 503) and reply.headers["Content-Type"] == "application/problem+json", reply.body
    return reply


def not_ready(d):
    reply = d.get("/readyz")
    return reply.status == 503 and b"store" in reply.body


# --- a full file system -----------------------------------------------------------------------------------------------

def test_a_full_disk_refuses_what_is_new_and_recovers_by_itself(small):
    going_on = small.start_task("/bin/sh", "-c", "while :; do sleep 0.1; done")
    ending = small.start_task("/bin/sh", "-c", "sleep 2; exit 9")
    before = small.census()
    small.fill()
    for _ in range(3):
        reply = refused(small)
        assert reply.json.get("errno") == "ENOSPC" or reply.json["code"] == "store", reply.body
    assert small.task(going_on["id"])["state"] == "running" and small.processes()
    wait_until(lambda: not_ready(small), 10, "the word that it is not ready")
    assert {**small.census(), "children": None, "groups": None, "sockets": None} == \
        {**before, "children": None, "groups": None, "sockets": None}, "refused tasks leave nothing"
    time.sleep(2)  # one ends while nothing can be written
    small.free()
    wait_until(small.ready, 15, "readiness")
    assert small.wait_ended(ending["id"])["exit"]["code"] == 9
    assert small.run("/bin/true")["exit"]["code"] == 0
    assert small.task(going_on["id"])["pid"] == going_on["pid"]
    small.process.kill()
    small.process.wait()
    small.start()
    assert small.task(ending["id"])["exit"]["code"] == 9


def test_the_directories_of_tasks_are_spread_over_the_disk(small):
    """chattr(1), T: ext4 makes them in different groups of blocks."""
    flags = array.array("i", [0])
    fd = os.open(small.dir / "state/tasks", os.O_RDONLY)
    fcntl.ioctl(fd, FS_IOC_GETFLAGS, flags)
    os.close(fd)
    assert flags[0] & FS_TOPDIR_FL


def test_deletion_frees_a_full_disk(small):
    big = small.sh("head -c 4000000 /dev/zero > /local/big")
    assert big["exit"]["code"] == 0
    small.fill()
    assert small.request("DELETE", f"/v1/tasks/{big['id']}").status == 204
    wait_until(small.ready, 15, "readiness")
    assert small.run("/bin/true")["exit"]["code"] == 0
    small.free()


def test_what_waits_for_a_full_disk_is_bounded(small):
    """Else it would take all memory, and need more room at once than there will be."""
    task = small.start_task("/bin/sleep", "300", labels={"large": "x" * 16000})
    small.fill()
    refused(small)
    connection = UnixConnection(small.socket)
    for _ in range(1800):
        connection.request("POST", f"/v1/tasks/{task['id']}/signal", '{"signal": "SIGCONT"}',
                           {"Content-Type": "application/json"})
        assert Reply(connection.getresponse()).status == 204
    small.free()
    wait_until(small.ready, 15, "readiness")
    assert small.run("/bin/true")["exit"]["code"] == 0
    assert "dropped: too many wait" in (small.dir / "log").read_text()


def test_a_server_that_starts_on_a_full_disk_serves(small):
    """Else nobody could stop a task, or remove one to free the disk."""
    task = small.start_task("/bin/sleep", "300")
    big = small.sh("head -c 4000000 /dev/zero > /local/big")
    small.fill()
    refused(small)
    before = small.server_pid()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{before}"))
    wait_until(lambda: "cloister-server" in small.children().values() and not_ready(small), 20, "a server")
    assert small.task(task["id"])["state"] == "running"
    assert small.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"timeout": "0s"}).json["state"] == "exited"
    assert small.request("DELETE", f"/v1/tasks/{big['id']}").status == 204
    wait_until(small.ready, 15, "readiness")
    events = [e["type"] for e in small.get("/v1/events?limit=1000").json["items"]]
    assert events.count("server.started") == 2 and events.count("task.exited") == 2
    assert small.run("/bin/true")["exit"]["code"] == 0
    small.free()


def test_a_task_that_fills_the_disk_fails_alone(small):
    other = small.start_task("/bin/sleep", "300")
    task = small.start_task("/bin/sh", "-c", "cat /dev/zero > /local/all; exit 3")
    assert small.wait_ended(task["id"])["exit"]["code"] == 3  # there was room kept for its record
    refused(small)
    assert small.request("DELETE", f"/v1/tasks/{task['id']}").status == 204
    wait_until(small.ready, 15, "readiness")
    assert small.task(other["id"])["state"] == "running"


# --- a read-only and a failing one ------------------------------------------------------------------------------------

def test_a_file_system_that_turned_read_only(small):
    task = small.start_task("/bin/sleep", "300")
    device = subprocess.run(["findmnt", "-n", "-o", "SOURCE", small.dir / "state"], check=True, capture_output=True,
                            text=True).stdout.strip()
    trigger = pathlib.Path("/sys/fs/ext4", pathlib.Path(device).name, "trigger_fs_error")
    trigger.write_text("1")  # errors=remount-ro: what a failing disk does
    refused(small)
    wait_until(lambda: not_ready(small), 10, "the word that it is not ready")
    assert small.task(task["id"])["state"] == "running"
    stopped = small.post(f"/v1/tasks/{task['id']}/stop", {"timeout": "0s"})
    assert stopped.status == 202
    wait_until(lambda: not small.processes(), 10, "the task's end")
    assert small.wait_ended(task["id"])["exit"]["signal"] == "SIGKILL"  # told, although it cannot be recorded
    # Nothing can be recorded there any more. A new mount of the repaired file system is what the operator makes.
    small.process.kill()
    small.process.wait()
    supervisors = [p for p in pathlib.Path("/proc").glob("[0-9]*") if holds(p, f"{small.dir}/state/")]
    for p in supervisors:
        os.kill(int(p.name), signal.SIGKILL)
    wait_until(lambda: subprocess.run(["umount", small.dir / "state"], check=False, stderr=subprocess.DEVNULL)
               .returncode == 0, 10, "the end of its use")
    # A copy: other mount namespaces of this host may hold the old one for a while.
    shutil.copy(small.dir / "image", small.dir / "repaired")
    subprocess.run(["e2fsck", "-fy", small.dir / "repaired"], check=False, capture_output=True)
    subprocess.run(["mount", "-o", "loop,errors=remount-ro", small.dir / "repaired", small.dir / "state"], check=True)
    small.start()
    assert small.wait_ended(task["id"])["state"] in ("lost", "exited")
    assert small.run("/bin/true")["exit"]["code"] == 0


def holds(proc, prefix):
    try:
        return any(str(fd.readlink()).startswith(prefix) for fd in (proc / "fd").iterdir())
    except OSError:
        return False


def test_write_errors_of_the_database(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sleep", "300")
    tracer = subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64,fsync,fdatasync", "-e",
                               "inject=pwrite64,fsync,fdatasync:error=EIO", "-p", str(d.server_pid())])
    wait_until(lambda: "TracerPid:\t0" not in pathlib.Path(f"/proc/{d.server_pid()}/status").read_text(), 10)
    before = d.directories()
    for _ in range(3):
        reply = refused(d)
        assert reply.json["code"] == "store", reply.body
    wait_until(lambda: not_ready(d), 10, "the word that it is not ready")
    assert d.directories() == before and d.task(task["id"])["state"] == "running"
    stopped = d.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"timeout": "0s"}).json
    assert stopped["exit"]["signal"] == "SIGKILL"  # told, because the record has it
    tracer.terminate()
    tracer.wait(20)
    wait_until(d.ready, 15, "readiness")
    assert d.run("/bin/true")["exit"]["code"] == 0
    d.process.kill()
    d.process.wait()
    d.start()
    assert d.task(task["id"])["exit"]["signal"] == "SIGKILL"


# --- a damaged database -----------------------------------------------------------------------------------------------

def header(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def garbage(path):
    header(path, 0, os.urandom(512))


def newer(path):
    header(path, 60, (1000).to_bytes(4, "big"))


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


def emptied(path):
    os.truncate(path, 0)


def missing(path):
    path.unlink()


def scribbled(path):
    for page in range(1, path.stat().st_size // 4096):
        header(path, page * 4096, b"\xff" * 64)


@pytest.mark.parametrize("damage,words", [
    (garbage, "not a database"), (newer, "schema 1000"), (truncated, "malformed|damaged"), (scribbled, "malformed|damaged"),
    (emptied, "missing or empty"), (missing, "missing or empty")], ids=lambda v: getattr(v, "__name__", ""))
def test_a_damaged_database_is_never_taken_for_an_empty_one(own_daemon, damage, words):
    d = own_daemon
    tasks = [d.start_task("/bin/sleep", "300"), d.run("/bin/true")]
    d.process.terminate()
    assert d.process.wait(20) == 0
    path = d.dir / "state/server/cloister.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy2(path, d.dir / "saved")
    shutil.chown(d.dir / "saved", path.stat().st_uid, path.stat().st_gid)
    for extra in path.parent.glob("cloister.db-*"):
        extra.unlink()
    damage(path)
    damaged = path.read_bytes() if path.exists() else None
    size = (d.dir / "log").stat().st_size
    with pytest.raises(AssertionError):
        d.start()
    assert d.process.wait(20) == 1
    log = (d.dir / "log").read_bytes()[size:].decode()
    assert "cannot open the store" in log and re.search(words, log), log
    assert d.directories() == sorted(t["id"] for t in tasks), "no task's directory was touched"
    if damage is not missing and damage is not emptied:
        assert path.read_bytes() == damaged, "it is left as it was found"
    for extra in path.parent.glob("cloister.db*"):
        extra.unlink()
    shutil.move(d.dir / "saved", path)
    d.start()
    assert d.task(tasks[0]["id"])["pid"] == tasks[0]["pid"] and d.task(tasks[1]["id"])["exit"]["code"] == 0


# --- a damaged record -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("length", [0, 1, 500])
def test_a_record_cut_in_half_is_no_outcome(own_daemon, length):
    d = own_daemon
    task = d.start_task("/bin/sleep", "300")
    os.truncate(d.dir / "state/tasks" / task["id"] / "record", length)
    supervisor = next(pid for pid, name in d.children().items() if name == "cloister-task")
    os.kill(supervisor, signal.SIGKILL)
    lost = d.wait_ended(task["id"])
    assert lost["state"] == "lost" and lost["exit"]["code"] is None
    assert d.groups() == [] and d.sockets() == []


# --- directories without a task ---------------------------------------------------------------------------------------

def test_directories_and_sockets_of_no_task_are_removed_at_start(own_daemon):
    d = own_daemon
    task = d.run("/bin/true")
    running = d.start_task("/bin/sleep", "300")
    d.process.terminate()
    assert d.process.wait(20) == 0
    stray = d.dir / "state/tasks" / (task["id"][:-4] + "0000")
    (stray / "local").mkdir(parents=True)
    other = d.dir / "state/tasks/of-the-operator"
    other.mkdir()
    socket = d.dir / "run/supervisors" / stray.name
    subprocess.run(["python3", "-c", "import socket, sys; socket.socket(1, 5).bind(sys.argv[1])", socket], check=True)
    d.start()
    wait_until(lambda: not stray.exists(), 20, "the stray directory's end")
    assert d.sockets() == [running["id"]] and other.exists()
    assert set(d.directories()) == {task["id"], running["id"], other.name}
    other.rmdir()


def test_a_live_supervisor_without_a_row_is_left_alone(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sleep", "300")
    d.process.terminate()
    assert d.process.wait(20) == 0
    with contextlib.closing(sqlite3.connect(d.dir / "state/server/cloister.db")) as db:
        row = db.execute("SELECT * FROM tasks").fetchall()
        db.execute("DELETE FROM tasks")
        db.commit()
    d.start()
    time.sleep(1)
    assert pathlib.Path(f"/proc/{task['pid']}").exists() and task["id"] in d.directories()
    d.process.kill()
    d.process.wait()
    with contextlib.closing(sqlite3.connect(d.dir / "state/server/cloister.db")) as db:
        db.executemany(f"INSERT INTO tasks VALUES({','.join('?' * len(row[0]))})", row)
        db.commit()
    d.start()
    assert d.task(task["id"])["pid"] == task["pid"]
