"""Logs: what was written comes back exactly, in whatever form, from whatever cursor, or a gap tells what is gone.

Segments of 64 KiB need the build with faults."""
import base64
import datetime
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest

from conftest import FAULTY, Daemon, UnixConnection, wait_until

SEGMENT = 65536
# Chunks of a stream are numbered by a generator that the test has too.
WRITER = """
import os, random, sys, time
seed, total, largest, binary, pause = int(sys.argv[1]), *map(int, sys.argv[2:5]), float(sys.argv[5])
choice, data = random.Random(seed), {1: random.Random(seed + 1), 2: random.Random(seed + 2)}
left = {1: total, 2: total}
while left[1] or left[2]:
    fd = choice.choice([f for f in left if left[f]])
    n = min(left[fd], int(largest ** choice.random()))
    text = data[fd].randbytes(n) if binary else bytes(data[fd].choices(b"abc d\\n", k=n))
    left[fd] -= n
    while text:
        text = text[os.write(fd, text):]
    if pause:
        time.sleep(pause * random.random())
"""


@pytest.fixture(scope="module")
def logs():
    assert FAULTY.exists(), "build it with: cmake --preset faults && cmake --build --preset faults"
    d = Daemon(FAULTY)
    yield d
    d.stop()


def written(seed, total, largest, binary):
    """What the writer writes to each stream."""
    choice, data = random.Random(seed), {1: random.Random(seed + 1), 2: random.Random(seed + 2)}
    left, out = {1: total, 2: total}, {1: bytearray(), 2: bytearray()}
    while left[1] or left[2]:
        fd = choice.choice([f for f in left if left[f]])
        n = min(left[fd], int(largest ** choice.random()))
        out[fd] += data[fd].randbytes(n) if binary else bytes(data[fd].choices(b"abc d\n", k=n))
        left[fd] -= n
    return {"stdout": bytes(out[1]), "stderr": bytes(out[2])}


def small(files=1000, **more):
    return {"env": {"CLOISTER_SEGMENT_BYTES": str(SEGMENT)}, "logs": {"max_files": files}, **more}


def start_writer(d, seed, total, largest, binary=0, files=1000, pause=0):
    return d.start_task("/usr/bin/python3", "-c", WRITER, *map(str, (seed, total, largest, binary)), str(pause),
                        **small(files))


def path(task, query=""):
    return f"/v1/tasks/{task['id']}/logs{query}"


class Stream:
    """A reply that is read while it comes."""
    def __init__(self, d, url, headers=None):
        self.connection = UnixConnection(d.socket, 60)
        self.connection.request("GET", url, headers=headers or {})
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()

    def lines(self):
        while line := self.response.readline():
            yield line.rstrip(b"\n")

    def records(self):
        """Of NDJSON."""
        for line in self.lines():
            if line:
                yield json.loads(line)

    def events(self):
        """Of SSE: (id, event, data), as WHATWG HTML, section 9.2, has it; without comments."""
        event = {}
        for line in self.lines():
            if not line:
                if "data" in event:
                    yield event.get("id"), event.get("event", "message"), json.loads(event["data"])
                event = {}
            elif not line.startswith(b":"):
                name, value = line.decode().split(": ", 1)
                event[name] = value

    def close(self):
        self.connection.close()


def data_of(record):
    return record["data"].encode() if "data" in record else base64.b64decode(record["data_base64"])


def assemble(records, at=None):
    """The bytes of each stream from records without a gap; every record must go on where the last one of its stream
    ended, and times grow."""
    at = at or {"stdout": 0, "stderr": 0}
    out, last, ended = {"stdout": b"", "stderr": b""}, "", False
    parts = {"stdout": [], "stderr": []}
    for r in records:
        assert not ended, r
        if "end" in r:
            ended = True
            continue
        stream, text = r["stream"], data_of(r)
        assert r["cursor"] == at[stream], r
        assert r["time"] >= last
        last = r["time"]
        at[stream] += len(text)
        assert r["next"] == f"o{at['stdout']},e{at['stderr']}"
        parts[stream].append(text)
    out = {s: b"".join(p) for s, p in parts.items()}
    return out, ended


# --- random writers ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed,total,largest,binary,pause", [
    (1, 3000, 1, 0, 0), (2, 400000, 5000, 0, 0), (3, 3000000, 1 << 20, 1, 0), (4, 60000, 300, 1, 0.001),
    (5, 2000000, 100000, 0, 0), (6, 100, 10, 0, 0.01)])
def test_followers_get_what_was_written(logs, seed, total, largest, binary, pause):
    task = start_writer(logs, seed, total, largest, binary, pause=pause)
    follower = Stream(logs, path(task, "?follow=true&format=ndjson&cursor=o0,e0"))
    text = Stream(logs, path(task, "?follow=true&stream=stderr"))
    got, ended = assemble(follower.records())
    want = written(seed, total, largest, binary)
    assert ended and got == want
    assert text.response.read() == want["stderr"]
    records = [json.loads(line) for line in logs.get(path(task, "?format=ndjson")).body.splitlines()]
    assert assemble(records)[0] == want
    if not binary:  # a record takes the rest of a character along, even over what the other stream wrote in between
        assert logs.get(path(task)).body == b"".join(map(data_of, records))
    choice = random.Random(seed)
    for _ in range(10):
        stream = choice.choice(["stdout", "stderr"])
        at = choice.randrange(total + 1)
        assert logs.get(path(task, f"?stream={stream}&cursor={at}")).body == want[stream][at:]
    for record in choice.sample(records, min(10, len(records))):
        at = dict(zip(("stdout", "stderr"), (int(part[1:]) for part in record["next"].split(","))))
        rest = [json.loads(line) for line in logs.get(path(task, f"?format=ndjson&cursor={record['next']}")).body.splitlines()]
        assert assemble(rest, dict(at))[0] == {s: want[s][n:] for s, n in at.items()}


def test_a_writer_too_fast_leaves_exact_gaps(logs):
    """Retention of two segments: a follower gets what was written or is told what it missed."""
    total = 30 << 20
    task = start_writer(logs, 7, total, 1 << 20, binary=1, files=2)
    want, at, gaps = written(7, total, 1 << 20, 1), {"stdout": 0, "stderr": 0}, 0
    last = {}
    for r in Stream(logs, path(task, "?follow=true&format=ndjson&cursor=o0,e0")).records():
        last = r
        if "gap" in r:
            gap = r["gap"]
            assert gap["from"] == at[gap["stream"]] and gap["to"] > gap["from"]
            at[gap["stream"]] = gap["to"]
            gaps += 1
        elif "stream" in r:
            text = data_of(r)
            assert r["cursor"] == at[r["stream"]] and want[r["stream"]][r["cursor"]:][:len(text)] == text
            at[r["stream"]] += len(text)
    assert last["end"] == {"state": "exited", "code": 0, "signal": None}
    assert at == {"stdout": total, "stderr": total} and last["next"] == f"o{total},e{total}"
    kept = logs.get(path(task, "?stream=stdout"))
    assert SEGMENT <= len(kept.body) <= 2 * SEGMENT and want["stdout"].endswith(kept.body)
    first = json.loads(logs.get(path(task, "?format=ndjson&stream=stdout&cursor=5")).body.split(b"\n", 1)[0])
    assert first["gap"] == {"stream": "stdout", "from": 5, "to": total - len(kept.body)}
    assert logs.get(path(task, "?stream=stdout&cursor=5")).body == kept.body  # text leaves it out
    part = logs.get(path(task, "?stream=stdout"), headers={"Range": "bytes=0-99"})
    assert part.status == 416 and part.headers["Content-Range"] == f"bytes */{total}"
    files = os.listdir(logs.dir / "state/tasks" / task["id"] / "logs")
    assert len(files) == 8, files  # two segments, each with its index, of two streams


def test_a_short_task_keeps_its_last_byte(logs):
    for i in range(20):
        task = logs.sh(f"head -c {i * 7000} /dev/zero | tr '\\0' y; printf end >&2; kill -9 $$", **small())
        assert task["output"]["stdout"] == "y" * (i * 7000) and task["output"]["stderr"] == "end"


# --- resuming ---------------------------------------------------------------------------------------------------------

def test_kill_9_of_the_server_while_following(own_daemon):
    """An EventSource and curl come back with the last id they had: nothing is missing, nothing comes twice."""
    d = own_daemon
    task = d.start_task("/bin/sh", "-c",
                        "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo out $i; echo err $i >&2; sleep 0.01; done")
    got, last, kills = [], None, 0
    while not got or "end" not in got[-1]:
        wait_until(d.ready, 20)
        stream = Stream(d, path(task, "?format=sse&cursor=o0,e0"), {"Last-Event-ID": last} if last else {})
        for count, (last, name, data) in enumerate(stream.events()):
            assert (name == "end") == ("end" in data)
            got.append(data)
            if count > 60 and kills < 3:
                kills += 1
                server = d.server_pid()
                os.kill(server, signal.SIGKILL)
                wait_until(lambda: server not in d.children())
                break
        stream.close()
    assert kills == 3
    out, ended = assemble(got)
    assert ended and out["stdout"].decode().split("\n") == [f"out {i}" for i in range(1, 401)] + [""]
    assert out["stderr"].decode().split("\n") == [f"err {i}" for i in range(1, 401)] + [""]


def cursor_of(got, form):
    """Where a reader goes on that has got this much; and what of it counts."""
    if form == "text":  # of one stream, from its begin: the number of bytes
        return len(got), got
    got = got[:got.rfind(b"\n") + 1]  # a record that was cut off comes again
    lines = [line for line in got.splitlines() if line]
    return json.loads(lines[-1])["next"], got


@pytest.mark.parametrize("form,query", [("text", "stream=stdout"), ("ndjson", "format=ndjson")])
def test_curl_follows_by_cursor_through_kill_9_and_a_restart(own_daemon, tmp_path, form, query):
    d, file, got, cursor = own_daemon, tmp_path / "part", b"", "0" if form == "text" else "o0,e0"
    task = d.start_task("/bin/sh", "-c", "i=0; until [ -e /local/end ]; do i=$((i+1)); echo out $i; echo err $i >&2; "
                        "sleep 0.01; done")

    def follow():
        with open(file, "wb") as out:
            return subprocess.Popen(["curl", "-sN", "--unix-socket", d.socket, "http://localhost" +
                                     path(task, f"?follow=true&{query}&cursor={cursor}")], stdout=out)
    for cut in ("kill", "kill", "restart"):
        curl = follow()
        wait_until(lambda: file.stat().st_size > 2000, 20, "some of the log")
        if cut == "kill":
            server = d.server_pid()
            os.kill(server, signal.SIGKILL)
            wait_until(lambda server=server: d.ready() and d.server_pid() != server, 20)
        else:
            d.process.terminate()
            assert d.process.wait(20) == 0
            d.start()
        assert curl.wait(20) != 0, "a log that was cut off must not look whole"
        cursor, got = cursor_of(got + file.read_bytes(), form)
    curl = follow()
    assert d.request("PUT", f"/v1/tasks/{task['id']}/files/local/end", "").status == 201
    assert curl.wait(20) == 0
    got += file.read_bytes()
    whole = {s: d.get(path(task, f"?stream={s}")).body for s in ("stdout", "stderr")}
    if form == "text":
        assert got == whole["stdout"]
    else:
        assert assemble(json.loads(line) for line in got.splitlines() if line) == (whole, True)
    assert whole["stdout"].startswith(b"out 1\n") and whole["stdout"].splitlines()[-1].startswith(b"out ")


def test_curl_resumes_by_id(logs):
    task = start_writer(logs, 11, 50000, 400)
    logs.wait_ended(task["id"])
    whole = subprocess.run(["curl", "-sSN", "--unix-socket", logs.socket, "http://localhost" + path(task, "?format=sse")],
                           capture_output=True, check=True, timeout=20).stdout
    ids = [line[4:].decode() for line in whole.splitlines() if line.startswith(b"id: ")]
    middle = ids[len(ids) // 2]
    rest = subprocess.run(["curl", "-sSN", "--unix-socket", logs.socket, "-H", f"Last-Event-ID: {middle}",
                           "-H", "Accept: text/event-stream", "http://localhost" + path(task)],
                          capture_output=True, check=True, timeout=20).stdout
    assert rest.split(b"\n\n", 1)[1] == whole.split(f"id: {middle}\n".encode(), 1)[1].split(b"\n\n", 1)[1]
    again = logs.get(path(task, "?format=sse"), headers={"Last-Event-ID": ids[-1]}).body
    assert again.count(b"data: ") == 1 and b"event: end" in again


# --- formats ----------------------------------------------------------------------------------------------------------

def records(d, task, query=""):
    return [json.loads(line) for line in d.get(path(task, f"?format=ndjson{query}")).body.splitlines()]


def test_text_is_cut_between_characters(logs):
    text = "äöü €uro 🙂 z\n" * 30
    writer = f"import sys, time\nfor c in {text!r}.encode():\n  sys.stdout.buffer.raw.write(bytes([c])); time.sleep(0.002)"
    task = logs.start_task("/usr/bin/python3", "-c", writer, **small())
    live = list(Stream(logs, path(task, "?follow=true&format=ndjson")).records())
    assert all("data" in r or "end" in r for r in live), live
    assert "".join(r.get("data", "") for r in live) == text
    assert all("data" in r for r in records(logs, task))
    middle = text.encode().index("€".encode()) + 1  # within a character
    got = records(logs, task, f"&stream=stdout&cursor={middle}")
    assert b"".join(map(data_of, got)) == text.encode()[middle:]
    assert all(("data" in r) == (r["cursor"] >= middle + 2) for r in got)


def test_characters_over_segments_stay_whole(logs):
    task = logs.sh("head -c 70000 /dev/zero | sed 's/\\x0/€/g'", **small())
    got = records(logs, task, "&stream=stdout")
    assert all("data" in r for r in got) and "".join(r["data"] for r in got) == "€" * 70000


def test_half_a_character_comes_when_no_more_does(logs):
    task = logs.start_task("/bin/sh", "-c", "printf '\\342\\202'; sleep 60")
    stream = Stream(logs, path(task, "?format=sse"))
    _, _, first = next(stream.events())
    assert data_of(first) == b"\xe2\x82" and "data_base64" in first
    stream.close()
    assert logs.post(f"/v1/tasks/{task['id']}/signal", {"signal": "SIGKILL"}).status < 300


def test_binary_is_base64(logs):
    task = logs.sh("printf 'line\\n\\377\\0\\376'")
    assert [data_of(r) for r in records(logs, task)] == [b"line\n", b"\xff\0\xfe"]
    assert records(logs, task)[1]["data_base64"] == "/wD+"


@pytest.mark.parametrize("query,accept,media", [
    ("", None, "text/plain"), ("", "*/*", "text/plain"), ("", "text/event-stream", "text/event-stream"),
    ("", "application/x-ndjson, */*;q=0.1", "application/x-ndjson"), ("?format=sse", "text/plain", "text/event-stream"),
    ("?format=text", "text/event-stream", "text/plain")])
def test_negotiation(logs, hello, query, accept, media):
    reply = logs.get(path(hello, query), headers={"Accept": accept} if accept else {})
    assert reply.status == 200 and reply.headers["Content-Type"].split(";")[0] == media
    head = logs.request("HEAD", path(hello, query), headers={"Accept": accept} if accept else {})
    assert head.status == 200 and head.headers["Content-Type"] == reply.headers["Content-Type"] and head.body == b""


@pytest.fixture(scope="module")
def hello(logs):
    return logs.sh("echo hello; echo world >&2")


@pytest.mark.parametrize("query,status,code", [
    ("?format=xml", 400, "invalid_parameter"), ("?stream=both", 400, "invalid_parameter"),
    ("?stream=", 400, "invalid_parameter"), ("?stream=stdout,stdout", 400, "invalid_parameter"),
    ("?cursor=5", 400, "invalid_parameter"), ("?cursor=o5", 400, "invalid_parameter"),
    ("?cursor=e5,o5", 400, "invalid_parameter"), ("?stream=stdout&cursor=-1", 400, "invalid_parameter"),
    ("?stream=stdout&cursor=99999999999999999999", 400, "invalid_parameter"),
    ("?stream=stdout&cursor=o5,e5", 400, "invalid_parameter"), ("?cursor=o0,e0&tail=1", 400, "invalid_parameter"),
    ("?since=yesterday", 400, "invalid_parameter"), ("?tail=-1", 400, "invalid_parameter"),
    ("?tail=1000001", 400, "invalid_parameter"), ("?follow=yes", 400, "invalid_parameter")])
def test_bad_parameters(logs, hello, query, status, code):
    reply = logs.get(path(hello, query))
    assert (reply.status, reply.json["code"]) == (status, code), reply.body


def test_what_nobody_can_have(logs, hello):
    assert logs.get(path(hello), headers={"Accept": "image/png"}).status == 406
    bad = logs.get(path(hello, "?format=sse"), headers={"Last-Event-ID": "x"})
    assert bad.status == 400 and bad.json["code"] == "invalid_header"


def test_a_cursor_beyond_the_end(logs, hello):
    assert logs.get(path(hello, "?stream=stdout&cursor=1000")).body == b""
    assert [r for r in records(logs, hello, "&follow=true&cursor=o1000,e1000")][0]["end"]["state"] == "exited"


# --- tail, since, parts -----------------------------------------------------------------------------------------------

def test_tail_over_segments(logs):
    task = start_writer(logs, 21, 300000, 3000)
    logs.wait_ended(task["id"])
    want, order = written(21, 300000, 3000, 0), records(logs, task)
    for n in (0, 1, 2, 7, 100, 5000, 1000000):
        for stream in ("stdout", "stderr"):
            lines = want[stream].splitlines(keepends=True)
            assert logs.get(path(task, f"?stream={stream}&tail={n}")).body == b"".join(lines[len(lines) - min(n, len(lines)):])
    # Both: by where lines end; an unfinished last line of either stream counts as one that ends last.
    ends = []
    for r in order:
        ends += [(r["stream"], r["cursor"] + i + 1) for i, c in enumerate(data_of(r)) if c == ord("\n")]
    unfinished = [s for s in want if not want[s].endswith(b"\n")]
    for n in (2, 3, 50, 4000):
        out = ends[:len(ends) - (n - len(unfinished))]
        start = {s: max([at for stream, at in out if stream == s], default=0) for s in want}
        got = assemble(records(logs, task, f"&tail={n}"), dict(start))[0]
        assert got == {s: want[s][at:] for s, at in start.items()}, n


def test_tail_then_follow(logs):
    task = logs.start_task("/bin/sh", "-c", "seq 1 1000; echo ready; read x; echo more", stdin="")
    logs.wait_ended(task["id"])
    assert logs.get(path(task, "?follow=true&tail=2")).body == b"ready\nmore\n"
    live = logs.start_task("/bin/sh", "-c", "seq 1 1000; trap 'echo more; exit' TERM; echo ready; while :; do sleep 0.1; done")
    wait_until(lambda: logs.get(path(live)).body.endswith(b"ready\n"))
    stream = Stream(logs, path(live, "?follow=true&tail=2"))
    lines = stream.lines()
    assert [next(lines), next(lines)] == [b"1000", b"ready"]
    logs.post(f"/v1/tasks/{live['id']}/signal", {"signal": "SIGTERM"})
    assert list(lines) == [b"more"]


def test_since(logs):
    task = logs.sh("for i in 1 2 3 4 5 6; do echo $i; sleep 0.05; done; echo late >&2", **small())
    all_records = records(logs, task)
    for i, record in enumerate(all_records):
        assert records(logs, task, f"&since={record['time']}") == all_records[i:]
    middle = all_records[3]["time"]
    stamp = datetime.datetime.fromisoformat(middle[:26] + "+00:00") + datetime.timedelta(hours=2)
    same = stamp.strftime("%Y-%m-%dT%H:%M:%S.") + middle[20:29] + "%2B02:00"
    assert records(logs, task, f"&since={same}") == all_records[3:]
    assert records(logs, task, "&since=1h") == all_records
    assert logs.get(path(task, "?since=0s")).body == b""
    assert logs.get(path(task, "?since=1h&tail=2")).body == b"6\nlate\n"
    assert logs.get(path(task, f"?since={all_records[5]['time']}&tail=5")).body == b"6\nlate\n"


def test_ranges(logs):
    task = start_writer(logs, 31, 200000, 5000)
    logs.wait_ended(task["id"])
    want, url = written(31, 200000, 5000, 0)["stdout"], path(task, "?stream=stdout")
    whole = logs.get(url)
    assert whole.body == want and whole.headers["Content-Length"] == "200000" and whole.headers["Accept-Ranges"] == "bytes"
    head = logs.request("HEAD", url)
    assert head.headers["Content-Length"] == "200000" and head.body == b""
    for text, first, last in (("0-0", 0, 0), ("65530-65545", 65530, 65545), ("100-", 100, 199999), ("-5", 199995, 199999),
                              ("199999-999999", 199999, 199999), ("-999999", 0, 199999)):
        part = logs.get(url, headers={"Range": f"bytes={text}"})
        assert part.status == 206 and part.body == want[first:last + 1], text
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/200000"
        assert part.headers["Content-Length"] == str(last + 1 - first)
    for text in ("200000-", "-0", "999999-9999999"):
        part = logs.get(url, headers={"Range": f"bytes={text}"})
        assert part.status == 416 and part.headers["Content-Range"] == "bytes */200000"
    for text in ("bytes=5-3", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=-"):  # not understood: ignored
        assert logs.get(url, headers={"Range": text}).status == 200
    assert logs.get(url, headers={"Range": "bytes=0-1", "If-Range": '"x"'}).status == 200
    assert logs.get(path(task), headers={"Range": "bytes=0-1"}).status == 200
    assert logs.get(url + "&format=ndjson", headers={"Range": "bytes=0-1"}).status == 200


def test_a_part_of_a_log_that_grows(logs):
    task = logs.start_task("/bin/sh", "-c", "echo 0123456789; exec sleep 60")
    url = path(task, "?stream=stdout")
    wait_until(lambda: logs.get(url).body)
    part = logs.get(url, headers={"Range": "bytes=2-4"})
    assert part.status == 206 and part.body == b"234" and part.headers["Content-Range"] == "bytes 2-4/*"
    assert "Content-Length" not in logs.get(url).headers
    logs.post(f"/v1/tasks/{task['id']}/signal", {"signal": "SIGKILL"})


# --- following --------------------------------------------------------------------------------------------------------

def test_disabled_logs_are_empty(logs):
    task = logs.start_task("/bin/sh", "-c", "head -c 3000000 /dev/zero; sleep 0.3", logs={"disabled": True})
    assert [list(r) for r in Stream(logs, path(task, "?follow=true&format=ndjson")).records()] == [["end", "next"]]
    assert logs.get(path(task)).body == b"" and logs.get(path(task, "?tail=5&format=sse&follow=false")).body == b""


def test_following_goes_over_restarts(logs):
    task = logs.start_task("/bin/sh", "-c", "echo run; exit 1", **small(),
                           restart={"attempts": 4, "delay": "50ms", "mode": "fail"})
    assert Stream(logs, path(task, "?follow=true")).response.read() == b"run\n" * 5
    assert len(os.listdir(logs.dir / "state/tasks" / task["id"] / "logs")) == 4  # one segment a stream


def test_a_quiet_stream_is_kept_alive(logs):
    task = logs.start_task("/bin/sleep", "17")
    sse, ndjson = (Stream(logs, path(task, f"?follow=true&format={f}")) for f in ("sse", "ndjson"))
    assert b": ping\n\n" in sse.response.read()
    assert ndjson.response.read().startswith(b"\n{\"end\"")


def test_a_removed_task_ends_the_stream(logs):
    task = logs.start_task("/bin/sleep", "60")
    stream = Stream(logs, path(task, "?follow=true&format=ndjson"))
    assert logs.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204
    assert [list(r) for r in stream.records()] == [["end", "next"]]


def server_fds(d):
    links = []
    for fd in os.listdir(f"/proc/{d.server_pid()}/fd"):
        try:
            links.append(os.readlink(f"/proc/{d.server_pid()}/fd/{fd}"))
        except OSError:
            pass
    return links


def test_a_stalled_follower_slows_nobody(logs):
    """It takes nothing; the task, another follower and retention go on, and no removed file is held."""
    task = start_writer(logs, 41, 20 << 20, 1 << 20, binary=1, files=2)
    stalled = [Stream(logs, path(task, f"?follow=true&cursor=o0,e0&format={f}")) for f in ("text", "ndjson", "sse")]
    stalled.append(Stream(logs, path(task, "?stream=stdout")))
    live = Stream(logs, path(task, "?follow=true&format=ndjson"))
    assert [r for r in live.records()][-1]["end"]["code"] == 0
    wait_until(lambda: not [link for link in server_fds(logs) if "(deleted)" in link and "/logs/" in link], 5)
    for stream in stalled:
        stream.close()


def test_many_followers_share_one_watch(logs):
    task = logs.start_task("/bin/sh", "-c", "sleep 0.5; seq 1 3000")
    before = sum("inotify" in link for link in server_fds(logs))
    assert before <= 1
    bodies = [None] * 40

    def follow(i):
        bodies[i] = logs.get(path(task, "?follow=true")).body
    threads = [threading.Thread(target=follow, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum("inotify" in link for link in server_fds(logs)) == 1, 5)
    for thread in threads:
        thread.join()
    assert set(bodies) == {b"".join(b"%d\n" % i for i in range(1, 3001))}


# --- a full disk ------------------------------------------------------------------------------------------------------

def test_a_full_disk_stops_no_task_and_is_told(logs):
    """Between two runs the directory of the logs becomes a small filesystem."""
    script = "[ -e /local/again ] || { touch /local/again; echo first; exit 1; }; head -c 20000000 /dev/zero; echo end >&2"
    task = logs.start_task("/bin/sh", "-c", script, restart={"attempts": 1, "delay": "3s", "mode": "fail"})
    wait_until(lambda: logs.task(task["id"])["state"] == "restarting")
    directory = logs.dir / "state/tasks" / task["id"] / "logs"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "cloister-test", directory], check=True)
    try:
        ended = logs.wait_ended(task["id"], 60)
        total, kept, at = len("first\n") + 20000000, 0, 0
        assert ended["exit"]["code"] == 0 and total - (4 << 20) < ended["log_bytes_lost"] < total
        for r in records(logs, task, "&stream=stdout&cursor=0"):
            if "gap" in r:
                assert r["gap"]["from"] == at
                at = r["gap"]["to"]
            else:
                assert r["cursor"] == at and set(data_of(r)) == {0}
                at += len(data_of(r))
                kept += len(data_of(r))
        assert kept > 1 << 20 and at == total
        lost = total - kept - len("first\n")  # that is hidden, not lost
        assert lost <= ended["log_bytes_lost"] <= lost + len("end\n")
    finally:
        subprocess.run(["umount", directory], check=True)


# --- sessions ---------------------------------------------------------------------------------------------------------

def test_the_log_of_a_session_has_the_same_forms(logs):
    task = logs.start_task("/bin/sleep", "60")
    base = f"/v1/tasks/{task['id']}"
    script = "echo one; sleep 0.02; echo two >&2; sleep 0.02; echo three; exit 3"
    assert logs.post(f"{base}/exec", {"command": "/bin/sh", "args": ["-c", script]}).json["exit"]["code"] == 3
    eid = logs.get(f"{base}/execs").json["items"][0]["id"]
    url = f"{base}/execs/{eid}/logs"
    assert logs.get(url).body == b"one\ntwo\nthree\n" and logs.get(f"{url}?tail=2").body == b"two\nthree\n"
    *got, end = [json.loads(line) for line in logs.get(f"{url}?follow=true&format=ndjson&cursor=o4,e0").body.splitlines()]
    assert [(r["stream"], r["data"]) for r in got] == [("stderr", "two\n"), ("stdout", "three\n")]
    assert end["end"] == {"state": "exited", "code": 3, "signal": None}
    part = logs.get(f"{url}?stream=stdout", headers={"Range": "bytes=-6"})
    assert part.status == 206 and part.body == b"three\n"
    assert logs.request("DELETE", f"{base}?force=true").status == 204


def test_kill_9_of_a_supervisor_in_the_middle_of_a_rotation(logs):
    """What it had written stays, without a hole; a rotation takes place every few milliseconds."""
    d, before = logs, logs.census()
    for n in range(8):
        task = d.start_task("/bin/sh", "-c", "i=1000000; while :; do seq $i $((i + 9999)); i=$((i + 10000)); done",
                            **small(3))
        files = d.dir / "state/tasks" / task["id"] / "logs"
        wait_until(lambda: any(int(f.name.split(".")[1]) > 1 << 20 for f in files.glob("stdout.*")), 20, "rotations")
        time.sleep(n * 0.003)
        os.kill(next(pid for pid, name in d.children().items() if name == "cloister-task"), signal.SIGKILL)
        assert d.wait_ended(task["id"])["state"] == "lost"
        reply = d.get(f"/v1/tasks/{task['id']}/logs?stream=stdout")
        numbers = [int(line) for line in reply.body.split(b"\n")[1:-1]]
        assert reply.status == 200 and len(numbers) > 8000
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert d.request("DELETE", f"/v1/tasks/{task['id']}").status == 204
        wait_until(lambda: d.census() == before, 10, "nothing left")
