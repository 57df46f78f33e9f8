"""Launcher, server, supervisors and helpers under valgrind: no error, and no fd that grows in number.

Debian 12's valgrind (3.19) knows neither openat2(2), clone3(2), seccomp(2) nor the mount calls after open_tree(2), without
which no task is started: launches are refused there, and what is seen is all up to that, and its undoing. It cannot execute
a memfd either; a library loaded before ours tells our program that it is the sealed copy already."""
import os
import re
import shutil
import subprocess

import pytest

from conftest import BINARY, Daemon, wait_until

pytestmark = [pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is not installed"),
              pytest.mark.skipif("asan" in str(BINARY), reason="ASan and valgrind exclude each other")]
SEALED = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>
int fcntl64(int fd, int cmd, ...)
{
    va_list a;
    va_start(a, cmd);
    long arg = va_arg(a, long);
    va_end(a);
    return cmd == F_GET_SEALS ? 15 : (int)syscall(SYS_fcntl, fd, cmd, arg);
}
int fcntl(int fd, int cmd, ...) __attribute__((alias("fcntl64")));
"""


@pytest.fixture
def observed(tmp_path):
    for part in (tmp_path, *tmp_path.parents[:2]):
        part.chmod(0o755)
    library, program, logs = tmp_path / "sealed.so", tmp_path / "cloisterd", tmp_path / "logs"
    logs.mkdir(mode=0o777)
    logs.chmod(0o777)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, "-xc", "-"], input=SEALED, text=True, check=True)
    program.write_text(f'#!/bin/sh\nexec env LD_PRELOAD={library} valgrind --track-fds=yes --trace-children=yes '
                       f'--leak-check=full --log-file={logs}/%p {BINARY} "$@"\n')
    program.chmod(0o755)
    d = Daemon(program, "--allow-seccomp-unconfined")
    yield d, logs
    if d.process.poll() is None:
        d.process.kill()
        d.process.wait()
    d.discard()


def launch(d):
    """Refused, as said above; with a newer valgrind it runs."""
    reply = d.post("/v1/tasks?wait=exited", {"command": "/bin/true", "seccomp": "unconfined"}, timeout=60)
    assert reply.status == 201 or (reply.status < 600 and reply.json["code"] != "internal"), reply.body
    return reply.status


def settled_fds(d):
    wait_until(lambda: set(d.children().values()) == {"cloister-server"}, 60, "the end of all helpers")
    return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in (("launcher", d.process.pid),
                                                                       ("server", d.server_pid()))}


def test_no_error_and_no_fd_that_grows_slow(observed):
    d, logs = observed
    launch(d)
    before = settled_fds(d)
    for path in ("/v1/tasks", "/v1/attributes", "/v1/node", "/metrics", "/v1/events", "/v1/config"):
        assert d.get(path).status == 200, path
    for _ in range(5):
        launch(d)
    d.post("/v1/gc", {})
    assert settled_fds(d) == before
    d.process.terminate()
    assert d.process.wait(60) == 0
    texts = {f.name: f.read_text(errors="replace") for f in logs.iterdir()}
    assert len(texts) >= 8, "the launcher, the server, and a supervisor for each launch"
    faults = [f"{name}: {line}" for name, text in texts.items() for line in text.splitlines()
              if re.search(r"Invalid (read|write|free)|uninitialised value\(s\)|definitely lost: [1-9]|ERROR SUMMARY: [1-9]", line)]
    assert not faults, faults + [texts[faults[0].split(":")[0]]]
