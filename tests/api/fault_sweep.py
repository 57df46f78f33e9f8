"""Calls of a running process of the daemon's that fail in turn, by strace."""
import collections
import contextlib
import os
import signal
import subprocess
import tempfile

from conftest import wait_until

PER_CALL = int(os.environ.get("CLOISTER_FAULTS_PER_CALL", "6"))


@contextlib.contextmanager
def traced(pid, *options):
    """strace on the process; afterwards .text is what it has written."""
    class Trace:
        text = ""
    with tempfile.NamedTemporaryFile(prefix="cloister-trace-") as out:
        tracer = subprocess.Popen(["strace", "-qq", "-o", out.name, *options, "-p", str(pid)], stderr=subprocess.DEVNULL)
        wait_until(lambda: "TracerPid:\t0\n" not in open(f"/proc/{pid}/status").read(), 10, "strace")
        try:
            yield Trace
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)
            Trace.text = open(out.name, errors="replace").read()


def refused(reply):
    """An answer that names what has failed, and is no accident."""
    return reply.status in (404, 409, 422, 500, 503, 507) and reply.json["code"] != "internal"


def occurrences(n, per_call=PER_CALL):
    """Of n uses of a call those that are tried, spread over all."""
    return sorted({1 + i * (n - 1) // max(1, per_call - 1) for i in range(per_call)}) if n > per_call else range(1, n + 1)


def sweep(d, errors, found, inject):
    """inject(call, error, when) for each error of each call and its occurrences: how many faults were met."""
    met, faults = collections.Counter(), []
    for call, names in errors.items():
        for error in names:
            for when in occurrences(found[call]):
                try:
                    met[call] += inject(call, error, when)
                except AssertionError as fault:
                    faults.append(f"{call} {error} #{when}: {fault}".partition("\nassert")[0])
                    for row in d.rows():
                        d.request("DELETE", f"/v1/tasks/{row}?force=true")
    print(f"faults met: {dict(met)}, of calls: {dict(found)}")
    assert not faults, "\n".join(faults)
    return sum(met.values())
