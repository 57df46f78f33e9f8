"""Streams and sessions in a real browser: Chromium, headless, without a driver.

The pages come from a small server of the test's own, as those of a dashboard would: it passes /v1/ on to the daemon's
socket, and takes what a page tells."""
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading

import pytest

from conftest import BINARY, ROOT, Daemon, UnixConnection, wait_until
from test_logs import assemble

# tell(): one after the other, so that the order is the page's.
HEAD = """<!doctype html><script>
let told = Promise.resolve();
const tell = (what) => told = told.then(() => fetch("/seen", {method: "POST", body: JSON.stringify(what)}));
"""
EVENTS_PAGE = HEAD + """
const source = new EventSource("/v1/events");
source.onmessage = m => tell({id: m.lastEventId, data: m.data});
</script>"""
LOGS_PAGE = HEAD + """
const log = new EventSource("/v1/tasks/%s/logs?format=sse&cursor=o0,e0");
log.onmessage = m => tell({id: m.lastEventId, data: m.data});
log.addEventListener("end", m => { log.close(); tell({id: m.lastEventId, data: m.data}); });
</script>"""
# A dashboard that talks to the daemon itself.
DASHBOARD = HEAD + """
const api = "http://127.0.0.1:%(port)d", token = "%(token)s";
const base64url = (text) => btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
%(follow)s
async function call(method, path, token, body) {
    const headers = {...(token && {Authorization: `Bearer ${token}`}), ...(body && {"Content-Type": "application/json"})};
    try {
        const reply = await fetch(api + path, {method, headers, body: JSON.stringify(body)});
        return {status: reply.status, body: await reply.json(), etag: reply.headers.get("ETag")};
    } catch (e) {
        return {failed: e.name};
    }
}
function exec(task, ...offered) {
    const socket = new WebSocket(`${api.replace("http", "ws")}/v1/tasks/${task}/exec?command=/bin/cat`, offered);
    const text = new TextDecoder(), heard = {out: "", control: []};
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
        socket.send(new TextEncoder().encode("\\0from a page"));
        socket.send(new TextEncoder().encode('\\3{"stdin":"close"}'));
    };
    socket.onmessage = m => {
        const frame = text.decode(m.data);
        frame[0] == "\\3" ? heard.control.push(JSON.parse(frame.slice(1))) : heard.out += frame.slice(1);
    };
    return new Promise(done => socket.onclose = m => done({protocol: socket.protocol, code: m.code, ...heard}));
}
(async () => {
    tell(await call("GET", "/v1/tasks"));
    tell(await call("GET", "/v1/tasks/none", token));
    tell(await call("PATCH", "/v1/tasks/%(task)s", token, {labels: {seen: "by a page"}}));
    tell(await exec("%(task)s", "cloister.exec.v1", "cloister.bearer." + base64url(token)));
    tell(await exec("%(task)s", "cloister.exec.v1", "cloister.bearer." + base64url("wrong")));
    await follow(api + "/v1/tasks/%(task)s/logs", token, tell);
})();
</script>"""
WRITER = "i=0; until [ -e /local/end ]; do i=$((i+1)); echo out $i; echo err $i >&2; sleep 0.02; done"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # the end of a reply is the end of its connection

    def do_GET(self):
        if self.path == "/":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(self.server.page.encode())
        elif self.path.startswith("/v1/"):
            self.pass_on()
        else:
            self.send_error(404)

    def pass_on(self):
        headers = {k: v for k, v in self.headers.items() if k in ("Accept", "Last-Event-ID")}
        self.server.requests.append(headers.get("Last-Event-ID"))
        try:
            connection = UnixConnection(self.server.socket_path)
            connection.request("GET", self.path, headers=headers)
            reply = connection.getresponse()
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.headers["Content-Type"])
            self.end_headers()
            while data := reply.read1(65536):
                self.wfile.write(data)
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # a browser tries again after a network error

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, page="", socket_path=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.page, self.socket_path, self.seen, self.requests = page, socket_path, [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def origin(self, host="127.0.0.1"):
        return f"http://{host}:{self.server_address[1]}"

    def await_seen(self, count, seconds=60):
        wait_until(lambda: len(self.seen) >= count, seconds, f"what the page tells ({count})")

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


@pytest.fixture
def browser():
    program = shutil.which("chromium")
    if not program:
        pytest.skip("chromium is not installed")
    profile = tempfile.mkdtemp(prefix="cloister-browser-")
    started = []

    def visit(url):
        started.append(subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", f"--user-data-dir={profile}", "--remote-debugging-port=0", url],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True))
    yield visit
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    shutil.rmtree(profile, ignore_errors=True)


def kill_server(d):
    server = d.server_pid()
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: d.ready() and d.server_pid() != server, 20, "the next server")


def restart(d):
    d.process.terminate()
    assert d.process.wait(20) == 0
    d.start()


def test_eventsource_goes_on_after_kill_9(own_daemon, browser):
    with Server(EVENTS_PAGE, own_daemon.socket) as page:
        own_daemon.run("/bin/true")
        browser(page.origin())
        page.await_seen(5)
        for _ in range(2):
            own_daemon.start_task("/bin/sleep", "0.3")
            kill_server(own_daemon)
            own_daemon.run("/bin/true")
            page.await_seen(len(own_daemon.get("/v1/events?limit=1000").json["items"]))
        assert page.requests[0] is None and len([r for r in page.requests if r]) >= 2
        log = own_daemon.get("/v1/events?limit=1000").json["items"]
        page.await_seen(len(log))
        assert [int(s["id"]) for s in page.seen] == [e["seq"] for e in log]
        assert [json.loads(s["data"]) for s in page.seen] == log


def await_newest(page, d, task):
    """The page tells what was not written yet when this began: it has come back since the last cut."""
    size = len(d.get(f"/v1/tasks/{task['id']}/logs?stream=stdout").body)

    def position():
        told = page.seen[-1] if page.seen else {}
        return int(re.match(r"o(\d+),|", told.get("id") or told.get("next") or "")[1] or 0)
    wait_until(lambda: position() > size, 60, "what is written now")


def end_writer(d, task):
    """Its whole output."""
    assert d.request("PUT", f"/v1/tasks/{task['id']}/files/local/end", "").status == 201
    d.wait_ended(task["id"])
    return {s: d.get(f"/v1/tasks/{task['id']}/logs?stream={s}").body for s in ("stdout", "stderr")}


def test_eventsource_follows_a_log_through_kill_9_and_a_restart(own_daemon, browser):
    d = own_daemon
    task = d.start_task("/bin/sh", "-c", WRITER)
    with Server(LOGS_PAGE % task["id"], d.socket) as page:
        browser(page.origin())
        for cut in (kill_server, kill_server, restart):
            await_newest(page, d, task)
            cut(d)
        await_newest(page, d, task)
        whole = end_writer(d, task)
        wait_until(lambda: "end" in json.loads(page.seen[-1]["data"]), 60, "the end of the log")
        records = [json.loads(s["data"]) for s in page.seen]
        assert [s["id"] for s in page.seen] == [r["next"] for r in records]
        assert page.requests[0] is None and len([r for r in page.requests if r]) >= 3
        out, ended = assemble(records)
        assert ended and out == whole and whole["stdout"].startswith(b"out 1\n") and whole["stderr"].endswith(b"\n")


def reader_of_the_documentation():
    """The function follow() of docs/streams.md, as it stands there."""
    return re.search(r"^    async function follow.*?^    }$", (ROOT / "docs/streams.md").read_text(), re.M | re.S).group()


@pytest.fixture
def dashboard():
    """A daemon that admits the page, the page, and a task that writes."""
    with Server() as page:
        d = Daemon(BINARY, "--allowed-origins", page.origin())
        token = subprocess.run([BINARY, "token", "create", "--role", "operator", "--name", "page", "--tokens-file",
                                d.dir / "tokens"], check=True, capture_output=True, text=True).stdout.strip()
        task = d.start_task("/bin/sh", "-c", WRITER)
        page.page = DASHBOARD % {"port": d.port, "token": token, "task": task["id"],
                                 "follow": reader_of_the_documentation()}
        yield d, page, task
        d.stop()


def test_a_page_of_an_allowed_origin(dashboard, browser):
    d, page, task = dashboard
    browser(page.origin())
    page.await_seen(5)
    anonymous, missing, patched, session, denied = page.seen[:5]
    assert anonymous["status"] == 401 and anonymous["body"]["code"] == "unauthorized"
    assert missing["status"] == 404 and missing["body"]["code"] == "task_not_found"
    assert patched["status"] == 200 and patched["body"]["spec"]["labels"] == {"seen": "by a page"}
    assert patched["etag"]
    assert session["protocol"] == "cloister.exec.v1" and session["out"] == "from a page" and session["code"] == 1000
    assert session["control"][-1] == {"exit": {"code": 0, "signal": None}}
    assert denied["protocol"] == "" and denied["code"] == 1006 and not denied["control"]
    for cut in (kill_server, restart):
        await_newest(page, d, task)
        cut(d)
    await_newest(page, d, task)
    whole = end_writer(d, task)
    wait_until(lambda: "end" in page.seen[-1], 60, "the end of the log")
    out, ended = assemble(page.seen[5:])
    assert ended and out == whole and whole["stderr"].startswith(b"err 1\n")


def test_a_page_of_another_origin(dashboard, browser):
    d, page, task = dashboard
    browser(page.origin("localhost"))
    page.await_seen(5)
    assert page.seen[:3] == [{"failed": "TypeError"}] * 3 and d.task(task["id"])["spec"]["labels"] == {}
    assert [(s["code"], s["control"]) for s in page.seen[3:5]] == [(1006, [])] * 2
    assert d.get(f"/v1/tasks/{task['id']}/execs").json["items"] == [] and len(page.seen) == 5
    end_writer(d, task)
