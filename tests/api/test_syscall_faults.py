"""Every system call of a start is made to fail in turn, by strace. A start that fails names why and leaves nothing; one
that succeeds all the same is isolated exactly as without the fault."""
import collections
import http.client
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from conftest import BINARY, Daemon, wait_until
from fault_sweep import occurrences

CHROOT = "/bin=/bin,/etc=/etc,/lib=/lib,/lib64=/lib64,/sbin=/sbin,/usr=/usr"
SPEC = {"command": "/probe/probe", "resources": {"memory": 64, "pids": 50, "cpu": 100}}
# Calls that wait for or end processes, and calls that cannot fail: a failure of these has no meaning of its own.
NOT_INJECTED = {"epoll_wait", "wait4", "exit_group", "rt_sigreturn", "futex", "epoll_pwait", "poll", "close", "umask",
                "getpid", "gettid", "setsid"}
PER_CALL = 10  # occurrences of a call that are tried, spread over all
ERRORS = {"read": "EIO", "write": "ENOSPC", "pwrite64": "ENOSPC", "fsync": "EIO", "mkdir": "ENOSPC", "mkdirat": "ENOSPC",
          "mmap": "ENOMEM", "brk": "ENOMEM", "openat": "EMFILE", "clone": "EAGAIN", "clone3": "EAGAIN"}
VOLATILE = re.compile(r"^(Pid|Tgid|NSpid|NStgid|NSpgid|NSsid|PPid|FDSize|Vm\w+|Rss\w+|Hugetlb\w+|\w*voluntary_ctxt\w+|Cpus_\w+|"
                      r"Mems_\w+|TracerPid|SigQ|Ngid|State|Threads|Name|StaBrk|CoreDumping|THP_enabled)")


class Tracer:
    def __init__(self, daemon, *options):
        self.out = tempfile.mktemp(prefix="cloister-trace-")
        self.process = subprocess.Popen(["strace", "-f", "-qq", "-o", self.out, *options, "-p", str(daemon.process.pid)],
                                        stderr=subprocess.DEVNULL)
        status = f"/proc/{daemon.process.pid}/status"
        wait_until(lambda: "TracerPid:\t0\n" not in open(status).read(), 10, "strace")

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        text = open(self.out, errors="replace").read()
        os.unlink(self.out)
        return text


def normal(output, task_id):
    """What must be the same from start to start."""
    text = output.replace(task_id[:12], "ID").replace(task_id[:8], "SHORT").replace(task_id, "ID")
    text = re.sub(r"ID[0-9a-f-]*", "ID", text)
    lines = []
    for line in text.splitlines():
        # HOME: when /etc/passwd cannot be read, glibc goes on to the next service of nsswitch.conf(5)
        if VOLATILE.match(line) or line.startswith("HOME="):
            continue
        if re.match(r"^\d+ \d+ \d+:\d+ ", line):  # of mountinfo: where and how
            line = " ".join(line.split()[4:6])
        if re.match(r"^/dev/(null|zero|full|random|urandom|tty) ", line):  # bound where they cannot be made
            continue
        lines.append(line)
    return lines


@pytest.fixture(scope="module")
def traced():
    directory = tempfile.mkdtemp(prefix="cloister-probe-")
    os.chmod(directory, 0o755)
    subprocess.run(["gcc", "-O1", "-static", "-o", f"{directory}/probe", pathlib.Path(__file__).with_name("probe.c")],
                   check=True)
    d = Daemon(BINARY, "--chroot-env", f"{CHROOT},{directory}=/probe")
    yield d
    d.stop()
    shutil.rmtree(directory)


def counts_before_execve(trace):
    """Largest number of uses of each call by one process of a start, until the command takes over."""
    by_process = collections.defaultdict(collections.Counter)
    done = set()
    for line in trace.splitlines():
        m = re.match(r"^(\d+)\s+(\w+)\(", line)
        if not m or m[1] in done:
            continue
        if m[2] == "execve":
            done.add(m[1])
        by_process[m[1]][m[2]] += 1
    most = collections.Counter()
    for counter in by_process.values():
        for name, n in counter.items():
            most[name] = max(most[name], n)
    return most


def in_the_command(trace):
    """Whether the fault has met the command itself, after execve."""
    begun = set()
    for line in trace.splitlines():
        pid = line.split(None, 1)[0]
        if "execve(" in line and " = 0" in line:
            begun.add(pid)
        elif "(INJECTED)" in line and pid in begun:
            return True
    return False


def launch(daemon):
    return daemon.post("/v1/tasks?wait=exited&output=true", SPEC, timeout=30)


def check(daemon, call, when, before, baseline):
    tracer = Tracer(daemon, "-e", f"trace={call},execve", "-e", f"inject={call}:error={ERRORS.get(call, 'EPERM')}:when={when}")
    try:
        reply = launch(daemon)
    except TimeoutError as error:
        raise AssertionError(f"{call} #{when}: no answer: {error!r} {daemon.children()}") from error
    except (OSError, http.client.HTTPException):
        reply = None  # the server has been started again: what became of the task is told then
    finally:
        trace = tracer.end()
    where = f"{call} #{when}"
    if "(INJECTED)" not in trace:  # this start used the call less often than the one that was counted
        assert reply.status == 201 and reply.json["exit"]["code"] == 0, (where, reply.body)
        assert daemon.request("DELETE", f"/v1/tasks/{reply.json['id']}").status == 204
        wait_until(lambda: daemon.census() == before, 20, f"the census of before, after {where}")
        return "unused"
    if reply is None:
        outcome = "refused"
    elif reply.status == 201:
        task = reply.json
        if task["log_bytes_lost"] > 0 or in_the_command(trace):
            pass  # told as what it is; or the probe's own call has failed
        elif task["state"] == "exited" and task["exit"]["code"] == 0:
            got = normal(task["output"]["stdout"], task["id"])
            assert got == baseline, (where, set(got) ^ set(baseline))
        else:  # ended by the fault after its start: the outcome must be told as what it is
            assert task["state"] in ("exited", "lost"), (where, task)
        removed = daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true")
        assert removed.status == 204, (where, task, removed.body)
        outcome = "started"
    else:
        problem = reply.json
        assert reply.status in (422, 500, 503, 507) and (problem.get("step") or problem.get("errors")
                                                         or problem["code"] != "internal"), (where, problem)
        outcome = "refused"
    wait_until(lambda: daemon.ready(), 20, f"readiness after {where}")
    for row in daemon.rows():  # the fault has met the clearing away: it must work now
        task = daemon.task(row)
        assert outcome == "refused" and task["state"] == "failed", (where, outcome, task)
        removed = daemon.request("DELETE", f"/v1/tasks/{row}")
        assert removed.status in (204, 404), (where, task, removed.body)
        outcome = "cleared later"
    wait_until(lambda: daemon.census() == before, 20, f"the census of before, after {where}: {before} {daemon.census()}")
    return outcome


def test_each_call_fails_in_turn_slow(traced):
    tracer = Tracer(traced)
    reply = launch(traced)
    most = counts_before_execve(tracer.end())
    assert reply.status == 201, reply.body
    baseline = normal(reply.json["output"]["stdout"], reply.json["id"])
    assert len(baseline) > 50 and most["mount"] + most["move_mount"] > 5
    traced.request("DELETE", f"/v1/tasks/{reply.json['id']}")
    before = traced.census()
    outcomes, faults = collections.Counter(), []
    for call in sorted(set(most) - NOT_INJECTED):
        for when in occurrences(most[call], PER_CALL):
            try:
                outcomes[check(traced, call, when, before, baseline)] += 1
            except AssertionError as error:
                faults.append(str(error).partition("\nassert")[0])
                for row in traced.rows():
                    traced.request("DELETE", f"/v1/tasks/{row}?force=true")
    print("faults injected:", dict(outcomes))
    assert not faults, "\n".join(faults)
    assert outcomes["refused"] > 100 and outcomes["cleared later"] < 40, outcomes
