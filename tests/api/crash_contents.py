"""What tasks of the mixed load hold besides their state: results of sessions, files, limits. Each is asked for under the
task's lock, so a value that was acknowledged is the one that must be found; after an answer that was lost both may be."""
import contextlib
import pathlib

from conftest import wait_until

SESSIONS = 16  # of each task, the latest: the daemon keeps 64, among them those whose answer was lost
PIDS = 64      # the least that a task may be given: its sessions need some


class Contents:
    def __init__(self):
        self.sessions = {}  # id -> exit code and output, as acknowledged
        self.files = {}     # path -> what may be there; None: nothing
        self.limits = {"0"}  # of processes, and the label that was set with it


class ContentActions:
    """Part of Load."""

    @contextlib.contextmanager
    def held(self, rng, *kinds, runs=False):
        """One of these kinds, under its lock; None when there is none, or its removal (runs: its end) was asked for."""
        x = self.pick(rng, *kinds)
        with x.busy if x else contextlib.nullcontext():
            yield x if x and not x.delete and not (runs and x.stop) else None

    def exec_one(self, rng):
        with self.held(rng, "long", runs=True) as x:
            if not x:
                return
            code = rng.randrange(256)
            script = f"read u < /proc/sys/kernel/random/uuid; echo session $u; echo done >&2; exit {code}"
            reply = self.ask("POST", f"/v1/tasks/{x.id}/exec", {"command": "/bin/sh", "args": ["-c", script]})
            if reply.status == 200 and reply.json["exit"]["signal"] is None:
                result = reply.json
                assert result["exit"]["code"] == code and result["output"]["stdout"].startswith("session "), reply.body
                x.contents.sessions[result["id"]] = (code, result["output"]["stdout"])
                self.forget_old_sessions(x)
            else:  # its supervisor died, or it is paused: nobody was told of a result
                assert reply.status in (200, 404, 409, 500, 503), reply.body

    @staticmethod
    def forget_old_sessions(x):
        for old in sorted(x.contents.sessions)[:-SESSIONS]:
            del x.contents.sessions[old]

    def put(self, rng):
        path, text = f"local/{rng.randrange(3)}", f"{rng.randrange(1 << 30)}" * rng.choice([1, 1000])
        with self.held(rng, "long", "exit", "again") as x:
            if x:
                self.change_file(x, path, text, lambda url: self.ask("PUT", url, text))

    def remove(self, rng):
        with self.held(rng, "long", "exit", "again") as x:
            if x:
                self.change_file(x, f"local/{rng.randrange(3)}", None, lambda url: self.ask("DELETE", url))

    @staticmethod
    def change_file(x, path, value, send):
        before = x.contents.files.setdefault(path, {None})
        x.contents.files[path] = before | {value}
        reply = send(f"/v1/tasks/{x.id}/files/{path}")
        assert reply.status in (201, 204, 404, 409, 503), reply.body
        if reply.status in (201, 204):
            x.contents.files[path] = {value}

    def get(self, rng):
        with self.held(rng, "long", "exit", "again") as x:
            if x and x.contents.files:
                path = rng.choice(sorted(x.contents.files))
                reply = self.ask("GET", f"/v1/tasks/{x.id}/files/{path}")
                assert reply.status in (200, 404, 409, 503), reply.body
                if reply.status == 200:
                    assert reply.body.decode() in x.contents.files[path], (path, reply.body[:80])

    def limit(self, rng):
        with self.held(rng, "long", runs=True) as x:
            if not x:
                return
            value, before = rng.randrange(PIDS, 1 << 15), x.contents.limits
            x.contents.limits = before | {str(value)}
            reply = self.ask("PATCH", f"/v1/tasks/{x.id}", {"labels": {"pids": str(value)}, "resources": {"pids": value}})
            assert reply.status in (200, 404, 409, 422, 503), reply.body
            if reply.status == 200:
                x.contents.limits = {str(value)}


# --- judging ----------------------------------------------------------------------------------------------------------

def judge_contents(daemon, x, view):
    """Raises when what was acknowledged is not there. view tells that the task is gone: it may have been collected."""
    problems = [f for f in (*session_faults(daemon, x), *file_faults(daemon, x)) if f]
    assert not problems or view() is None, f"{problems} {view()}"


def session_faults(daemon, x):
    for session, (code, output) in sorted(x.contents.sessions.items()):
        path = f"/v1/tasks/{x.id}/execs/{session}"
        reply, logs = daemon.get(path), daemon.get(f"{path}/logs?stream=stdout")
        if reply.status != 200 or reply.json["state"] != "exited" or reply.json["exit"]["code"] != code:
            yield f"session {session} ended with {code}: {reply.status} {reply.body}"
        elif logs.status != 200 or logs.body.decode() != output:
            yield f"session {session} wrote {output!r}: {logs.status} {logs.body}"


def file_faults(daemon, x):
    for path, values in x.contents.files.items():
        def read(path=path):
            reply = daemon.get(f"/v1/tasks/{x.id}/files/{path}")
            return reply if reply.status in (200, 404) else None  # its supervisor is about to leave
        reply = wait_until(read, 20, f"an answer about {path} of {x.id}")
        found = reply.body.decode() if reply.status == 200 else None
        if found not in values:
            yield f"{path}: {str(found)[:80]} is none of {[str(v)[:80] for v in values]}"


def judge_limits(daemon, x, t):
    """The limit that was acknowledged is the task's, and the kernel's."""
    value = t["spec"]["labels"].get("pids", "0")
    assert value in x.contents.limits, f"{x.contents.limits} {t}"
    assert value == "0" or t["spec"]["resources"]["pids"] == int(value), t

    def applied():
        found = [pathlib.Path(g, "pids.max") for g in daemon.groups() if pathlib.Path(g).name == x.id]
        try:
            return {f.read_text().strip() for f in found if f.exists()} <= {value}
        except OSError:
            return False  # it is ending
    if value != "0" and t["state"] in ("running", "paused"):
        wait_until(applied, 20, f"pids.max of {t}")
