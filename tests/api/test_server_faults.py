"""Calls of the server fail, by strace, while it serves: what is refused names why, what was acknowledged stays through the
server's death, and it serves again by itself."""
import collections
import os
import re
import signal

from conftest import BINARY, wait_until
from fault_sweep import refused, sweep, traced

# Those by which it reaches its database, its logs and others.
ERRORS = {"pwrite64": ["EIO", "ENOSPC"], "write": ["EIO", "ENOSPC"], "fsync": ["EIO"], "fdatasync": ["EIO"],
          "ftruncate": ["EIO"], "pread64": ["EIO"], "openat": ["EIO", "EROFS", "EMFILE"], "open": ["EIO"],
          "unlink": ["EROFS"], "mmap": ["ENOMEM"], "memfd_create": ["EMFILE"], "socketpair": ["EMFILE"],
          "pipe2": ["EMFILE"], "sendmsg": ["ENOBUFS"], "newfstatat": ["EIO"], "access": ["EIO"]}
if "asan" in str(BINARY):
    del ERRORS["mmap"]  # the sanitizer's own allocator gives up


def answer(d, method, path, body=None):
    """None: the connection has ended without one."""
    try:
        return d.request(method, path, body, timeout=30)
    except (OSError, ValueError):
        return None
    except Exception as error:  # http.client's own
        assert "http.client" in type(error).__module__, error
        return None


def work(d):
    """What was acknowledged: id -> label, of tasks; and ids that were removed."""
    kept, gone, answers = {}, set(), []
    for n in range(2):
        created = answer(d, "POST", "/v1/tasks?wait=exited&output=true",
                         {"command": "/bin/sh", "args": ["-c", "echo out; exit 5"], "labels": {"n": "0"}})
        answers.append(created)
        if created is None or created.status != 201:
            continue
        task = created.json
        kept[task["id"]] = {"0"}
        changed = answer(d, "PATCH", f"/v1/tasks/{task['id']}", {"labels": {"n": "1"}})
        kept[task["id"]] = {"1"} if changed and changed.status == 200 else {"0", "1"}
        read = answer(d, "GET", f"/v1/tasks/{task['id']}/logs")
        removed = n and answer(d, "DELETE", f"/v1/tasks/{task['id']}")
        answers += [changed, read] + ([removed] if n else [])
        if n:
            kept.pop(task["id"])
            if removed and removed.status == 204:
                gone.add(task["id"])
    for reply in answers:
        assert reply is None or reply.status < 300 or refused(reply), (reply.status, reply.body)
    return kept, gone, answers


def judge(d, kept, gone, where):
    rows = {t["id"]: t for t in d.get("/v1/tasks?limit=1000").json["items"]}
    assert not gone & set(rows), (where, rows)
    for task, labels in kept.items():
        assert task in rows, (where, f"task {task} is missing")
        now = d.wait_ended(task)
        assert now["exit"]["code"] == 5 and now["spec"]["labels"]["n"] in labels, (where, now)
        assert d.get(f"/v1/tasks/{task}/logs").body == b"out\n", where


def restart_server(d):
    server = d.server_pid()
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: server not in d.children(), 10, "the server's end")
    wait_until(d.ready, 20, "readiness")


def inject(d, call, error, when, before):
    where = f"{call} {error} #{when}"
    with traced(d.server_pid(), "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}") as trace:
        kept, gone, _ = work(d)
    wait_until(d.ready, 20, f"readiness after {where}")
    judge(d, kept, gone, where)
    restart_server(d)
    judge(d, kept, gone, where)
    for row in d.rows():  # an answer that was lost, or a row whose removal was: it can be removed
        wait_until(lambda r=row: d.request("DELETE", f"/v1/tasks/{r}?force=true").status in (204, 404), 20,
                   f"the removal after {where}")
    wait_until(lambda: d.census() == before, 20, f"the census of before, after {where}: {before} {d.census()}")
    return "(INJECTED)" in trace.text


def test_each_call_fails_in_turn_slow(own_daemon):
    d = own_daemon
    before = d.census()
    with traced(d.server_pid()) as trace:
        kept, _, answers = work(d)
    assert all(a is not None and a.status < 300 for a in answers), answers
    for task in kept:
        assert d.request("DELETE", f"/v1/tasks/{task}").status == 204
    found = collections.Counter(re.findall(r"^(\w+)\(", trace.text, re.M))
    assert found["pwrite64"] > 5 and found["fdatasync"] + found["fsync"] > 3, found
    assert sweep(d, ERRORS, found, lambda *fault: inject(d, *fault, before)) > 25


def test_a_checkpoint_that_fails_loses_nothing(own_daemon):
    """Only a checkpoint writes to the database's own file: the log (wal) holds all meanwhile (sqlite.org/wal.html)."""
    d = own_daemon
    db = d.dir / "state/server/cloister.db"
    task = d.start_task("/bin/sleep", "1000", env={f"LARGE{n}": "x" * 50000 for n in range(4)}, labels={"n": "0"})
    calls = "pwrite64,fsync,fdatasync"
    with traced(d.server_pid(), "-P", db, "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO") as trace:
        for n in range(1, 61):  # each moves 50 pages' content; a checkpoint comes every 1,000
            assert d.request("PATCH", f"/v1/tasks/{task['id']}", {"labels": {"n": "1" * n}}).status == 200
    assert trace.text.count("(INJECTED)") > 0, "no checkpoint has met the fault"
    assert d.ready()
    restart_server(d)
    assert d.task(task["id"])["spec"]["labels"]["n"] == "1" * 60 and d.task(task["id"])["pid"] == task["pid"]
