"""A test may be skipped for these reasons only; any other ends the run as a failure."""

EXPECTED = (
    "the ASan build has the faults too",
    "one core: none can be taken from the share",
    "the unit test refuses the BPF program",
    "here the BPF program is always there",
)


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    unexpected = [r for r in skipped if r.longrepr[2].removeprefix("Skipped: ") not in EXPECTED]
    for report in unexpected:
        reporter.write_line(f"\nUNEXPECTED SKIP {report.nodeid}: {report.longrepr[2]}", red=True)
    if unexpected and session.exitstatus == 0:
        session.exitstatus = 1
