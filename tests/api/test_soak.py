"""The short variant of tests/soak.py."""
import pathlib
import sys

from conftest import BINARY, Daemon

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from soak import soak  # noqa: E402


def test_three_hundred_tasks_leave_nothing():
    daemon = Daemon(BINARY, "--events-max", "200")
    try:
        more = soak(daemon, 300, 4)
    finally:
        daemon.stop()
    if "asan" in str(BINARY):
        more.pop("own_kib", None)  # the sanitizer keeps what was freed in quarantine
    assert not more, more
