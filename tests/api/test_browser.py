"""A browser's EventSource follows the events through a kill -9 of the server: Chromium, headless, without a driver.

The page comes from a small server of the test's own, as that of a dashboard would: it passes /v1/ on to the daemon's
socket, and takes what the page has seen."""
import http.server
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading

import pytest

from conftest import UnixConnection, wait_until

PAGE = b"""<!doctype html><script>
const source = new EventSource("/v1/events");
source.onmessage = m => fetch("/seen", {method: "POST", body: JSON.stringify({id: m.lastEventId, data: m.data})});
</script>"""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # the end of a reply is the end of its connection

    def do_GET(self):
        if self.path == "/":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE)
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

    def __init__(self, socket_path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.socket_path, self.seen, self.requests = socket_path, [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()


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


def test_eventsource_goes_on_after_kill_9(own_daemon, browser):
    page = Server(own_daemon.socket)
    own_daemon.run("/bin/true")
    browser(f"http://127.0.0.1:{page.server_address[1]}/")
    wait_until(lambda: len(page.seen) >= 5, 60, "the browser's first events")
    for _ in range(2):
        own_daemon.start_task("/bin/sleep", "0.3")
        server = own_daemon.server_pid()
        os.kill(server, signal.SIGKILL)
        wait_until(lambda server=server: own_daemon.ready() and own_daemon.server_pid() != server)
        own_daemon.run("/bin/true")
        log = own_daemon.get("/v1/events?limit=1000").json["items"]
        wait_until(lambda log=log: len(page.seen) >= len(log), 60, "the browser's last event")
    assert page.requests[0] is None and len([r for r in page.requests if r]) >= 2
    log = own_daemon.get("/v1/events?limit=1000").json["items"]
    wait_until(lambda: len(page.seen) >= len(log), 60, "the browser's last event")
    # fetch() may change the order in which the page tells us, so it is sorted; nothing may be missing or double
    assert sorted(int(s["id"]) for s in page.seen) == [e["seq"] for e in log]
    assert sorted((json.loads(s["data"]) for s in page.seen), key=lambda e: e["seq"]) == log
    page.shutdown()
    page.server_close()
