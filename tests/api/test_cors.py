"""Web pages of other origins: what the Fetch standard's CORS protocol has a server say, and a token in a WebSocket's
subprotocols. The same in a real browser: test_browser.py."""
import asyncio
import base64
import http.client
import json
import re
import subprocess
import sys

import pytest

sys.path.append("/usr/lib/python3/dist-packages")  # where Debian has it, also when python3 is another one
import websockets
from websockets.legacy.client import connect

from conftest import BINARY, ROOT, Daemon, Reply, wait_until
from test_openapi import CONTRACT, OPERATIONS, concrete, parameters

PAGE, OTHER = "https://dash.example", "http://localhost:3000"
CLOISTER = "cloister.exec.v1"
# What any page may send or read; what a browser adds itself; and what belongs to other protocols.
SAFE_REQUEST = {"Content-Length", "Host", "Origin", "Upgrade", "Connection", "Expect", "Transfer-Encoding"}
SAFE_REPLY = {"Last-Modified", "Vary", "Upgrade", "X-Accel-Buffering"}


@pytest.fixture(scope="module")
def cors():
    d = Daemon(BINARY, f"--allowed-origins={PAGE},{OTHER}", "--log-level", "debug")
    yield d
    d.stop()


@pytest.fixture(scope="module")
def token(cors):
    return create(cors, "operator")


def create(d, role):
    return subprocess.run([BINARY, "token", "create", "--role", role, "--name", f"cors-{role}", "--tokens-file",
                           d.dir / "tokens"], check=True, capture_output=True, text=True).stdout.strip()


def call(d, method, path, origin=PAGE, token=None, body=None, **headers):
    """Over TCP, as a browser would; headers with _ for -."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers |= {"Origin": origin} if origin else {}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    if isinstance(body, dict):
        body, headers["Content-Type"] = json.dumps(body), "application/json"
    connection = http.client.HTTPConnection("127.0.0.1", d.port, timeout=20)
    try:
        connection.request(method, path, body, headers)
    except BrokenPipeError:
        pass  # refused before the body was read: the answer is there already
    reply = Reply(connection.getresponse())
    connection.close()
    return reply


def preflight(d, path, method="GET", headers="authorization", **more):
    return call(d, "OPTIONS", path, Access_Control_Request_Method=method, Access_Control_Request_Headers=headers, **more)


def words(reply, name):
    return set(reply.headers[name].split(", "))


def allowed(reply, origin=PAGE):
    assert reply.headers.get_all("Access-Control-Allow-Origin") == [origin], reply.headers
    assert reply.headers.get_all("Vary") == ["Origin"]
    assert "Access-Control-Allow-Credentials" not in reply.headers
    return reply


def refused(reply):
    assert not [h for h in reply.headers if h.lower().startswith("access-control")], reply.headers
    return reply


# --- preflights -------------------------------------------------------------------------------------------------------

def test_preflights_need_no_token_and_allow_what_the_contract_has(cors):
    for method, path in OPERATIONS:
        reply = allowed(preflight(cors, concrete(path), method.upper()))
        assert reply.status == 204 and reply.body == b""
        assert method.upper() in words(reply, "Access-Control-Allow-Methods")
        names = {p["name"] for p in parameters(method, path) if p["in"] == "header"}
        assert names | {"Authorization", "Content-Type"} <= words(reply, "Access-Control-Allow-Headers")
        assert int(reply.headers["Access-Control-Max-Age"]) > 0
    allowed(preflight(cors, "/healthz", origin=OTHER), OTHER)


def test_every_header_that_the_program_reads_or_sends_is_named(cors):
    source = "".join(p.read_text() for folder in ("api", "server") for p in (ROOT / folder).glob("*.c"))
    read = set(re.findall(r'request_header\([\w>-]+, "([\w-]+)"', source))
    sent = set(re.findall(r'reply_header\([\w>-]+, "([\w-]+)"', source))
    assert "Idempotency-Key" in read and "Cloister-Event-Seq" in sent
    read = {h for h in read - SAFE_REQUEST if not h.startswith(("Sec-", "Access-Control-"))}
    sent = {h for h in sent - SAFE_REPLY if not h.startswith(("Sec-", "Access-Control-"))}
    assert read == words(preflight(cors, "/v1/tasks"), "Access-Control-Allow-Headers")
    assert sent == words(call(cors, "GET", "/healthz"), "Access-Control-Expose-Headers")


def test_a_preflight_of_what_is_not_there_lets_the_page_read_so(cors, token):
    assert allowed(preflight(cors, "/nothing")).status == 204
    assert allowed(call(cors, "GET", "/nothing", token=token)).json["code"] == "not_found"
    assert allowed(preflight(cors, "/healthz", "DELETE")).status == 204
    assert allowed(call(cors, "DELETE", "/healthz", token=token)).json["code"] == "method_not_allowed"


def test_other_origins_get_nothing(cors, token):
    for origin in ("https://evil.example", "null", "https://dash.example.evil.example", "http://dash.example",
                   "https://dash.example:8443", "https://dash.example/"):
        assert refused(preflight(cors, "/v1/tasks", origin=origin)).json["code"] == "origin_denied", origin
        reply = refused(call(cors, "GET", "/v1/tasks", origin=origin, token=token))
        assert reply.status == 403 and reply.json["code"] == "origin_denied" and reply.headers["Vary"] == "Origin"


def test_no_preflight(cors):
    """OPTIONS without an Origin, or without the method that is meant, tells the methods of the path."""
    for reply in (call(cors, "OPTIONS", "/healthz", origin=None, Access_Control_Request_Method="GET"),
                  call(cors, "OPTIONS", "/healthz")):
        assert reply.status == 204 and words(reply, "Allow") == {"GET", "HEAD", "OPTIONS"}
        assert "Access-Control-Allow-Methods" not in reply.headers
    assert preflight(cors, "/healthz", Host="evil.example").json["code"] == "host_denied"


# --- replies ----------------------------------------------------------------------------------------------------------

def test_replies_and_problems_can_be_read(cors, token):
    monitor = create(cors, "monitor")
    made = allowed(call(cors, "POST", "/v1/tasks?wait=exited", token=token,
                        body={"command": "/bin/sh", "args": ["-c", "echo hello | tee /local/f"]}))
    assert made.status == 201 and {"Location", "Cloister-Event-Seq"} <= words(made, "Access-Control-Expose-Headers")
    task = made.headers["Location"]
    etag = allowed(call(cors, "GET", task, token=token)).headers["ETag"]
    for status, code, reply in (
            (304, None, call(cors, "GET", task, token=token, If_None_Match=etag)),
            (206, None, call(cors, "GET", f"{task}/files/local/f", token=token, Range="bytes=0-1")),
            (206, None, call(cors, "GET", f"{task}/logs?stream=stdout", token=token, Range="bytes=0-1")),
            (200, None, call(cors, "HEAD", task, token=token)),
            (400, "unknown_parameter", call(cors, "GET", f"{task}?x=1", token=token)),
            (400, "bad_path", call(cors, "GET", "/v1/../x", token=token)),
            (417, "expectation_failed", call(cors, "POST", "/v1/tasks", token=token, body={}, Expect="x")),
            (401, "unauthorized", call(cors, "GET", task)),
            (401, "unauthorized", call(cors, "GET", task, token="wrong")),
            (403, "forbidden", call(cors, "GET", task, token=monitor)),
            (404, "task_not_found", call(cors, "GET", "/v1/tasks/none", token=token)),
            (409, "task_ended", call(cors, "POST", f"{task}/signal", token=token, body={"signal": "SIGHUP"})),
            (412, "precondition_failed", call(cors, "PATCH", task, token=token, body={}, If_Match='"0"')),
            (413, "body_too_large", call(cors, "POST", "/v1/tasks", token=token, body="x" * (2 << 20))),
            (415, "unsupported_media_type", call(cors, "POST", "/v1/tasks", token=token, body="x", Content_Type="text/plain")),
            (416, "range_not_satisfiable", call(cors, "GET", f"{task}/files/local/f", token=token, Range="bytes=9-")),
            (422, "invalid_field", call(cors, "POST", "/v1/tasks", token=token, body={"command": 5})),
            (426, "upgrade_required", call(cors, "GET", f"{task}/exec?command=x", token=token))):
        allowed(reply)
        assert reply.status == status, (status, reply.body)
        if code:
            assert reply.json["code"] == code, reply.body
            assert reply.headers["Content-Type"] == "application/problem+json"
    assert call(cors, "GET", task).headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/v1/events?follow=true", "/v1/events?format=sse", "{task}/logs?follow=true",
                                  "{task}/logs?format=sse", "{task}/stats?format=sse", "{task}/events?format=sse"])
def test_streams_can_be_read(cors, token, path):
    task = cors.start_task("/bin/sh", "-c", "echo hello; exec sleep 100")
    connection = http.client.HTTPConnection("127.0.0.1", cors.port, timeout=20)
    connection.request("GET", path.format(task=f"/v1/tasks/{task['id']}"),
                       headers={"Origin": PAGE, "Authorization": f"Bearer {token}"})
    reply = connection.getresponse()
    assert reply.status == 200 and reply.headers["Access-Control-Allow-Origin"] == PAGE and reply.readline()
    connection.close()
    cors.post(f"/v1/tasks/{task['id']}/signal", {"signal": "SIGKILL"})


def test_callers_without_an_origin(cors, daemon):
    """A cache may not give their replies to pages; without the option nothing is said at all."""
    reply = refused(call(cors, "GET", "/healthz", origin=None))
    assert reply.status == 200 and reply.headers["Vary"] == "Origin"
    assert "Vary" not in refused(call(daemon, "GET", "/healthz", origin=None)).headers
    assert refused(preflight(daemon, "/healthz")).status == 403


@pytest.mark.parametrize("origin", ["*", "null", "dash.example", "https://", "https://dash.example/", "https://a b",
                                    "https://dash.example?x", "://dash", "https://:1"])
def test_what_is_no_origin_is_refused_at_the_start(origin):
    run = subprocess.run([BINARY, "--check-config", f"--allowed-origins={origin}"], check=False, capture_output=True,
                         text=True, timeout=20)
    assert run.returncode != 0 and "allowed_origins" in run.stderr, run.stderr


# --- a token beside a WebSocket's subprotocol -------------------------------------------------------------------------

@pytest.fixture(scope="module")
def shell(cors):
    task = cors.start_task("/bin/sleep", "1000")
    yield task
    cors.request("DELETE", f"/v1/tasks/{task['id']}?force=true")


def bearer(text):
    return "cloister.bearer." + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def echo(d, task, protocols, **more):
    """The subprotocol that was chosen and what came; or the status of a refusal."""
    async def run():
        url = f"ws://127.0.0.1:{d.port}/v1/tasks/{task['id']}/exec?command=/bin/echo&arg=hi"
        try:
            async with connect(url, subprotocols=protocols, origin=PAGE, compression=None, **more) as ws:
                got = [m async for m in ws]
                return ws.subprotocol, ws.response_headers, got
        except websockets.InvalidStatusCode as refusal:
            return refusal.status_code
    return asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("order", [1, -1])
def test_a_token_in_a_subprotocol_opens_a_session(cors, token, shell, order):
    chosen, headers, got = echo(cors, shell, [CLOISTER, bearer(token)][::order])
    assert chosen == CLOISTER and b"\1hi\n" in got
    assert bearer(token) not in str(headers) and token not in str(headers)
    chosen, _, _ = echo(cors, shell, [bearer(token), "nomad.exec.v1"])
    assert chosen == "nomad.exec.v1"


def test_tokens_in_subprotocols_that_do_not_do(cors, token, shell):
    monitor = create(cors, "monitor")
    for protocols, status in (
            ([CLOISTER], 401), ([CLOISTER, bearer("wrong")], 401), ([CLOISTER, "cloister.bearer."], 401),
            ([CLOISTER, bearer(token) + "."], 401), ([CLOISTER, bearer(token + "\0")], 401),
            ([CLOISTER, "cloister.bearer." + token], 401), ([CLOISTER, bearer(token).upper()], 401),
            ([CLOISTER, bearer(monitor)], 403), ([bearer(token)], 400), ([bearer(token), "other"], 400),
            ([CLOISTER, bearer(token), bearer(token)], 400), ([CLOISTER, bearer(token), bearer(monitor)], 400)):
        assert echo(cors, shell, protocols) == status, protocols
    assert echo(cors, shell, [CLOISTER, bearer(token)], extra_headers={"Authorization": f"Bearer {token}"}) == 400
    assert echo(cors, shell, [CLOISTER], extra_headers={"Authorization": f"Bearer {token}"})[0] == CLOISTER


def test_a_subprotocol_is_no_token_of_another_request(cors, token):
    assert call(cors, "GET", "/v1/tasks", Sec_WebSocket_Protocol=bearer(token)).status == 401


def test_tokens_are_not_told_again(cors, token, shell):
    """Not in the problem of a refusal, and not in our log with all that it can say."""
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
                 "Sec_WebSocket_Key": base64.b64encode(b"k" * 16).decode()}
    reply = call(cors, "GET", f"/v1/tasks/{shell['id']}/exec?command=x", **handshake,
                 Sec_WebSocket_Protocol=f"{bearer(token)}, none")
    assert reply.status == 400 and reply.json["code"] == "unknown_subprotocol"
    assert bearer(token) not in str(reply.headers) + reply.body.decode()
    text = wait_until(lambda: (cors.dir / "log").read_text())
    assert token not in text and bearer(token)[20:] not in text
