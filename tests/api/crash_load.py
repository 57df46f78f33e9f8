"""A mixed load on a daemon that is being killed, and a model of what it has acknowledged."""
import http.client
import pathlib
import random
import threading
import time
import uuid

from crash_contents import ContentActions, Contents

MARK = "read u < /proc/sys/kernel/random/uuid; echo start $u; "
ENDED = ("exited", "failed", "lost")


class Expected:
    """What is known of one task. Values that are None are not known: an answer to a change of them was lost."""

    def __init__(self, kind, code=None, attempts=0):
        self.kind, self.code, self.attempts = kind, code, attempts
        self.id = self.pid = self.started_at = None
        self.stop = self.delete = False   # asked for: may have happened
        self.stopped = False              # acknowledged: must happen
        self.cut_short = False            # acknowledged as not having started, or not yet
        self.paused, self.label = False, "0"
        self.labels = {"0"}               # what it may be while label is None
        self.contents = Contents()
        self.busy = threading.Lock()      # one thread at a time


class Load(ContentActions):
    def __init__(self, daemon, seed, threads=4, most=24):
        self.daemon, self.most = daemon, most
        self.random = random.Random(seed)
        self.tasks, self.lock = {}, threading.Lock()
        self.unanswered = 0               # creates that were given up: their tasks may be there
        self.gone = set()                 # deleted, acknowledged
        self.collections = 0              # begun and ended ones: odd while one may be under way
        self.running, self.stopping = threading.Event(), False
        self.idle = threading.Semaphore(0)
        self.count = threads
        self.faults = []
        self.threads = [threading.Thread(target=self.work, args=(random.Random(f"{seed} {n}"),), daemon=True)
                        for n in range(threads)]
        for t in self.threads:
            t.start()

    # --- threads

    def work(self, rng):
        actions = [(self.create, 30), (self.stop_one, 12), (self.signal, 10), (self.logs, 10), (self.patch, 12),
                   (self.pause, 12), (self.delete, 14), (self.gc, 2), (self.exec_one, 20), (self.put, 10),
                   (self.remove, 3), (self.get, 6), (self.limit, 8)]
        while not self.stopping:
            if not self.running.is_set():
                self.idle.release()
                self.running.wait()
                continue
            action = rng.choices([a for a, _ in actions], [w for _, w in actions])[0]
            try:
                action(rng)
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
            except Exception as e:  # told by the test: a thread's own end would pass unseen
                self.faults.append(f"{action.__name__}: {e!r}")

    def go(self):
        for _ in range(self.count):
            self.idle.acquire()
        self.running.set()

    def halt(self):
        """Returns when no request is under way."""
        self.running.clear()
        for _ in range(self.count):
            assert self.idle.acquire(timeout=60), "a request has hung for a minute"
        self.idle.release(self.count)
        with self.lock:
            return dict(self.tasks)

    def end(self):
        self.stopping = True
        self.running.set()
        for t in self.threads:
            t.join(60)

    # --- requests

    def ask(self, method, path, body=None, headers=None):
        return self.daemon.request(method, path, body, headers, timeout=30)

    def pick(self, rng, *kinds):
        with self.lock:
            known = [x for x in self.tasks.values() if x.kind in kinds and not x.delete]
        return rng.choice(known) if known else None

    def create(self, rng):
        with self.lock:
            if len(self.tasks) >= self.most:
                return
            began = self.collections
        kind = rng.choice(["exit", "exit", "long", "long", "again"])
        if kind == "exit":
            x = Expected(kind, rng.randrange(256))
            spec = {"args": ["-c", f"{MARK} sleep 0.{rng.randrange(3)}; exit {x.code}"]}
        elif kind == "long":
            x = Expected(kind)
            spec = {"args": ["-c", f"{MARK} exec sleep 1000"]}
        else:
            x = Expected(kind, rng.randrange(1, 256), rng.randrange(1, 4))
            spec = {"args": ["-c", f"{MARK} exit {x.code}"],
                    "restart": {"attempts": x.attempts, "delay": f"{rng.randrange(300)}ms", "interval": "1h"}}
        body = {"command": "/bin/sh", "labels": {"n": "0"}, **spec}
        key, end = str(uuid.uuid4()), time.monotonic() + 60
        while time.monotonic() < end:
            try:
                reply = self.ask("POST", "/v1/tasks", body, {"Idempotency-Key": key})
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            if reply.status == 201:
                self.created(x, reply.json, began)
                return
            if reply.status != 503:
                break
            time.sleep(0.02)
        with self.lock:
            self.unanswered += 1  # a start that was cut short: whoever killed it knows

    def created(self, x, view, began):
        x.id, x.cut_short = view["id"], view["state"] in ("starting", "failed")
        if view["state"] == "running" and x.kind == "long":
            x.pid, x.started_at = view["pid"], view["started_at"]
        with self.lock:
            if x.kind != "long" and (began % 2 or began != self.collections):
                x.delete = True  # it may have ended, and gone, before we knew of it
            self.tasks[x.id] = x

    def stop_one(self, rng):
        x = self.pick(rng, "long")
        if not x:
            return
        with x.busy:
            if x.delete:
                return
            x.stop = True
            reply = self.ask("POST", f"/v1/tasks/{x.id}/stop", {"timeout": "0s"})
            assert reply.status in (202, 404, 409, 503), reply.body
            x.stopped = x.stopped or reply.status == 202

    def signal(self, rng):
        x = self.pick(rng, "long", "exit", "again")
        if x:
            reply = self.ask("POST", f"/v1/tasks/{x.id}/signal", {"signal": "WINCH"})
            assert reply.status in (204, 404, 409, 503), reply.body

    def logs(self, rng):
        x = self.pick(rng, "long", "exit", "again")
        if x:
            assert self.ask("GET", f"/v1/tasks/{x.id}/logs").status in (200, 404)

    def patch(self, rng):
        x = self.pick(rng, "long", "exit", "again")
        if not x:
            return
        with x.busy:
            if x.delete:
                return
            value, x.label = str(rng.randrange(1 << 30)), None
            x.labels.add(value)
            reply = self.ask("PATCH", f"/v1/tasks/{x.id}", {"labels": {"n": value}})
            assert reply.status in (200, 404, 409, 503), reply.body
            if reply.status == 200:
                x.label, x.labels = value, {value}

    def pause(self, rng):
        x = self.pick(rng, "long")
        if not x:
            return
        with x.busy:
            wanted, x.paused = not x.paused, None
            reply = self.ask("POST", f"/v1/tasks/{x.id}/{'pause' if wanted else 'resume'}", {})
            assert reply.status in (200, 404, 409, 503), reply.body
            if reply.status == 200:
                x.paused = wanted

    def delete(self, rng):
        x = self.pick(rng, "long", "exit", "again")
        if not x:
            return
        with x.busy:
            x.stop = x.delete = True
            reply = self.ask("DELETE", f"/v1/tasks/{x.id}?force=true")
            assert reply.status in (204, 404, 503), reply.body
            if reply.status != 503:
                self.forget(x)

    def forget(self, x):
        with self.lock:
            if self.tasks.pop(x.id, None):
                self.gone.add(x.id)

    def gc(self, rng):
        del rng
        with self.lock:
            if self.collections % 2:
                return
            self.collections += 1
        try:
            self.ask("POST", "/v1/gc", {})
        finally:
            with self.lock:
                self.collections += 1
                for x in self.tasks.values():
                    if x.kind != "long" or x.stop:
                        x.delete = True


def processes(binary):
    """pid -> (name, parent) of all that were started as this program, zombies left out. They run a sealed copy of it."""
    name_of = str(binary).encode()
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            exe = (entry / "exe").readlink()
            copied = str(exe).startswith("/memfd:cloisterd ")
            if exe == binary or copied and (entry / "cmdline").read_bytes().split(b"\0")[0] == name_of:
                text = (entry / "stat").read_text()
                name, rest = text[text.index("(") + 1:].rsplit(")", 1)
                if rest.split()[0] not in "ZX":
                    found[int(entry.name)] = (name, int(rest.split()[1]))
        except OSError:
            pass
    return found
