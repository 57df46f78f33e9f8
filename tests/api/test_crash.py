"""Our processes are killed; what was acknowledged is told truly afterwards, and nothing is left behind."""
import os
import pathlib
import signal
import time

from conftest import wait_until


def alive(pid):
    """Not counting a zombie, which the host's init has yet to reap."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
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
