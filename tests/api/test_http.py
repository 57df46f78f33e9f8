"""The HTTP edge: framing, paths, methods, who may call, deadlines."""
import http.client
import json
import pathlib
import socket
import subprocess
import time

import pytest

from conftest import BINARY, Daemon, Reply, UnixConnection, wait_until


def raw(daemon, data, seconds=15):
    """Sends bytes over TCP and returns all that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=seconds) as s:
        s.sendall(data)
        out = b""
        while chunk := s.recv(65536):
            out += chunk
            if b"Connection: close" not in out and out.count(b"HTTP/1.") == 1 and b"\r\n\r\n" in out:
                head, rest = out.split(b"\r\n\r\n", 1)
                length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                if length and len(rest) >= int(length[0].split(b":")[1]):
                    break
        return out


def tcp(daemon, method, path, headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)
    connection.request(method, path, body, headers or {})
    return Reply(connection.getresponse())


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
FRAMES = {
    "length and encoding": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 50\r\n\r\n",
    "two equal lengths": b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "list of lengths": b"Content-Length: 0, 0\r\n\r\n",
    "signed length": b"Content-Length: +0\r\n\r\n",
    "unknown encoding": b"Transfer-Encoding: xchunked\r\n\r\n",
    "blank before colon": b"Content-Length : 44\r\n\r\n",
    "tab before colon": b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "folded length": b"Content-Length:\r\n 44\r\n\r\n",
    "folded encoding": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "encoding list": b"Transfer-Encoding: gzip, chunked\r\n\r\n",
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_smuggling_shapes_are_refused_and_closed(daemon, frame):
    out = raw(daemon, b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\n" + frame + SMUGGLED)
    assert out.startswith(b"HTTP/1.1 400 ") and out.count(b"HTTP/1.1 ") <= 2 and b"cloister_build_info" not in out


@pytest.mark.parametrize("line,status", [
    (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil", 400), (b"GET http://x/healthz HTTP/1.1\r\nHost: localhost", 403),
    (b"GET HTTP://localhost:99/healthz HTTP/1.1\r\nHost: evil.example", 200),
    (b"GET https://127.0.0.1 HTTP/1.1\r\nHost: localhost", 200), (b"GET http:///healthz HTTP/1.1\r\nHost: localhost", 400),
    (b"GET http://a@localhost/healthz HTTP/1.1\r\nHost: localhost", 403),
    (b"GET http://localhost/healthz HTTP/1.1", 400), (b"GET ftp://localhost/healthz HTTP/1.1\r\nHost: localhost", 400),
    (b"GET /healthz HTTP/1.1\r\nHost: evil.example", 403), (b"GET /healthz HTTP/1.1\r\nHost: localhost:99", 200),
    (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example", 403),
    (b"GET /v1/%2e%2e/healthz HTTP/1.1\r\nHost: localhost", 400), (b"GET /v1/a%2fb HTTP/1.1\r\nHost: localhost", 400),
    (b"GET /healthz%00 HTTP/1.1\r\nHost: localhost", 400), (b"GET //healthz HTTP/1.1\r\nHost: localhost", 400),
    (b"GET /v1/attributes/%zz HTTP/1.1\r\nHost: localhost", 400), (b"GET /nothing HTTP/1.1\r\nHost: localhost", 404),
    (b"BREW /healthz HTTP/1.1\r\nHost: localhost", 405), (b"TRACE /healthz HTTP/1.1\r\nHost: localhost", 405),
])
def test_request_lines(daemon, line, status):
    assert raw(daemon, line + b"\r\n\r\n").startswith(b"HTTP/1.1 %d " % status)


def test_a_request_without_host_is_refused_once_as_a_problem(daemon):
    # libmicrohttpd's own check answers with the head of a reply twice: no client can read that.
    for line in (b"GET /healthz HTTP/1.1\r\n\r\n", b"GET /heal thz HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        out = raw(daemon, line)
        assert out.startswith(b"HTTP/1.1 400 ") and out.count(b"HTTP/1.1 4") == 1, out
        assert b"application/problem+json" in out and json.loads(out.partition(b"\r\n\r\n")[2])["code"] == "bad_request"
    assert raw(daemon, b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_head_and_options(daemon):
    head = daemon.request("HEAD", "/healthz")
    assert head.status == 200 and head.body == b"" and head.headers["Content-Length"] == "3"
    options = daemon.request("OPTIONS", "/v1/tasks")
    assert options.status == 204 and {"GET", "HEAD", "POST"} <= set(options.headers["Allow"].split(", "))
    refused = daemon.request("PUT", "/v1/tasks")
    assert refused.status == 405 and "POST" in refused.headers["Allow"]


def test_tcp_without_a_token_is_a_monitor(daemon):
    for path in ("/v1/attributes", "/v1/driver", "/metrics", "/healthz", "/readyz", "/openapi.yaml"):
        assert tcp(daemon, "GET", path).status == 200
    for method, path in (("GET", "/v1/tasks"), ("POST", "/v1/tasks"), ("GET", "/v1/config"), ("DELETE", "/v1/tasks/x")):
        reply = tcp(daemon, method, path)
        assert reply.status == 401 and reply.headers["WWW-Authenticate"] == "Bearer"


def test_tokens(daemon):
    def create(role):
        return subprocess.run([BINARY, "token", "create", "--role", role, "--name", f"t-{role}", "--tokens-file",
                               daemon.dir / "tokens"], check=True, capture_output=True, text=True).stdout.strip()
    operator, monitor = create("operator"), create("monitor")
    assert operator not in pathlib.Path(daemon.dir, "tokens").read_text()

    def get(token, path):
        return tcp(daemon, "GET", path, {"Authorization": f"Bearer {token}"}).status
    assert get(operator, "/v1/tasks") == 200 and get(operator, "/v1/config") == 403
    assert get(monitor, "/v1/tasks") == 403 and get(monitor, "/metrics") == 200
    assert get("wrong", "/metrics") == 401 and get(operator[:-1], "/v1/tasks") == 401
    assert subprocess.run([BINARY, "token", "create", "--role", "king", "--name", "x", "--tokens-file",
                           daemon.dir / "tokens"], check=False, capture_output=True).returncode == 1


def test_bodies_over_tcp_must_be_json(daemon):
    token = subprocess.run([BINARY, "token", "create", "--role", "operator", "--name", "j", "--tokens-file",
                            daemon.dir / "tokens"], check=True, capture_output=True, text=True).stdout.strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/plain"}
    assert tcp(daemon, "POST", "/v1/tasks", headers, '{"command":"/bin/true"}').status == 415


def test_strangers_on_the_socket_are_refused(daemon):
    script = ("import socket; s = socket.socket(socket.AF_UNIX); s.connect(%r);"
              "s.sendall(b'GET /v1/tasks HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'); print(s.recv(100))" % daemon.socket)
    run = subprocess.run(["/usr/bin/python3", "-c", script], user=65534, group=65534, extra_groups=[], check=False,
                         capture_output=True, text=True)
    assert "PermissionError" in run.stderr or "403" in run.stdout


def test_a_client_that_trickles_is_cut_off(daemon):
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as s:
        start = time.monotonic()
        s.sendall(b"GET /healthz HTTP/1.1\r\n")
        with pytest.raises(OSError):
            while time.monotonic() - start < 25:
                s.sendall(b"X")
                time.sleep(0.5)
        assert time.monotonic() - start < 20


def test_a_client_that_leaves_is_forgotten(daemon):
    def open_connections():
        lines = daemon.get("/metrics").body.decode().splitlines()
        return int(next(line for line in lines if line.startswith("cloister_http_connections ")).split()[1])
    wait_until(lambda: open_connections() == 1)  # the one that asks: those of earlier tests are noticed by and by
    task = daemon.start_task("/bin/sleep", "60")
    connection = UnixConnection(daemon.socket)
    connection.request("GET", f"/v1/tasks/{task['id']}?index={task['version']}&wait=60s")
    wait_until(lambda: open_connections() == 2)
    connection.close()
    wait_until(lambda: open_connections() == 1)
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


@pytest.mark.parametrize("cut_off", [False, True], ids=["they leave", "slow: they are cut off"])
def test_a_full_house_of_silent_clients_shuts_nobody_out_for_good(cut_off):
    d = Daemon(BINARY, "--max-connections", "8")
    try:
        crowd = [socket.create_connection(("127.0.0.1", d.port), timeout=30) for _ in range(8)]
        time.sleep(0.5)
        for s in crowd:
            if cut_off:
                assert s.recv(1) == b""
            s.close()
        assert raw(d, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 5).startswith(b"HTTP/1.1 200 ")
    finally:
        d.stop()


def test_attributes(daemon):
    everything = daemon.get("/v1/attributes").json
    assert everything["attributes"]["driver.exec"] == "1" and everything["driver"]["healthy"] is True
    assert daemon.get("/v1/attributes/driver.exec").body == b"1\n"
    assert daemon.get("/v1/attributes/no.such").status == 404
    assert everything["attributes"]["kernel.name"] == "linux"
    assert int(everything["attributes"]["cpu.numcores"]) >= 1


def test_keep_alive_serves_many(daemon):
    connection = UnixConnection(daemon.socket)
    for _ in range(50):
        connection.request("GET", "/healthz")
        assert Reply(connection.getresponse()).body == b"ok\n"
    connection.close()
