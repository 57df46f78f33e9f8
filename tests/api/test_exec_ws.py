"""Exec sessions over a WebSocket, by a client of another make: Debian's python3-websockets."""
import asyncio
import base64
import contextlib
import functools
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian has it, also when python3 is another one
import websockets
from websockets.legacy.client import connect, unix_connect

from conftest import wait_until

CLOISTER, NOMAD = "cloister.exec.v1", "nomad.exec.v1"


@pytest.fixture(scope="module")
def task(daemon):
    t = daemon.start_task("/bin/sleep", "1000", work_dir="/local")
    yield t
    assert daemon.request("DELETE", f"/v1/tasks/{t['id']}?force=true").status == 204


def sync(test):
    @functools.wraps(test)
    def run(*args, **more):
        asyncio.run(asyncio.wait_for(test(*args, **more), 300))
    return run


def url(task, *command, path="exec", host="localhost", **query):
    if command:
        query.update(command=command[0], arg=list(command[1:]))
    return f"ws://{host}/v1/tasks/{task['id']}/{path}?" + urllib.parse.urlencode(query, doseq=True)


def dial(daemon, address, protocol=CLOISTER, **more):
    return unix_connect(daemon.socket, address, subprotocols=[protocol] if protocol else None, max_size=None,
                        compression=None, **more)


class Heard:
    def __init__(self):
        self.streams, self.control, self.code, self.reason = {1: bytearray(), 2: bytearray()}, [], None, None

    @property
    def out(self):
        return self.streams[1]

    @property
    def err(self):
        return self.streams[2]

    @property
    def exit(self):
        return self.control[-1]["exit"]

    def take(self, message):
        if message[0] == 3:
            self.control.append(json.loads(message[1:]))
        else:
            self.streams[message[0]] += message[1:]


async def listen(ws, until=None, heard=None):
    """Everything up to the close, or until a text is in stdout."""
    heard = heard or Heard()
    try:
        while until is None or until not in heard.out:
            heard.take(await ws.recv())
    except websockets.ConnectionClosed as closed:
        heard.code, heard.reason = closed.code, closed.reason
    return heard


def control(**message):
    return b"\x03" + json.dumps(message).encode()


async def run(daemon, task, *command, send=(), **query):
    async with dial(daemon, url(task, *command, **query)) as ws:
        for message in send:
            await ws.send(message)
        return await listen(ws)


def sessions(daemon, task):
    return daemon.get(f"/v1/tasks/{task['id']}/execs").json["items"]


@sync
async def test_terminal_size_and_name(daemon, task):
    heard = await run(daemon, task, "/bin/sh", "-c", "tty; stty size; test -c $(tty) && echo there; echo $TERM",
                      tty="true", rows=33, cols=99)
    assert heard.out == b"/dev/pts/0\r\n33 99\r\nthere\r\nxterm\r\n" and heard.code == 1000
    assert heard.control[0]["session"]["tty"] and heard.exit == {"code": 0, "signal": None}
    assert (await run(daemon, task, "/usr/bin/stty", "size", tty="true")).out == b"24 80\r\n"


@sync
async def test_resize_reaches_the_foreground(daemon, task):
    script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
    async with dial(daemon, url(task, "/bin/sh", "-c", script, tty="true")) as ws:
        heard = await listen(ws, b"ready\r\n")
        await ws.send(control(resize={"rows": 50, "cols": 132}))
        assert (await listen(ws, heard=heard)).out.endswith(b"50 132\r\n")


@sync
async def test_control_c(daemon, task):
    async with dial(daemon, url(task, "/bin/sh", "-c", "echo ready; exec sleep 1000", tty="true")) as ws:
        heard = await listen(ws, b"ready\r\n")
        await ws.send(b"\x00\x03")
        assert (await listen(ws, heard=heard)).exit == {"code": None, "signal": "SIGINT"}


@sync
async def test_control_d(daemon, task):
    async with dial(daemon, url(task, "/bin/cat", tty="true")) as ws:
        await ws.send(b"\x00line\n")
        heard = await listen(ws, b"line\r\nline\r\n")
        await ws.send(control(stdin="close"))
        assert (await listen(ws, heard=heard)).exit == {"code": 0, "signal": None}


@sync
async def test_it_has_a_terminal_and_session_of_its_own(daemon, task):
    script = "exec 3>/dev/tty; echo own >&3; cut -d' ' -f1,5,6,7,8 /proc/$$/stat"
    heard = await run(daemon, task, "/bin/sh", "-c", script, tty="true")
    own, stat = heard.out.split(b"\r\n")[:2]
    pid, group, session, tty, _ = stat.split()
    assert own == b"own" and pid == group == session and tty != b"0"
    stat = (await run(daemon, task, "/bin/sh", "-c", "cut -d' ' -f1,5,6,7 /proc/$$/stat")).out.split()
    assert stat[0] == stat[1] == stat[2] and stat[3] == b"0"


@sync
async def test_paste_of_a_megabyte_into_a_terminal(daemon, task):
    data = os.urandom(1_000_000)
    script = "stty raw -echo; echo ready; head -c 1000000 | sha256sum"
    async with dial(daemon, url(task, "/bin/sh", "-c", script, tty="true")) as ws:
        heard = await listen(ws, b"ready\n")
        await ws.send(b"\x00" + data)
        assert hashlib.sha256(data).hexdigest().encode() in (await listen(ws, heard=heard)).out


@sync
async def test_half_close_of_stdin(daemon, task):
    data = os.urandom(3_000_000)
    parts = [b"\x00" + data[i:i + 70_000] for i in range(0, len(data), 70_000)]
    heard = await run(daemon, task, "/usr/bin/sha256sum", send=[*parts, control(stdin="close")])
    assert heard.out == hashlib.sha256(data).hexdigest().encode() + b"  -\n" and heard.exit["code"] == 0


@sync
async def test_bytes_are_bytes(daemon, task):
    data = bytes(range(256)) * 300
    heard = await run(daemon, task, "/bin/sh", "-c", "tee /dev/stderr", send=[b"\x00" + data, control(stdin="close")])
    assert heard.out == data and heard.err == data


@sync
async def test_every_exit_code(daemon, task):
    for code in range(256):
        heard = await run(daemon, task, "/bin/sh", "-c", f"exit {code}")
        assert heard.exit == {"code": code, "signal": None} and heard.code == 1000


@sync
async def test_signals(daemon, task):
    for name in ("SIGTERM", "SIGKILL", "SIGUSR1", "SIGRTMIN+3"):
        async with dial(daemon, url(task, "/bin/sh", "-c", "echo ready; exec sleep 1000")) as ws:
            heard = await listen(ws, b"ready\n")
            await ws.send(control(signal=name))
            assert (await listen(ws, heard=heard)).exit == {"code": None, "signal": name}


@sync
async def test_user_and_work_dir(daemon, task):
    heard = await run(daemon, task, "/bin/sh", "-c", "id -un; pwd", user="daemon", work_dir="/tmp")
    assert heard.out == b"daemon\n/tmp\n"


@sync
async def test_a_client_leaves_and_another_goes_on(daemon, task):
    async with dial(daemon, url(task, "/bin/sh", "-c", "echo one; read x; echo two $x; read y; exit 9")) as ws:
        location = ws.response_headers["Location"]
        heard = await listen(ws, b"one\n")
        eid = heard.control[0]["session"]["id"]
        ws.transport.abort()
    assert location.endswith(f"/execs/{eid}")
    assert daemon.get(location).json["state"] == "running"
    async with dial(daemon, url(task, path=f"execs/{eid}/attach")) as ws:
        await ws.send(b"\x00more\n")
        heard = await listen(ws, b"two more\n")
        assert heard.out == b"one\ntwo more\n"
    async with dial(daemon, url(task, path=f"execs/{eid}/attach", stdout=4)) as ws:
        await ws.send(b"\x00end\n")
        heard = await listen(ws)
        assert heard.out == b"two more\n" and heard.exit["code"] == 9
    heard = await listen(await dial(daemon, url(task, path=f"execs/{eid}/attach", stdout=8)))
    assert heard.out == b"more\n" and heard.exit["code"] == 9 and heard.code == 1000
    assert heard.control[0]["session"]["stdout"] == 8
    assert daemon.get(location + "/logs").body == b"one\ntwo more\n"


@sync
async def test_two_clients_see_the_same(daemon, task):
    async with dial(daemon, url(task, "/bin/cat")) as one:
        eid = (await listen(one, b"")).control or [json.loads((await one.recv())[1:])]
        eid = eid[0]["session"]["id"]
        async with dial(daemon, url(task, path=f"execs/{eid}/attach")) as two:
            await one.send(b"\x00from one\n")
            await listen(two, b"from one\n")
            await two.send(b"\x00from two\n")
            first = await listen(one, b"from two\n")
            assert first.out == b"from one\nfrom two\n"
            await two.send(control(stdin="close"))
            assert (await listen(one)).exit["code"] == 0 and (await listen(two)).exit["code"] == 0


@sync
async def test_a_slow_client_loses_nothing_and_stops_nobody(daemon, task):
    size = 40 << 20  # more than is kept
    script = f"import sys\nfor i in range({size >> 16}): sys.stdout.buffer.write(i.to_bytes(4, 'big') * 16384)"
    async with dial(daemon, url(task, "/usr/bin/python3", "-c", script), max_queue=1, read_limit=4096) as ws:
        await asyncio.sleep(1)
        assert daemon.get("/healthz").status == 200
        state = sessions(daemon, task)[0]["state"]
        heard = await listen(ws)
    assert state == "running"
    assert heard.out == b"".join(i.to_bytes(4, "big") * 16384 for i in range(size >> 16))
    assert heard.exit["code"] == 0 and not [c for c in heard.control if "gap" in c]


@sync
async def test_what_nobody_waits_for_is_told_as_a_gap(daemon, task):
    script = "read x; head -c 30000000 /dev/zero; printf end"
    async with dial(daemon, url(task, "/bin/sh", "-c", script)) as ws:
        eid = json.loads((await ws.recv())[1:])["session"]["id"]
        await ws.send(b"\x00\n")
        ws.transport.abort()
    path = f"/v1/tasks/{task['id']}/execs/{eid}"
    wait_until(lambda: daemon.get(path).json["state"] == "exited", what="its end")
    heard = await listen(await dial(daemon, url(task, path=f"execs/{eid}/attach")))
    gap = next(c["gap"] for c in heard.control if "gap" in c)
    assert gap["stream"] == "stdout" and gap["from"] == 0 and gap["to"] + len(heard.out) == 30000003
    assert heard.out.endswith(b"\0end") and len(heard.out) >= 8 << 20


@sync
async def test_a_session_outlives_the_server(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sleep", "1000")
    async with dial(d, url(task, "/bin/sh", "-c", "echo one; read x; echo two $x", tty="true")) as ws:
        eid = (await listen(ws, b"one\r\n")).control[0]["session"]["id"]
        os.kill(d.server_pid(), signal.SIGKILL)
        assert (await listen(ws)).code == 1006
    wait_until(lambda: ready(d), 20, "the server's return")
    async with dial(d, url(task, path=f"execs/{eid}/attach", stdout=5)) as ws:
        await ws.send(b"\x00x\n")
        heard = await listen(ws)
        assert heard.out == b"x\r\ntwo x\r\n" and heard.exit["code"] == 0


def ready(d):
    try:
        return d.get("/readyz").status == 200
    except OSError:
        return False


@sync
async def test_a_daemon_that_stops_says_so(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sleep", "1000")
    async with dial(d, url(task, "/bin/cat")) as ws:
        await ws.recv()
        d.process.send_signal(signal.SIGTERM)
        assert (await listen(ws)).code == 1001
    d.process.wait(20)
    d.start()
    assert sessions(d, task)[0]["state"] == "running"


@sync
async def test_a_session_ends_with_its_task(daemon):
    task = daemon.start_task("/bin/sleep", "1000")
    async with dial(daemon, url(task, "/bin/cat")) as ws:
        await ws.recv()
        assert daemon.post(f"/v1/tasks/{task['id']}/stop", {"timeout": "0s"}).status == 202
        heard = await listen(ws)
        assert heard.exit == {"code": None, "signal": "SIGKILL"} and heard.code == 1000
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


@sync
async def test_nothing_is_left(daemon, task):
    before = daemon.census()
    server = daemon.server_pid()
    fds = len(os.listdir(f"/proc/{server}/fd"))
    for i in range(20):
        await run(daemon, task, "/bin/sh", "-c", "echo x", tty="true" if i % 2 else "false")
        async with dial(daemon, url(task, "/bin/sh", "-c", "sleep 0.05")) as ws:
            ws.transport.abort()
    wait_until(lambda: all(x["state"] == "exited" for x in sessions(daemon, task)), what="the end of all sessions")
    wait_until(lambda: len(os.listdir(f"/proc/{server}/fd")) <= fds, what="the close of all fds")
    assert not [g for top in daemon.parents() for g in top.rglob("exec-*")]
    daemon.assert_as_before(before)


# --- Nomad's frames -------------------------------------------------------------------------------------------------

async def nomad(daemon, task, command, *send, protocol=None, **query):
    replies = {"stdout": b"", "stderr": b""}
    async with dial(daemon, url(task, **query, command=json.dumps(command)), protocol) as ws:
        for message in send:
            await ws.send(json.dumps(message))
        try:
            while True:
                message = json.loads(await ws.recv())
                for name in ("stdout", "stderr"):
                    replies[name] += base64.b64decode(message.get(name, {}).get("data", ""))
                replies["last"] = message
        except websockets.ConnectionClosed as closed:
            replies["code"] = closed.code
    return replies


@sync
async def test_nomads_frames(daemon, task):
    data = os.urandom(1_000_000)
    chunks = [{"stdin": {"data": base64.b64encode(data[i:i + 2048]).decode()}} for i in range(0, len(data), 2048)]
    for protocol in (None, NOMAD):
        r = await nomad(daemon, task, ["/usr/bin/sha256sum"], {}, *chunks, {"stdin": {"close": True}}, {},
                        protocol=protocol)
        assert r["stdout"].split()[0].decode() == hashlib.sha256(data).hexdigest()
        assert r["last"]["exited"] and r["last"]["result"]["exit_code"] == 0 and r["code"] == 1000


@sync
async def test_nomads_terminal_and_codes(daemon, task):
    script = ["/bin/sh", "-c", "sleep 0.3; stty size; exit 42"]
    r = await nomad(daemon, task, script, {"tty_size": {"height": 40, "width": 120}}, tty="true")
    assert r["stdout"] == b"40 120\r\n" and r["last"]["result"]["exit_code"] == 42
    r = await nomad(daemon, task, ["/bin/sh", "-c", "echo e >&2; kill -9 $$"])
    assert r["stderr"] == b"e\n" and r["last"]["result"]["exit_code"] == 137


# --- who may, and what is refused ---------------------------------------------------------------------------------------

async def refused(daemon, address, protocol=CLOISTER, **more):
    """The handshake's answer as HTTP."""
    with pytest.raises(websockets.InvalidStatusCode) as failure:
        await dial(daemon, address, protocol, **more)
    return failure.value.status_code


@sync
async def test_errors_come_before_the_upgrade(daemon, task):
    ended = daemon.run("/bin/true")
    assert await refused(daemon, url(task, "/no/such")) == 422
    assert await refused(daemon, url(task, "/bin/true", user="root")) == 403
    assert await refused(daemon, url(task, "/bin/true", work_dir="/no/such")) == 422
    assert await refused(daemon, url(task)) == 422
    assert await refused(daemon, url(task, "/bin/true", rows=5)) == 422
    assert await refused(daemon, url(task, "/bin/true", tty="perhaps")) == 400
    assert await refused(daemon, url(task, "/bin/true", bogus=1)) == 400
    assert await refused(daemon, url(ended, "/bin/true")) == 409
    assert await refused(daemon, url({"id": "none"}, "/bin/true")) == 404
    assert await refused(daemon, url(task, path=f"execs/{task['id']}/attach")) == 404
    assert await refused(daemon, url(task, "/bin/true"), "chat.v1") == 400


def test_a_plain_request_is_told_to_upgrade(daemon, task):
    path = f"/v1/tasks/{task['id']}/exec?command=/bin/true"
    reply = daemon.get(path)
    assert reply.status == 426 and reply.headers["Upgrade"] == "websocket" and reply.json["code"] == "upgrade_required"
    ask = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
           "Sec-WebSocket-Version": "13"}
    assert daemon.get(path, headers={**ask, "Sec-WebSocket-Version": "8"}).status == 426
    assert daemon.get(path, headers={**ask, "Sec-WebSocket-Key": "short"}).status == 400
    assert daemon.request("HEAD", path, headers=ask).status == 426


@sync
async def test_pages_of_other_origins_are_refused(daemon, task):
    assert await refused(daemon, url(task, "/bin/true"), origin="http://evil.example") == 403
    with pytest.raises(websockets.InvalidStatusCode) as failure:
        await connect(url(task, "/bin/true", host=f"127.0.0.1:{daemon.port}"), origin="http://evil.example")
    assert failure.value.status_code == 403


@sync
async def test_over_tcp_with_a_token(daemon, task):
    address = url(task, "/bin/cat", host=f"127.0.0.1:{daemon.port}")
    with pytest.raises(websockets.InvalidStatusCode) as failure:
        await connect(address)
    assert failure.value.status_code == 401
    token = subprocess.run([daemon.binary, "token", "create", "--role", "operator", "--name", "ws", "--tokens-file",
                            daemon.dir / "tokens"], capture_output=True, text=True, check=True).stdout.strip()
    async with connect(address, extra_headers={"Authorization": f"Bearer {token}"}, subprotocols=[CLOISTER]) as ws:
        await ws.recv()
        loop = asyncio.get_running_loop()
        start = loop.time()
        for i in range(100):
            await ws.send(b"\x00x\n")
            assert await ws.recv() == b"\x01x\n"
        assert loop.time() - start < 3  # 4 s would be Nagle's algorithm waiting for delayed acknowledgements
        await ws.send(control(stdin="close"))
        assert (await listen(ws)).exit["code"] == 0


@sync
async def test_malformed_messages_close_with_a_code(daemon, task):
    for message, code in ((b"\x07x", 1007), (b"", 1007), ("text", 1003), (b"\x03{", 1007), (control(what=1), 1007),
                          (control(signal="NONE"), 1007), (control(resize={"rows": 0, "cols": 1}), 1007),
                          (b"\x00" + bytes(5 << 20), 1009)):
        async with dial(daemon, url(task, "/bin/sleep", "0.5")) as ws:
            with contextlib.suppress(websockets.ConnectionClosed):  # the large one is refused while it is sent
                await ws.send(message)
            assert (await listen(ws)).code == code, message[:40]


@sync
async def test_fragments_and_pings(daemon, task):
    async with dial(daemon, url(task, "/bin/cat")) as ws:
        await ws.send([b"\x00a", b"b", b"c\n"])
        await (await ws.ping(b"there?"))
        await listen(ws, b"abc\n")


def handshake(daemon, task, frames):
    """A client by hand; the frames come with the request, in one piece."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(daemon.socket)
    target = f"/v1/tasks/{task['id']}/exec?command=/bin/cat"
    s.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
              f"Sec-WebSocket-Protocol: {CLOISTER}\r\n\r\n".encode() + frames)
    return s


def receive(s):
    data = b""
    while chunk := s.recv(65536):
        data += chunk
    return data


def test_frames_sent_with_the_request_count(daemon, task):
    masked = b"\0\0\0\0"
    data = receive(handshake(daemon, task, b"\x82\x84" + masked + b"\x00hi\n" + b"\x82\x92" + masked +
                             control(stdin="close").replace(b" ", b"")))
    assert data.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in data  # the example of RFC 6455, 1.3
    assert b"\x82\x04\x01hi\n" in data and b'{"exit":{"code":0' in data and data.endswith(b"\x88\x02\x03\xe8")


def test_a_flood_of_pings_is_read_as_its_answers_are(own_daemon):
    """They are queued for the client, and must not pile up; others are served meanwhile."""
    pings, masked = 400000, b"\0\0\0\0"
    s = handshake(own_daemon, own_daemon.start_task("/bin/sleep", "1000"), b"")
    sender = threading.Thread(target=s.sendall, args=((b"\x89\xfd" + masked + bytes(125)) * pings + b"\x82\x84" + masked +
                                                      b"\x00hi\n",))
    sender.start()
    time.sleep(1)
    assert own_daemon.get("/healthz", timeout=5).status == 200
    own_daemon.assert_server_is_small()
    data = bytearray()
    while not data.endswith(b"\x82\x04\x01hi\n"):
        data += s.recv(1 << 20)
    sender.join()
    assert data.count(b"\x8a\x7d" + bytes(125)) == pings
    own_daemon.assert_server_is_small()
    s.close()


def test_unmasked_frames_are_a_protocol_error(daemon, task):
    data = receive(handshake(daemon, task, b"\x82\x04\x00hi\n"))
    assert data.endswith(b"\x88\x02\x03\xea") and b"\x01hi" not in data  # 1002
