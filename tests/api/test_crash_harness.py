"""Our processes are killed at random moments under a mixed load. After each round what the API tells is compared with
what it has acknowledged: no task missing, no wrong end, none started twice, nothing left behind.

CLOISTER_CRASH_ROUNDS (50) and CLOISTER_CRASH_SEED (printed) choose how long and which course."""
import collections
import os
import pathlib
import random
import shutil
import signal
import tempfile
import time

from conftest import BINARY, Daemon, wait_until
from crash_contents import judge_contents, judge_limits
from crash_load import ENDED, Load, processes

ROUNDS = int(os.environ.get("CLOISTER_CRASH_ROUNDS", "50"))
SEED = os.environ.get("CLOISTER_CRASH_SEED", str(random.SystemRandom().randrange(1 << 32)))
TARGETS = ["server", "server", "launcher", "both", "supervisor", "supervisor", "launcher and supervisor", "helper"]


class Harness:
    def __init__(self):
        # A file of our own tells our processes from those of other daemons.
        self.bin = pathlib.Path(tempfile.mkdtemp(prefix="cloister-crash-"))
        self.binary = self.bin / "cloisterd"
        shutil.copy(BINARY, self.binary)
        self.random = random.Random(SEED)
        self.daemon = Daemon(self.binary)
        self.load = Load(self.daemon, SEED)
        self.killed = 0  # supervisors: as many tasks may be lost, or never have started
        self.lost = set()
        self.checked = collections.Counter()

    # --- killing

    def ours(self, name):
        """Not the children of supervisors that have yet to become the command."""
        found = processes(self.binary)
        return [pid for pid, (comm, parent) in found.items()
                if comm == name and found.get(parent, ("",))[0] != "cloister-task"]

    def helpers(self):
        return [p for p, (comm, parent) in processes(self.binary).items()
                if comm == "cloisterd" and parent == self.daemon.process.pid]

    def kill(self, pids):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.daemon.process.pid in pids:
            self.daemon.process.wait(20)
        wait_until(lambda: not set(pids) & set(processes(self.binary)), 20, "the end of who was killed")

    def strike(self, target):
        pids = []
        if "supervisor" in target:
            pids = self.ours("cloister-task")
            pids = [self.random.choice(sorted(pids))] if pids else []
            self.killed += len(pids)
        elif target == "helper":
            pids = self.helpers()  # may have become a supervisor by now
            self.killed += len(pids)
        if target in ("server", "both"):
            pids += self.ours("cloister-server")
        if target.startswith("launcher") or target == "both":
            pids.append(self.daemon.process.pid)
        self.kill(pids)

    def recover(self):
        """As a service manager would."""
        d = self.daemon
        if d.process.poll() is None:
            wait_until(d.ready, 30, "readiness")
            return
        end = time.monotonic() + 30
        while True:
            try:
                d.start()
                return
            except AssertionError:
                if time.monotonic() > end or d.process.poll() is None:
                    raise
                time.sleep(0.1)

    # --- judging

    def view(self, task_id):
        reply = self.daemon.get(f"/v1/tasks/{task_id}")
        return reply.json if reply.status == 200 else None

    def may_be_lost(self, task_id):
        self.lost.add(task_id)
        return len(self.lost) <= self.killed

    def settled(self, x):
        """The task's view when it is as it must be in the end, or why not."""
        t = self.view(x.id)
        if t is None:
            # One that was lost has ended: it may have been collected then.
            assert x.delete or (self.load.collections and self.may_be_lost(x.id)), f"task {x.id} is missing ({self.killed}, {self.lost})"
            self.load.forget(x)
            return None
        state = t["state"]
        if state == "failed" and x.cut_short:
            return t
        if state in ("lost", "failed"):
            assert self.may_be_lost(x.id), f"{self.killed} supervisors were killed, {len(self.lost)} tasks are lost: {t}"
            return t
        done = state == "exited" if x.kind != "long" or x.stopped else state in ("running", "paused", "exited")
        return t if done else wait_until(lambda: self.view(x.id) is None or self.view(x.id)["state"] in ENDED, 20,
                                         f"the end of {t}") and self.settled(x)

    def judge(self, x):
        t = self.settled(x)
        if t is None or t["state"] == "failed":
            return
        judge_contents(self.daemon, x, lambda: self.view(x.id))
        self.checked["sessions"] += len(x.contents.sessions)
        self.checked["files"] += len(x.contents.files)
        if t["state"] == "lost":
            return
        judge_limits(self.daemon, x, t)
        assert t["spec"]["labels"]["n"] in ({x.label} if x.label is not None else x.labels), f"{vars(x)} {t}"
        if x.kind == "long" and t["state"] == "exited":
            assert x.stop and t["exit"]["signal"] == "SIGKILL", t
        elif x.kind == "long":
            assert x.paused is None or (t["state"] == "paused") == x.paused, f"{vars(x)} {t}"
            assert (t["pid"], t["started_at"]) == (x.pid, x.started_at) or x.pid is None, f"{vars(x)} {t}"
        elif not (x.stop and t["exit"]["reason"].startswith(("killed", "stopped"))):
            assert t["exit"]["code"] == x.code and t["restarts"] == x.attempts, f"{vars(x)} {t}"
        if not (x.stop or x.paused is not False):
            self.judge_starts(x, t)

    def judge_starts(self, x, t):
        """Each start prints a line that no other prints."""
        path = f"/v1/tasks/{x.id}/logs?stream=stdout"
        wait_until(lambda: self.daemon.get(path).body.count(b"\n") > t["restarts"] or self.view(x.id) is None, 20,
                   f"the output of {t}")
        lines = self.daemon.get(path).body.decode().splitlines()
        if self.view(x.id) is not None:
            assert len(set(lines)) == len(lines) == t["restarts"] + 1, f"{lines} {t}"

    def judge_all(self, tasks):
        assert not self.load.faults, self.load.faults
        rows = {t["id"]: t for t in self.daemon.get("/v1/tasks?limit=1000").json["items"]}
        for task_id in self.load.gone & set(rows):
            raise AssertionError(f"a deleted task is there: {rows[task_id]}")
        for task_id in set(rows) - set(tasks):
            assert self.load.unanswered > 0, f"nobody knows of {rows[task_id]}"
            self.load.unanswered -= 1
            assert self.daemon.request("DELETE", f"/v1/tasks/{task_id}?force=true").status == 204
        for x in tasks.values():
            self.judge(x)
        self.no_leftovers()

    def no_leftovers(self):
        d = self.daemon

        def faults():
            rows = {t["id"]: t for t in d.get("/v1/tasks?limit=1000").json["items"]}
            live = {i for i, t in rows.items() if t["state"] not in ENDED}
            may_lack = {i for i, t in rows.items() if t["state"] == "failed"}
            names = [comm for comm, _ in processes(self.binary).values()]
            found = {
                "groups": {pathlib.Path(g).name for g in d.groups()} - live,
                "sockets": set(d.sockets()) ^ live,
                "directories": (set(d.directories()) ^ set(rows)) - may_lack,
                "mounts": [m for m in d.mounts() if not any(i in m for i in live)],
                "supervisors": names.count("cloister-task") - len(live),
                "others": len(names) - names.count("cloister-task") - 2,
            }
            return {k: v for k, v in found.items() if v}
        try:
            wait_until(lambda: not faults(), 15)
        except AssertionError:
            raise AssertionError(f"left behind: {faults()}") from None

    # --- the course

    def round(self, n):
        target = self.random.choice(TARGETS)
        self.load.go()
        time.sleep(self.random.random() * 0.6)
        self.strike(target)
        self.recover()
        time.sleep(self.random.random() * 0.2)
        try:
            self.judge_all(self.load.halt())
        except Exception as e:
            raise AssertionError(f"round {n} of seed {SEED}, killed: {target}: {e}") from e

    def abandon(self):
        """After a fault: its log stays."""
        shutil.copy(self.daemon.dir / "log", f"/tmp/cloister-crash-{SEED}.log")
        self.load.stopping = True
        self.load.running.set()
        while pids := sorted(processes(self.binary)):
            self.kill(pids)
        for group in self.daemon.groups():
            for pid in self.daemon.processes():
                self.kill([int(pid)])
            wait_until(lambda g=group: not pathlib.Path(g, "cgroup.procs").read_text(), 10)
            pathlib.Path(group).rmdir()
        self.daemon.discard()
        shutil.rmtree(self.bin)

    def finish(self):
        self.load.end()
        self.daemon.stop()
        wait_until(lambda: not processes(self.binary), 10, "the end of all our processes")
        shutil.rmtree(self.bin)


def test_kill_9_at_random_moments():
    print(f"CLOISTER_CRASH_SEED={SEED}")
    h = Harness()
    try:
        for n in range(ROUNDS):
            h.round(n)
            if n % 50 == 49:
                print(f"{n + 1} rounds, {len(h.load.gone)} tasks deleted, {len(h.lost)} of {h.killed} lost, "
                      f"{dict(h.checked)} compared", flush=True)
        assert ROUNDS < 20 or min(h.checked["sessions"], h.checked["files"]) > 0, "the load has not met what it is for"
        h.load.most = 0
        h.finish()
    except BaseException:
        h.abandon()
        raise
