"""The daemon itself runs in a chroot(2): its tasks and their sessions are in roots of their own all the same."""
import pytest

from conftest import BINARY, Daemon, wait_until
from test_start import LEAVE_CHROOT

PYTHON = "/usr/bin/python3"
ROOT_OF = "import os; s = os.stat('/'); print(s.st_dev, s.st_ino)"


class ChrootedDaemon(Daemon):
    """In mounts of its own, with all of the host's root at another place."""

    def start(self):
        root = self.dir / "host"
        root.mkdir(exist_ok=True)
        (self.dir / "chrooted").write_text('#!/bin/sh\nexec unshare --mount --propagation slave sh -c \''
                                           f'mount --rbind / {root} && exec chroot {root} {BINARY} "$@"\' sh "$@"\n')
        (self.dir / "chrooted").chmod(0o755)
        self.binary = self.dir / "chrooted"
        super().start()


@pytest.fixture(scope="module")
def chrooted():
    d = ChrootedDaemon(BINARY, "--user-denylist", "")
    yield d
    d.stop()


def identity(text):
    return tuple(map(int, text.split()))


def test_a_session_is_in_the_tasks_root(chrooted):
    task = chrooted.start_task(PYTHON, "-c", f"{ROOT_OF}; import time; print(flush=True); time.sleep(900)")
    path = f"/v1/tasks/{task['id']}"
    wait_until(lambda: chrooted.get(f"{path}/logs").body.endswith(b"\n\n"))
    session = chrooted.post(f"{path}/exec", {"command": PYTHON, "args": ["-c", ROOT_OF]}).json
    assert identity(session["output"]["stdout"]) == identity(chrooted.get(f"{path}/logs").body.decode())


@pytest.mark.parametrize("root", ["overlay", "readonly"])
def test_nothing_of_the_host_is_around_the_root(chrooted, root):
    task = chrooted.run(PYTHON, "-c", f"{ROOT_OF}\n{LEAVE_CHROOT}\n{ROOT_OF}", user="root", root=root)
    assert task["exit"]["code"] == 0, task
    own, reached = map(identity, task["output"]["stdout"].splitlines())
    assert reached == own
