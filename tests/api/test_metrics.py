"""GET /metrics against a strict reader of the Prometheus text format 0.0.4, and against what happens."""
import http.client
import math
import os
import re
import signal

import pytest

from conftest import BINARY, Daemon, wait_until

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


def labels_of(text):
    found, at = {}, 0
    while at < len(text):
        match = LABEL.match(text, at)
        assert match, text[at:]
        assert match[1] not in found, text
        found[match[1]] = re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), match[2])
        at = match.end()
    return tuple(sorted(found.items()))


def parse(text):
    """family -> (type, {(sample name, labels): value}); any fault of form is an error."""
    assert text.endswith("\n") and "\r" not in text
    families, name = {}, None
    for line in text[:-1].split("\n"):
        if help_line := re.fullmatch(rf"# HELP ({NAME}) (\S.*)", line):
            name = help_line[1]
            assert name not in families, f"{name}: twice"
            families[name] = (None, {})
        elif type_line := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|histogram)", line):
            assert type_line[1] == name and families[name] == (None, {}), f"{line}: HELP, TYPE, samples"
            families[name] = (type_line[2], {})
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            kind, samples = families[name]
            assert sample[1] in [name + s for s in SUFFIXES.get(kind, ("",))], f"{line}: is of no family {name}"
            key = sample[1], labels_of(sample[2] or "")
            assert key not in samples, f"{line}: twice"
            samples[key] = float(sample[3])
            assert not math.isnan(samples[key]), line
    return families


def check_values(families):
    for name, (kind, samples) in families.items():
        assert (kind == "counter") == name.endswith("_total"), name
        assert all(v >= 0 for v in samples.values()), name
        if kind == "histogram":
            buckets = [(float(dict(labels)["le"]), v) for (n, labels), v in samples.items() if n.endswith("_bucket")]
            assert buckets == sorted(buckets) and buckets[-1][0] == math.inf
            assert [v for _, v in buckets] == sorted(v for _, v in buckets)
            assert buckets[-1][1] == samples[f"{name}_count", ()] > 0 and samples[f"{name}_sum", ()] > 0


def scrape(daemon):
    reply = daemon.get("/metrics")
    assert reply.status == 200 and reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = parse(reply.body.decode())
    check_values(families)
    return {(name, *(v for _, v in labels)) if labels else name: value
            for _, samples in families.values() for (name, labels), value in samples.items()}


def test_what_happens_is_counted(daemon):
    before = scrape(daemon)
    daemon.run("/bin/true")
    daemon.run("/bin/false", restart={"attempts": 1, "delay": "10ms", "interval": "1m"})
    daemon.post("/v1/tasks", {"command": "/no/such/file"})
    daemon.run("/usr/bin/python3", "-c", "x = bytearray(200 << 20)", resources={"memory": 32})
    after = scrape(daemon)

    def grown(*key):
        key = key if len(key) > 1 else key[0]
        return after.get(key, 0) - before.get(key, 0)
    assert grown("cloister_task_starts_total") == 4
    assert grown("cloister_events_total", "task.exited") == 3 and grown("cloister_events_total", "task.restarting") == 1
    assert grown("cloister_task_failures_total", "command") == 1
    assert grown("cloister_task_oom_kills_total") >= 1
    assert grown("cloister_tasks", "exited") == 3 and grown("cloister_tasks", "failed") == 0
    assert grown("cloister_http_responses_total", "4xx") == 1 and grown("cloister_http_responses_total", "2xx") >= 4
    assert grown("cloister_store_commit_duration_seconds_count") >= 12
    assert grown("cloister_tasks_cpu_seconds_total") > 0
    assert after["cloister_event_last_number"] == daemon.get("/v1/tasks").json["events_at"]
    assert after["process_open_fds"] < after["process_max_fds"] and after["process_cpu_seconds_total"] >= 0
    assert 1 << 20 < after["process_resident_memory_bytes"] < after["process_virtual_memory_bytes"]


def test_a_running_task_is_told(daemon):
    task = daemon.start_task("/bin/sh", "-c", "sleep 60 & while :; do :; done", name="busy")
    wait_until(lambda: scrape(daemon).get(("cloister_task_cpu_seconds_total", task["id"]), 0) > 0.1)
    now = scrape(daemon)
    assert now["cloister_task_memory_bytes", task["id"]] > 0 and now["cloister_task_pids", task["id"]] == 2
    assert now["cloister_task_restarts_total", task["id"]] == 0
    assert now["cloister_task_info", "busy", task["id"]] == 1 and now["cloister_task_metrics_omitted"] == 0
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204
    assert not [key for key in scrape(daemon) if task["id"] in key]


def test_output_is_counted_by_stream(own_daemon):
    """Exactly when a run has ended; of a running task within some seconds; once, also over the server's death."""
    d = own_daemon
    total = lambda stream: scrape(d)["cloister_log_bytes_total", stream]
    d.sh("head -c 100000 /dev/zero; head -c 1234 /dev/zero >&2")
    assert (total("stdout"), total("stderr")) == (100000, 1234)
    d.run("/bin/sh", "-c", "printf 12345; exit 1", restart={"attempts": 2, "delay": "100ms", "interval": "1h"})
    assert (total("stdout"), total("stderr")) == (100015, 1234)
    task = d.start_task("/bin/sh", "-c", "while sleep 0.2; do echo 3456789; done")
    live = lambda: scrape(d).get(("cloister_task_log_bytes_total", task["id"]), 0)
    version = d.task(task["id"])["version"]
    wait_until(lambda: live() > 0, 30, "word of the output")
    assert total("stdout") == 100015 + live() and d.task(task["id"])["version"] == version
    server = d.server_pid()
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: d.ready() and d.server_pid() != server, 20, "the next server")
    seen = wait_until(live, what="the supervisor's first word")
    assert total("stdout") == 0  # the last server has counted it
    assert d.post(f"/v1/tasks/{task['id']}/stop?wait=exited").status == 200
    size = len(d.get(f"/v1/tasks/{task['id']}/logs?stream=stdout").body)
    assert 0 <= total("stdout") <= size - seen


def test_monitors_get_no_names(daemon):
    task = daemon.start_task("/bin/sleep", "60", name="secret-name")
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    check_values(parse(text))
    assert task["id"] in text and "secret-name" not in text
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


@pytest.fixture
def bounded():
    d = Daemon(BINARY, "--metrics-tasks-max", "2")
    yield d
    d.stop()


def test_the_number_of_series_is_bounded(bounded):
    tasks = [bounded.start_task("/bin/sleep", "60")["id"] for _ in range(5)]
    bounded.run("/bin/true")
    now = scrape(bounded)
    for name in ("cpu_seconds_total", "memory_bytes", "pids", "restarts_total"):
        assert {key[1] for key in now if key[0] == f"cloister_task_{name}"} == set(tasks[-2:])
    assert now["cloister_task_metrics_omitted"] == 3
    assert now["cloister_tasks_pids"] == 5 and now["cloister_tasks_memory_bytes"] > 0
    assert now["cloister_tasks", "running"] == 5
