"""Exec sessions in the log of events: each start and each end once, whoever was killed meanwhile."""
import concurrent.futures
import os
import signal
import threading
import time

from conftest import wait_until
from test_exec import execs, execute, safely, sh, start
from test_events import events, of_task
from test_settle import database

ENDLESS = ("/bin/sleep", "1000")
UNTIL_GO = ("/bin/sh", "-c", "until [ -e /local/go ]; do sleep 0.02; done; exit 5")


def told(daemon, task):
    """(type, session) of the task's sessions, in order."""
    return [(e["type"], e["data"]["session"]) for e in events(daemon, f"&task={task['id']}&type=exec.")]


def pair(session, end="exec.exited"):
    return [("exec.started", session), (end, session)]


class Absence:
    """The server is killed, and no other one comes, until this ends."""

    def __init__(self, daemon):
        self.daemon = daemon

    def __enter__(self):
        server = self.daemon.server_pid()
        self.daemon.process.send_signal(signal.SIGSTOP)
        os.kill(server, signal.SIGKILL)

    def __exit__(self, *_):
        self.daemon.process.send_signal(signal.SIGCONT)
        wait_until(lambda: safely_ready(self.daemon), 20, "the next server")


def safely_ready(daemon):
    try:
        return daemon.ready()
    except StopIteration:
        return False


def begin(daemon, task, *command):
    """A session whose start is told; its id."""
    session = start(daemon, task, *command)
    wait_until(lambda: ("exec.started", session) in told(daemon, task), what="the session's start")
    return session


def go(daemon, task):
    (daemon.dir / "state/tasks" / task["id"] / "local/go").touch()


def ended_on_disk(daemon, task, session):
    """Its group is removed right before its end is recorded."""
    return not [g for g in daemon.parents() if list(g.glob(f"**/exec-{session}"))]


def test_a_session_is_told(daemon):
    task = daemon.start_task(*ENDLESS, user="nobody")
    assert execute(daemon, task, "/bin/sh", "-c", "exit 3").json["exit"]["code"] == 3
    session, = execs(daemon, task)
    first, second = events(daemon, f"&task={task['id']}&type=exec.")
    assert first["type"] == "exec.started" and first["name"] == task["name"]
    assert first["data"] == {"session": session["id"], "command": "/bin/sh", "user": "nobody", "tty": False,
                             "pid": first["data"]["pid"]} and first["data"]["pid"] > 0
    assert second["type"] == "exec.exited"
    assert second["data"] == {"session": session["id"], "code": 3, "signal": None, "timed_out": False,
                              "started_at": session["started_at"], "finished_at": session["finished_at"]}
    execute(daemon, task, *ENDLESS, timeout="100ms")
    last = events(daemon, f"&task={task['id']}&type=exec.exited")[-1]["data"]
    assert last["timed_out"] and last["signal"] == "SIGKILL" and last["code"] is None
    assert execute(daemon, task, "/no/such/file").status == 422
    last = events(daemon, f"&task={task['id']}&type=exec.")[-1]
    assert last["type"] == "exec.failed" and last["data"]["step"] == "command" and last["data"]["errno"] == "ENOENT"
    assert len(told(daemon, task)) == 5
    assert daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"timeout": "0s"}).status == 200


def test_a_session_that_is_killed_with_its_task(daemon):
    task = daemon.start_task(*ENDLESS)
    session = begin(daemon, task, *ENDLESS)
    assert daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited").status == 200
    assert of_task(daemon, task)[3:] == ["exec.started", "task.stopping", "exec.exited", "task.exited"]
    assert told(daemon, task) == pair(session)
    assert events(daemon, f"&task={task['id']}&type=exec.exited")[0]["data"]["signal"] == "SIGKILL"


def test_sessions_that_end_while_there_is_no_server(own_daemon):
    d = own_daemon
    task, other = d.start_task(*ENDLESS), d.start_task(*ENDLESS)
    ended, stays = begin(d, task, *UNTIL_GO), begin(d, task, *ENDLESS)
    sh(d, task, "exit 0")
    before = told(d, task)
    assert before[:2] == [("exec.started", ended), ("exec.started", stays)] and len(before) == 4
    with Absence(d):
        go(d, task)
        wait_until(lambda: ended_on_disk(d, task, ended), what="the session's end")
    wait_until(lambda: told(d, task) == [*before, ("exec.exited", ended)], what="the end that was missed")
    assert events(d, f"&task={task['id']}&type=exec.exited")[-1]["data"]["code"] == 5
    with Absence(d):
        pass
    assert d.post(f"/v1/tasks/{task['id']}/execs/{stays}/signal", {"signal": "KILL"}).status == 204
    wait_until(lambda: told(d, task) == [*before, ("exec.exited", ended), ("exec.exited", stays)], what="one end")
    assert told(d, other) == []


def test_a_task_that_ends_with_its_sessions_while_there_is_no_server(own_daemon):
    d = own_daemon
    task = d.start_task(*UNTIL_GO)
    session = begin(d, task, *ENDLESS)
    with Absence(d):
        go(d, task)
        wait_until(lambda: not d.sockets(), what="the supervisor's end")
    assert d.wait_ended(task["id"])["exit"]["code"] == 5
    assert of_task(d, task)[3:] == ["exec.started", "exec.exited", "task.exited"]
    with Absence(d):
        pass
    assert told(d, task) == pair(session)


def test_a_failure_that_no_server_heard_of(own_daemon):
    """Nothing is kept of a session that never ran; its supervisor remembers it until there is a server."""
    d = own_daemon
    task = d.start_task(*ENDLESS)
    supervisor = next(pid for pid, name in d.children().items() if name == "cloister-task")
    fds = f"/proc/{d.server_pid()}/fd"
    before = len(os.listdir(fds))
    os.kill(supervisor, signal.SIGSTOP)
    client = threading.Thread(target=safely_http, args=(d, task, "/no/such/file"))
    client.start()
    wait_until(lambda: len(os.listdir(fds)) >= before + 2, what="the request and the session's channel")
    with Absence(d):
        client.join()
        os.kill(supervisor, signal.SIGCONT)
        time.sleep(0.5)  # it fails now
    wait_until(lambda: told(d, task), what="the failure")
    assert [e for e, _ in told(d, task)] == ["exec.failed"] and execs(d, task) == []
    with Absence(d):
        pass
    assert len(told(d, task)) == 1


def test_a_failure_that_its_server_did_not_live_to_write_down(own_daemon):
    """The supervisor has told it; to the next server it tells it again."""
    d = own_daemon
    task = d.start_task(*ENDLESS)
    assert execute(d, task, "/first").status == 422
    with database(d) as db:
        db.execute("BEGIN IMMEDIATE")
        assert execute(d, task, "/no/such/file").status == 422
        with Absence(d):
            db.execute("ROLLBACK")
    wait_until(lambda: len(told(d, task)) == 2, what="the failure")
    assert execute(d, task, "/third").status == 422
    wait_until(lambda: len(told(d, task)) == 3, what="the failure")
    for _ in range(2):
        with Absence(d):
            pass
        time.sleep(0.5)
        assert [e for e, _ in told(d, task)] == ["exec.failed"] * 3 and len(set(told(d, task))) == 3


def test_sessions_of_a_supervisor_that_died_are_lost(own_daemon):
    d = own_daemon
    task = d.start_task(*ENDLESS)
    session = begin(d, task, *ENDLESS)
    done = sh(d, task, "exit 0")["id"]
    supervisor = next(pid for pid, name in d.children().items() if name == "cloister-task")
    os.kill(supervisor, signal.SIGKILL)
    assert d.wait_ended(task["id"])["state"] == "lost"
    assert told(d, task) == [("exec.started", session), *pair(done), ("exec.lost", session)]
    assert of_task(d, task)[-1] == "task.lost"


def test_nothing_is_lost_or_doubled_when_servers_are_killed_at_any_moment(own_daemon):
    """Sessions begin and end all the time, and so do servers."""
    d = own_daemon
    tasks = [d.start_task(*ENDLESS) for _ in range(2)]

    def work(task, n):
        for i in range(n):
            safely_http(d, task, "/bin/sh", "-c", f"sleep 0.0{i % 4}; exit {i % 3}")

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(work, task, 25) for task in tasks]
        while not all(run.done() for run in runs):
            server = d.server_pid()
            concurrent.futures.wait(runs, timeout=0.3)
            os.kill(server, signal.SIGKILL)
            wait_until(lambda server=server: d.ready() and d.server_pid() != server, 20, "the next server")
        for run in runs:
            run.result()
    for task in tasks:
        wait_until(lambda task=task: all(x["state"] == "exited" for x in execs(d, task)), what="all ends")
        ids = {x["id"] for x in execs(d, task)}
        assert len(ids) >= 3

        def complete(task=task, ids=ids):
            seen = told(d, task)
            return sorted(x for x in seen if x[1] in ids) == sorted(x for i in ids for x in pair(i))

        wait_until(complete, what="every start and every end, once")
        seen = told(d, task)
        assert all(seen.index(("exec.started", i)) < seen.index(("exec.exited", i)) for i in ids)
        assert len(seen) == len(set(seen))


def safely_http(daemon, task, *command):
    try:
        safely(execute, daemon, task, *command)
    except Exception as error:  # pylint: disable=broad-except
        if "RemoteDisconnected" not in repr(error) and "IncompleteRead" not in repr(error):
            raise


def test_what_is_older_than_the_log_is_not_told_again(own_daemon):
    d = own_daemon
    d.flags = ("--events-max", "100")
    d.process.terminate()
    assert d.process.wait(20) == 0
    d.start()
    task = d.start_task(*ENDLESS)
    sh(d, task, "exit 0")
    for _ in range(300):
        assert d.post(f"/v1/tasks/{task['id']}/signal", {"signal": "WINCH"}).status == 204
    assert told(d, task) == []
    with Absence(d):
        pass
    sh(d, task, "exit 0")
    assert len(told(d, task)) == 2
