"""Our processes are killed; what was acknowledged is told truly afterwards, and nothing is left behind."""
import contextlib
import http.client
import os
import pathlib
import signal
import socket
import threading
import time

import pytest

from conftest import MemoryDaemon, wait_until
from fault_sweep import traced


def alive(pid):
    """Not counting a zombie, which the host's init has yet to reap."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def start_fifty(daemon):
    """25 tasks that end by themselves in a moment with code i, 25 that go on."""
    return [daemon.start_task("/bin/sh", "-c", f"sleep 1.5; exit {i}" if i < 25 else "sleep 300")
            for i in range(50)]


def check_fifty(daemon, tasks):
    for i, task in enumerate(tasks):
        if i < 25:
            ended = daemon.wait_ended(task["id"])
            assert ended["state"] == "exited" and ended["exit"]["code"] == i
        else:
            now = daemon.task(task["id"])
            assert now["state"] == "running" and now["pid"] == task["pid"] and now["started_at"] == task["started_at"]
    stopped = daemon.post(f"/v1/tasks/{tasks[30]['id']}/stop?wait=exited").json
    assert stopped["exit"]["signal"] == "SIGKILL"  # adopted supervisors still take orders


def test_kill_9_of_the_server(own_daemon):
    tasks = start_fifty(own_daemon)
    server = own_daemon.server_pid()
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: own_daemon.ready() and own_daemon.server_pid() != server)
    check_fifty(own_daemon, tasks)


def test_kill_9_of_the_launcher(own_daemon):
    tasks = start_fifty(own_daemon)
    server = own_daemon.server_pid()
    own_daemon.process.kill()
    own_daemon.process.wait()
    wait_until(lambda: not pathlib.Path(f"/proc/{server}").exists(), 10, "the server's end")
    time.sleep(2)  # the 25 end while nobody looks
    own_daemon.start()
    check_fifty(own_daemon, tasks)


def test_clean_stop_leaves_tasks_running(own_daemon):
    task = own_daemon.start_task("/bin/sleep", "300")
    own_daemon.process.terminate()
    assert own_daemon.process.wait(20) == 0
    assert pathlib.Path(f"/proc/{task['pid']}").exists()
    own_daemon.start()
    assert own_daemon.task(task["id"])["state"] == "running"


def test_kill_9_of_a_supervisor(own_daemon):
    task = own_daemon.start_task("/bin/sh", "-c", "sleep 300 & sleep 300")
    supervisor = next(pid for pid, name in own_daemon.children().items() if name == "cloister-task")
    os.kill(supervisor, signal.SIGKILL)
    lost = own_daemon.wait_ended(task["id"])
    assert lost["state"] == "lost" and lost["exit"]["code"] is None and "unknown" in lost["exit"]["reason"]
    assert own_daemon.groups() == [] and own_daemon.sockets() == []
    assert not alive(task["pid"])


def test_supervisor_dies_while_the_daemon_is_down(own_daemon):
    task = own_daemon.start_task("/bin/sleep", "300")
    supervisor = next(pid for pid, name in own_daemon.children().items() if name == "cloister-task")
    server = own_daemon.server_pid()
    own_daemon.process.kill()
    own_daemon.process.wait()
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not pathlib.Path(f"/proc/{server}").exists(), 10, "the server's end")
    own_daemon.start()
    assert own_daemon.wait_ended(task["id"])["state"] == "lost"
    assert own_daemon.groups() == [] and own_daemon.sockets() == []


def test_killing_the_server_during_creates_loses_none(own_daemon):
    acknowledged = []
    for n in range(5):
        server = own_daemon.server_pid()
        for i in range(4):
            acknowledged.append((own_daemon.start_task("/bin/sh", "-c", f"exit {i}")["id"], i))
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: own_daemon.ready() and own_daemon.server_pid() != server)
        time.sleep(0.2 * n)
    for task_id, code in acknowledged:
        assert own_daemon.wait_ended(task_id)["exit"]["code"] == code


# --- removals and links -----------------------------------------------------------------------------------------------

FILES = "import os\nfor n in range(40):\n  os.mkdir(f'/local/{n}')\n  for f in range(500): " \
        "os.close(os.open(f'/local/{n}/{f}', os.O_CREAT | os.O_WRONLY))"


class Removal(threading.Thread):
    """A DELETE that takes a while, and the launcher's process at work for it."""

    def __init__(self, daemon):
        super().__init__()
        self.daemon_under_test = daemon
        self.task = daemon.run("/usr/bin/python3", "-c", FILES)
        self.status = None
        self.start()
        self.helper = wait_until(self.find, 20, "the removal")
        os.kill(self.helper, signal.SIGSTOP)

    def run(self):
        try:
            self.status = self.daemon_under_test.request("DELETE", f"/v1/tasks/{self.task['id']}").status
        except (OSError, http.client.HTTPException):
            pass

    def find(self):
        return next((pid for pid, name in self.daemon_under_test.children().items() if name == "cloisterd"), None)


@pytest.fixture
def in_memory():
    d = MemoryDaemon()
    yield d
    d.stop()


def test_kill_9_of_the_process_that_removes(in_memory):
    removal = Removal(in_memory)
    os.kill(removal.helper, signal.SIGKILL)
    removal.join()
    assert removal.status == 204 and not in_memory.rows() and not in_memory.directories()


def test_a_removal_that_was_begun_is_finished_by_the_next_server(in_memory):
    removal = Removal(in_memory)
    server = in_memory.server_pid()
    os.kill(server, signal.SIGKILL)
    removal.join()
    wait_until(lambda: in_memory.ready() and in_memory.server_pid() != server)
    wait_until(lambda: not in_memory.rows() and not in_memory.directories(), 20, "the removal")
    os.kill(removal.helper, signal.SIGCONT)
    wait_until(lambda: not alive(removal.helper), 10, "the helper's end")  # it holds the file system


def test_a_removal_does_not_keep_the_next_launcher_from_its_sockets(in_memory):
    removal = Removal(in_memory)
    server = in_memory.server_pid()
    in_memory.process.kill()
    in_memory.process.wait()
    wait_until(lambda: not alive(server), 10, "the server's end")
    removal.join()
    in_memory.start()
    wait_until(lambda: not in_memory.rows() and not in_memory.directories(), 20, "the removal")
    os.kill(removal.helper, signal.SIGCONT)
    wait_until(lambda: not alive(removal.helper), 10, "the helper's end")  # it holds the file system


def test_a_supervisor_that_does_not_answer_is_not_taken_for_dead(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sleep", "300")
    supervisor = next(pid for pid, name in d.children().items() if name == "cloister-task")
    os.kill(supervisor, signal.SIGSTOP)
    clients = []
    with contextlib.suppress(BlockingIOError):  # until its queue of connections is full
        while True:
            clients.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
            clients[-1].connect(str(d.dir / "run/supervisors" / task["id"]))
    server = d.server_pid()
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: d.ready() and d.server_pid() != server)
    assert d.task(task["id"])["state"] == "running" and alive(task["pid"])
    assert d.post(f"/v1/tasks/{task['id']}/stop", {}).status == 503  # and not: it has ended
    for c in clients:
        c.close()
    os.kill(supervisor, signal.SIGCONT)
    wait_until(lambda: d.post(f"/v1/tasks/{task['id']}/stop", {"timeout": "0s"}).status != 503, 20, "the link")
    assert d.wait_ended(task["id"])["exit"]["signal"] == "SIGKILL"


def test_many_removals_at_once_are_few_processes(own_daemon):
    """As after a reboot, which leaves all tasks to be cleared away."""
    d = own_daemon
    tasks = [d.run("/bin/true") for _ in range(60)]
    with traced(d.process.pid, "-f", "-e", "trace=unlink", "-e", "inject=unlink:delay_enter=300000"):
        threads = [threading.Thread(target=d.request, args=("DELETE", f"/v1/tasks/{t['id']}")) for t in tasks]
        for thread in threads:
            thread.start()
        most = 0
        while any(t.is_alive() for t in threads):
            most = max(most, list(d.children().values()).count("cloisterd"))
        assert 1 < most <= 32, most
    assert not d.rows() and not d.directories()


def read_until_cut(daemon, path):
    with contextlib.suppress(OSError, http.client.HTTPException):
        daemon.get(path)


def test_a_read_of_an_ended_tasks_files_does_not_keep_the_next_launcher_from_its_sockets(own_daemon):
    """It waits for the task's supervisor, which has told of the end and has not left."""
    d = own_daemon
    task = d.start_task("/bin/sleep", "300")
    supervisor = next(pid for pid, name in d.children().items() if name == "cloister-task")
    with traced(supervisor, "-e", "trace=unlink", "-e", "inject=unlink:delay_enter=9000000"):
        assert d.post(f"/v1/tasks/{task['id']}/stop", {"timeout": "0s"}).status == 202
        d.wait_ended(task["id"])
        reader = threading.Thread(target=read_until_cut, args=(d, f"/v1/tasks/{task['id']}/files/local"))
        reader.start()
        helper = wait_until(lambda: next((p for p, n in d.children().items() if n == "cloisterd"), None), 5, "the reader")
        server = d.server_pid()
        d.process.kill()
        d.process.wait()
        wait_until(lambda: not alive(server), 10, "the server's end")
        assert alive(helper)
        d.start()
        reader.join()
