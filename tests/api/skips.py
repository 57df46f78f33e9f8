"""A test may be skipped for these reasons only; any other ends the run as a failure."""
import os

EXPECTED = {
    "the ASan build has the faults too",
    "one core: none can be taken from the share",
    "the numbers are x86-64's",
    "the numbers here are those of x86-64",
    "this kernel has no i386 calls",
    "the host's /usr is large",
    "this host has no /dev/fuse",
    "ASan and valgrind exclude each other",
    "the sanitizer must be loaded first",
}
# By the host: in the guests of tests/guest/run, and where they are started.
EXPECTED |= {
    "chromium is not installed",
    "without the v1 controller, the host's way is the BPF program",
    "the unit test refuses the BPF program",
    "here the BPF program is always there",
} if os.environ.get("CLOISTER_HOST") else {
    "this host cannot give it",
}


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    unexpected = [r for r in skipped if r.longrepr[2].removeprefix("Skipped: ") not in EXPECTED]
    for report in unexpected:
        reporter.write_line(f"\nUNEXPECTED SKIP {report.nodeid}: {report.longrepr[2]}", red=True)
    if unexpected and session.exitstatus == 0:
        session.exitstatus = 1
