"""A task's files over the API: read, listed, written, removed, as archives; and what must never be reached."""
import hashlib
import http.client
import io
import os
import tarfile
import threading
import time
import urllib.parse

import pytest

from conftest import BINARY, Daemon, UnixConnection, wait_until
from fault_sweep import traced

SECRET = "/etc/shadow"


@pytest.fixture(scope="module")
def task(daemon):
    """One task that waits; its user may write in its directories."""
    t = daemon.start_task("/bin/sleep", "1000")
    yield t
    assert daemon.request("DELETE", f"/v1/tasks/{t['id']}?force=true").status == 204


@pytest.fixture
def files(daemon, task):
    return Files(daemon, task["id"])


class Files:
    def __init__(self, daemon, task_id):
        self.daemon, self.base = daemon, f"/v1/tasks/{task_id}/files"
        self.host = daemon.dir / "state/tasks" / task_id

    def __call__(self, method, path, body=None, **headers):
        raw = {"Content-Type": "application/octet-stream"} if body is not None else {}
        return self.daemon.request(method, f"{self.base}/{path}", body, {**raw, **headers}, timeout=30)

    def get(self, path, **headers):
        return self("GET", path, **headers)

    def put(self, path, body=b""):
        return self("PUT", path, body)

    def stat(self, path):
        reply = self.get(f"{path}?stat=true")
        assert reply.status == 200, reply.body
        return reply.json


def refused(reply, status, code):
    assert (reply.status, reply.json["code"]) == (status, code), reply.body
    assert reply.headers["Content-Type"] == "application/problem+json"


# --- reading ----------------------------------------------------------------------------------------------------------

def test_a_file_is_written_read_and_removed(daemon, files, task):
    assert files.put("local/a.txt", b"hello\n").status == 201
    reply = files.get("local/a.txt")
    assert reply.status == 200 and reply.body == b"hello\n"
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Content-Disposition"] == "attachment; filename*=UTF-8''a.txt"
    assert reply.headers["Content-Length"] == "6" and reply.headers["Last-Modified"].endswith("GMT")
    head = files("HEAD", "local/a.txt")
    assert head.status == 200 and head.body == b""
    assert head.headers["ETag"].removeprefix("W/") == reply.headers["ETag"].removeprefix("W/")
    assert head.headers["Content-Length"] == "6"
    assert files.get("local/a.txt", **{"If-None-Match": reply.headers["ETag"]}).status == 304
    inside = daemon.post(f"/v1/tasks/{task['id']}/exec", {"command": "/bin/sh", "args": [
        "-c", "cat /local/a.txt; stat -c '%U %a' /local/a.txt"]}).json
    assert inside["output"]["stdout"] == "hello\nnobody 644\n"
    assert files.put("local/a.txt?mode=0600", b"again").status == 204
    assert files.get("local/a.txt").body == b"again" and files.stat("local/a.txt")["mode"] == "0600"
    assert files("DELETE", "local/a.txt").status == 204
    refused(files.get("local/a.txt"), 404, "file_not_found")
    refused(files("DELETE", "local/a.txt"), 404, "file_not_found")


@pytest.mark.parametrize("data,kind", [
    (b"", "text/plain; charset=utf-8"), ("ä€𝄞".encode(), "text/plain; charset=utf-8"),
    (b"\xff\xfe", "application/octet-stream"), (b"a\0b", "application/octet-stream"),
    (b"x" + "ä".encode() * 4000, "text/plain; charset=utf-8"), (b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
])
def test_types_are_plain_text_or_bytes(files, data, kind):
    assert files.put("tmp/t", data).status in (201, 204)
    reply = files.get("tmp/t")
    assert reply.body == data and reply.headers["Content-Type"] == kind


@pytest.mark.parametrize("value,status,part", [
    ("bytes=0-0", 206, (0, 0)), ("bytes=2-", 206, (2, 9)), ("bytes=-3", 206, (7, 9)), ("bytes=5-100", 206, (5, 9)),
    ("bytes=-100", 206, (0, 9)), ("bytes=9-9", 206, (9, 9)), ("bytes=10-", 416, None), ("bytes=-0", 416, None),
    (f"bytes={2 << 30}-", 416, None), ("bytes=999999999999999999-", 416, None),
    ("bytes=99999999999999999999-", 200, None), ("bytes=3-2", 200, None), ("bytes=0-1,4-5", 200, None), ("lines=1-2", 200, None),
])
def test_ranges(files, value, status, part):
    assert files.put("local/range", b"0123456789").status in (201, 204)
    reply = files.get("local/range", Range=value)
    assert reply.status == status
    if part:
        assert reply.body == b"0123456789"[part[0]:part[1] + 1]
        assert reply.headers["Content-Range"] == f"bytes {part[0]}-{part[1]}/10"
    elif status == 416:
        assert reply.headers["Content-Range"] == "bytes */10"
    else:
        assert reply.body == b"0123456789"


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match", "If-Unmodified-Since", "Content-Range"])
def test_what_would_be_a_condition_or_a_part_is_refused_not_ignored(files, name):
    assert files.put("local/kept", b"before").status in (201, 204)
    for method, body in (("PUT", b"after"), ("DELETE", None)):
        reply = files(method, "local/kept", body, **{name: "*"})
        refused(reply, 400, "unsupported_header")
        assert name in reply.json["detail"]
    assert files.get("local/kept").body == b"before"


def test_if_range(files):
    def part(tag):
        return files.get("local/if-range", **{"Range": "bytes=2-3", "If-Range": tag})
    for content in (b"0123456789", b"abcdefghij"):
        files.put("local/if-range", content)
        first = files.get("local/if-range").headers["ETag"]
        if first.startswith("W/"):  # it was read within a second
            assert part(first).status == 200
        tag = wait_until(lambda: (t := files.get("local/if-range").headers["ETag"])[0] == '"' and t, 10, "a strong ETag")
        assert tag == first.removeprefix("W/")
        reply = part(tag)
        assert reply.status == 206 and reply.body == content[2:4]
        date = files.get("local/if-range").headers["Last-Modified"]
        for other in ('"other"', f"W/{tag}", f"{tag}, {tag}", "*", "", date):
            assert part(other).status == 200 and part(other).body == content, other
    files.put("local/if-range", b"0123456789")
    assert part(tag).body == b"0123456789"


def test_a_range_beyond_2_gib_of_a_sparse_file(files):
    with open(files.host / "local/sparse", "wb") as f:
        f.seek(5 << 30)
        f.write(b"end")
    assert files("HEAD", "local/sparse").headers["Content-Length"] == str((5 << 30) + 3)
    reply = files.get("local/sparse", Range=f"bytes={(5 << 30) - 1}-")
    assert reply.status == 206 and reply.body == b"\0end"
    assert files("DELETE", "local/sparse").status == 204


def test_directories_are_listed_page_by_page(files):
    for i in range(25):
        assert files.put(f"local/many/deep/{i:02}?mkdirs=true", b"x" * i).status == 201
    os.symlink("/etc/passwd", files.host / "local/many/deep/link")
    os.mkfifo(files.host / "local/many/deep/fifo")
    seen, cursor = [], ""
    while True:
        page = files.get(f"local/many/deep?limit=10{cursor}").json
        assert len(page["items"]) <= 10
        seen += page["items"]
        if "next_cursor" not in page:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert [x["name"] for x in seen] == [f"{i:02}" for i in range(25)] + ["fifo", "link"]
    assert [x["size"] for x in seen[:25]] == list(range(25))
    assert seen[0]["type"] == "file" and seen[0]["mode"] == "0644" and seen[0]["mtime"].endswith("Z")
    assert seen[25]["type"] == "fifo" and seen[26]["type"] == "symlink" and seen[26]["target"] == "/etc/passwd"
    assert files.stat("local/many")["type"] == "directory"
    for bad in ("limit=0", "limit=1001", "cursor=zz", "cursor=6", "cursor=" + "61" * 256, "format=zip", "bogus=1"):
        assert files.get(f"local/many?{bad}").status == 400, bad
    refused(files("DELETE", "local/many"), 409, "directory_not_empty")
    assert files("DELETE", "local/many?recursive=true").status == 204
    refused(files.get("local/many"), 404, "file_not_found")


def test_the_top_has_the_tasks_own_directories_only(files, daemon):
    page = daemon.get(files.base).json
    assert [x["name"] for x in page["items"]] == ["alloc", "local", "tmp"]
    for top in ("local", "alloc", "tmp"):
        assert files.get(top).status == 200
        refused(files("DELETE", f"{top}?recursive=true"), 409, "is_directory")
        refused(files.put(top, b"x"), 409, "is_directory")
    for other in ("secrets", "logs", "root", "upper", "work", "record", "execs", "etc", "bin", "Local", "local2", "proc",
                  "upper/0", "logs/stdout.0", "secrets/x", "record/x"):
        for method, body in (("GET", None), ("PUT", b"x"), ("DELETE", None)):
            refused(files(method, other, body), 404, "file_not_found")
        refused(files.get(f"{other}?stat=true"), 404, "file_not_found")


def test_names_of_any_bytes(files):
    name = b"\xff\xfe \"';\r\n"
    with open(os.fsencode(files.host / "local") + b"/" + name, "wb") as f:
        f.write(b"odd")
    item = next(x for x in files.get("local?limit=1000").json["items"] if "name_escaped" in x)
    assert item["name_escaped"] == urllib.parse.quote(name, safe="")
    reply = files.get("local/" + item["name_escaped"])
    assert reply.status == 200 and reply.body == b"odd"
    assert reply.headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{item['name_escaped']}"
    assert files("DELETE", "local/" + item["name_escaped"]).status == 204


# --- what must not be reached -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", [
    "../record", "local/../../record", "local/%2e%2e/%2e%2e/record", "local/%2e%2e%2f%2e%2e%2frecord", "..%2frecord",
    "local/..%2f..%2frecord", "%2fetc/passwd", "/etc/passwd", "local//etc/passwd", "local/./x", "local/x%00", "local/%",
    "local/%c0%ae%c0%ae/record", "%2e%2e/record", "local/", "local/%2E./record", "local/..;/record",
    "local/" + "a" * 256, "local/" + "a/" * 200 + "a", "local/" + "a" * 5000,
])
def test_traversal_is_refused(files, path):
    for method, body in (("GET", None), ("PUT", b"x"), ("DELETE", None)):
        reply = files(method, path, body)
        assert 400 <= reply.status < 500, (method, reply.status)


@pytest.fixture
def links(files):
    top = files.host / "local/links"
    top.mkdir()
    (top / "real").write_text("inside")
    (top / "directory").mkdir()
    (top / "directory/file").write_text("below")
    for name, target in {"absolute": SECRET, "up": "../../record", "chain": "chain2", "chain2": "up", "self": "self",
                         "magic": "/proc/self/root" + SECRET, "parent": "../..", "root": "/", "good": "real",
                         "into": "directory", "proc": "/proc/self/fd/0", "other": "../../alloc"}.items():
        os.symlink(target, top / name)
    yield files
    assert files("DELETE", "local/links?recursive=true").status == 204


@pytest.mark.parametrize("name", ["absolute", "up", "chain", "self", "magic", "parent", "root", f"root{SECRET}", "parent/record",
                                  "proc", "other", "other/data"])
def test_links_do_not_lead_out(links, name):
    for method, body in (("GET", None), ("HEAD", None), ("PUT", b"x")):
        reply = links(method, f"local/links/{name}", body)
        assert reply.status in (403, 404, 409), (method, reply.status, reply.body)
    assert links.get(f"local/links/{name}?format=tar").status in (403, 409)
    if "/" in name:
        assert links("DELETE", f"local/links/{name}").status in (403, 409)


def test_links_within_are_followed_for_reading_alone(links):
    assert links.get("local/links/good").body == b"inside" and links.get("local/links/into/file").body == b"below"
    assert links.stat("local/links/good") | {"type": "symlink", "target": "real"} == links.stat("local/links/good")
    refused(links.put("local/links/good", b"x"), 409, "symbolic_link")
    refused(links.put("local/links/into/new", b"x"), 409, "symbolic_link")
    refused(links("DELETE", "local/links/into/file"), 409, "symbolic_link")
    assert links.get("local/links/real").body == b"inside"
    assert links("DELETE", "local/links/into?recursive=true").status == 204  # the link itself
    assert links.get("local/links/directory/file").body == b"below"


def test_nothing_blocks_and_no_device_is_opened(files):
    top = files.host / "tmp"
    os.mkfifo(top / "fifo")
    os.mknod(top / "null", 0o666 | 0o020000, os.makedev(1, 3))
    began = time.monotonic()
    for name in ("fifo", "null"):
        refused(files.get(f"tmp/{name}"), 409, "not_a_file")
        refused(files.put(f"tmp/{name}", b"x"), 409, "not_a_file")
        assert files.stat(f"tmp/{name}")["type"] in ("fifo", "device")
        assert files("DELETE", f"tmp/{name}").status == 204
    assert time.monotonic() - began < 5


def test_a_path_that_changes_all_the_time(daemon):
    """A task swaps a directory for a link to its secrets' place and to the host's root while it is read and written."""
    task = daemon.start_task("/bin/sh", "-c", """
        cd /local; mkdir d; echo mine > d/shadow; ln -s /etc l; mkdir spare
        while :; do mv d real; mv -T l d; mv -T d l; mv real d; done""")
    files = Files(daemon, task["id"])
    before = hashlib.sha256(open(SECRET, "rb").read()).digest()
    for _ in range(60):
        reply = files.get("local/d/shadow")
        assert reply.status in (200, 403, 404, 503) and (reply.status != 200 or reply.body == b"mine\n"), reply.body
        reply = files.put("local/d/new", b"x")
        assert reply.status in (201, 204, 403, 404, 409, 503), reply.body
        assert files("DELETE", "local/d/new").status in (204, 403, 404, 409, 503)
    assert hashlib.sha256(open(SECRET, "rb").read()).digest() == before and not os.path.exists("/etc/new")
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_modes_have_no_set_id_bits(files):
    for bad in ("4755", "1777", "7777", "888", "", "00644", "-1", "rwx"):
        assert files.put(f"local/m?mode={bad}", b"").status == 400, bad
    assert files.put("local/m?mode=777", b"").status == 201 and files.stat("local/m")["mode"] == "0777"
    assert files("DELETE", "local/m").status == 204


def test_only_operators_reach_files(daemon, files):
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    for method in ("GET", "PUT", "DELETE"):
        connection.request(method, f"{files.base}/local/x")
        reply = connection.getresponse()
        assert reply.status == 401 and reply.read()
        connection.close()


# --- large bodies -----------------------------------------------------------------------------------------------------

def chunks(size, piece=1 << 20):
    block = os.urandom(piece)
    for _ in range(size // piece):
        yield block


def test_a_body_beyond_max_body_is_streamed(daemon, files):
    data = list(chunks(64 << 20))
    digest = hashlib.sha256(b"".join(data)).hexdigest()
    server = daemon.server_pid()
    for headers in ({"Content-Length": str(64 << 20)}, {"Transfer-Encoding": "chunked"}):
        connection = UnixConnection(daemon.socket)
        connection.request("PUT", f"{files.base}/local/big", iter(data), headers,
                           encode_chunked="Transfer-Encoding" in headers)
        assert connection.getresponse().status in (201, 204)
        connection.close()
        assert hashlib.sha256(files.get("local/big").body).hexdigest() == digest
    daemon.assert_server_is_small(server)
    assert files("DELETE", "local/big").status == 204


def test_an_interrupted_write_leaves_nothing(daemon, files):
    assert files.put("local/keep", b"old").status == 201
    connection = UnixConnection(daemon.socket)
    connection.putrequest("PUT", f"{files.base}/local/keep")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders()
    connection.send(b"x" * 1000)
    wait_until(lambda: list((files.host / "local").glob(".upload-*")), 10, "the temporary file")
    assert files.get("local/keep").body == b"old"
    connection.close()
    wait_until(lambda: not list((files.host / "local").glob(".upload-*")), 10, "its end")
    assert files.get("local/keep").body == b"old" and files("DELETE", "local/keep").status == 204


def test_parents_are_made_only_when_asked_for(files):
    refused(files.put("local/no/such/file", b"x"), 404, "file_not_found")
    assert files.put("local/no/such/file?mkdirs=true", b"x").status == 201
    assert files.stat("local/no/such")["uid"] == files.stat("local/no/such/file")["uid"] == 65534
    refused(files.put("local/no/such", b"x"), 409, "is_directory")
    refused(files.put("local/no/such/file/below?mkdirs=true", b"x"), 404, "file_not_found")
    assert files("DELETE", "local/no?recursive=true").status == 204


# --- archives ---------------------------------------------------------------------------------------------------------

def test_an_archive_down_and_up_again(files):
    long_name = "n" * 120
    for path, data in {"t/a": b"1", "t/b/c": b"2" * 1000, f"t/b/{long_name}": b"3", "t/empty": b""}.items():
        assert files.put(f"local/{path}?mkdirs=true&mode=750", data).status == 201
    os.symlink("/etc/" + "x" * 150, files.host / "local/t/link")
    os.mkfifo(files.host / "local/t/fifo")
    reply = files.get("local/t?format=tar")
    assert reply.status == 200 and reply.headers["Content-Type"] == "application/x-tar"
    archive = tarfile.open(fileobj=io.BytesIO(reply.body))
    assert {m.name for m in archive} == {"a", "b", "b/c", f"b/{long_name}", "empty", "link"}
    assert archive.extractfile("b/c").read() == b"2" * 1000 and archive.getmember("a").mode == 0o750
    assert archive.getmember("link").linkname == "/etc/" + "x" * 150 and archive.getmember("a").uid == 65534
    refused(files("PUT", "local/copy?format=tar", reply.body), 404, "file_not_found")
    assert files("PUT", "local/copy?format=tar&mkdirs=true", reply.body).status == 204
    again = tarfile.open(fileobj=io.BytesIO(files.get("local/copy?format=tar").body))
    assert {(m.name, m.type, m.mode, m.size, m.linkname) for m in again} == \
        {(m.name, m.type, m.mode, m.size, m.linkname) for m in archive}
    refused(files.get("local/t/a?format=tar"), 409, "not_a_directory")
    for name in ("t", "copy"):
        assert files("DELETE", f"local/{name}?recursive=true").status == 204


def archive_of(*members, kind=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        for name, type_, extra in members:
            info = tarfile.TarInfo(name)
            info.type = type_
            data = extra if type_ == tarfile.REGTYPE else b""
            info.size, info.mode = len(data), 0o6755
            info.linkname = extra if type_ in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            info.devmajor, info.devminor = 1, 3
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_archives_of_all_forms(files, kind):
    name = "d" * 90 + "/" + "f" * 95
    data = archive_of((name, tarfile.REGTYPE, b"deep"), ("s", tarfile.SYMTYPE, "d" * 90), kind=kind)
    assert files("PUT", "local/forms?format=tar&mkdirs=true", data).status == 204
    assert files.get(f"local/forms/{name}").body == b"deep"
    assert files.stat(f"local/forms/{name}")["mode"] == "0755" and files.stat("local/forms/s")["target"] == "d" * 90
    assert files("DELETE", "local/forms?recursive=true").status == 204


@pytest.mark.parametrize("members", [
    [("../x", tarfile.REGTYPE, b"x")], [("/etc/x", tarfile.REGTYPE, b"x")], [("a/../../x", tarfile.REGTYPE, b"x")],
    [("l", tarfile.SYMTYPE, "/etc"), ("l/x", tarfile.REGTYPE, b"x")], [("..", tarfile.DIRTYPE, b"")],
    [("l", tarfile.SYMTYPE, ".."), ("l/x", tarfile.REGTYPE, b"x")], [("h", tarfile.LNKTYPE, "/etc/passwd")],
    [("c", tarfile.CHRTYPE, b"")], [("b", tarfile.BLKTYPE, b"")], [("f", tarfile.FIFOTYPE, b"")],
])
def test_archives_that_reach_out_are_refused(files, members):
    reply = files("PUT", "local/evil?format=tar&mkdirs=true", archive_of(*members))
    assert reply.status in (403, 409, 422), reply.body
    assert not os.path.lexists("/etc/x") and not os.path.lexists(files.host / "x")
    assert not (files.host / "local/x").exists()
    assert files("DELETE", "local/evil?recursive=true").status == 204


@pytest.mark.parametrize("data", [b"x" * 2000, b"PK\3\4" + b"\0" * 600, b"\x1f\x8b" + b"\0" * 1000, b"short"])
def test_what_is_no_archive(files, data):
    refused(files("PUT", "tmp?format=tar", data), 422, "bad_archive")


def test_a_cut_archive(files):
    whole = archive_of(("a", tarfile.REGTYPE, b"y" * 5000))
    refused(files("PUT", "tmp?format=tar", whole[:3000]), 422, "bad_archive")
    refused(files.get("tmp/a"), 404, "file_not_found")


def test_a_large_archive_is_streamed_to_a_slow_reader(daemon, files):
    for i in range(8):
        assert files.put(f"alloc/big/{i}?mkdirs=true", os.urandom(2 << 20)).status == 201
    connection = UnixConnection(daemon.socket)
    connection.request("GET", f"{files.base}/alloc/big?format=tar")
    response = connection.getresponse()
    first = response.read(1000)
    assert daemon.get("/healthz").status == 200  # others are served meanwhile
    archive = tarfile.open(fileobj=io.BytesIO(first + response.read()))
    assert sum(m.size for m in archive) == 16 << 20
    connection.close()
    assert files("DELETE", "alloc/big?recursive=true").status == 204


# --- other states of a task -------------------------------------------------------------------------------------------

def test_files_of_an_ended_task(daemon):
    files = Files(daemon, daemon.sh("echo result > /local/out; mkdir /alloc/d; echo x > /alloc/d/f")["id"])
    assert files.get("local/out").body == b"result\n"
    assert files.put("local/more", b"later").status == 201 and files.get("local/more").body == b"later"
    assert {x["name"] for x in files.get("local").json["items"]} == {"out", "more"}
    assert [m.name for m in tarfile.open(fileobj=io.BytesIO(files.get("alloc/d?format=tar").body))] == ["f"]
    assert files("DELETE", "alloc/d?recursive=true").status == 204
    refused(files.get("alloc/d/f"), 404, "file_not_found")
    refused(files.get("record"), 404, "file_not_found")


def test_no_process_is_left(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sleep", "1000")
    ended = d.sh("echo x > /local/x")
    before = d.census()
    for task_id in (task["id"], ended["id"]):
        files = Files(d, task_id)
        for path in ("local", "local?format=tar", "local/none", "local?stat=true"):
            files.get(path)
        connection = UnixConnection(d.socket)  # a client that leaves in the middle
        connection.putrequest("PUT", f"{files.base}/local/y")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders()
        connection.close()
    d.assert_as_before(before)
    supervisor = d.task(task["id"])["pid"]
    assert supervisor


def test_files_of_a_task_that_is_being_removed(own_daemon):
    """Its directory goes between one step of the reader and the next."""
    d = own_daemon
    files = Files(d, d.sh("echo result > /local/out")["id"])
    with traced(d.process.pid, "-f", "-e", "trace=open_tree", "-e", "inject=open_tree:error=ENOENT") as trace:
        refused(files.get("local/out"), 404, "file_not_found")
    assert "ENOENT" in trace.text and files.get("local/out").body == b"result\n"


def test_files_on_a_limited_disk(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sh", "-c", "echo disk > /local/f; sleep 1000", resources={"disk": 40})
    files = Files(d, task["id"])
    wait_until(lambda: files.get("local/f").status == 200, 10, "the file")
    assert files.get("local/f").body == b"disk\n"
    assert files.put("local/up", b"up").status == 201
    inside = d.post(f"/v1/tasks/{task['id']}/exec", {"command": "/bin/cat", "args": ["/local/up"]}).json
    assert inside["output"]["stdout"] == "up"
    assert not (files.host / "local").exists() and not list((files.host / "disk").iterdir())  # not seen from the host
    refused(files("PUT", "local/full", b"x" * (60 << 20)), 507, "no_space")
    assert {x["name"] for x in files.get("local").json["items"]} == {"f", "up"}
    assert files.get("local/f").body == b"disk\n"
    mode = d.task(task["id"])["disk"]["mode"]
    d.post(f"/v1/tasks/{task['id']}/stop", {})
    d.wait_ended(task["id"])
    if mode == "ext4":
        wait_until(lambda: files.get("local/f").status == 200, 10, "the disk to be free")
        assert files.get("local/up").body == b"up"
        refused(files.put("local/late", b"x"), 409, "read_only")
    else:
        wait_until(lambda: files.get("local/f").status == 410, 10, "the supervisor's end")


def test_a_limited_disk_that_was_memory_has_gone(tmp_path):
    """Where there is no mke2fs: hidden here from a daemon in a mount namespace of its own."""
    program = tmp_path / "cloisterd"
    program.write_text(f'''#!/bin/sh
exec unshare --mount sh -c 'mount --bind /dev/null /sbin/mke2fs && exec "$@"' sh {BINARY} "$@"
''')
    program.chmod(0o755)
    d = Daemon(program)
    task = d.start_task("/bin/sh", "-c", "echo disk > /local/f; exec sleep 1000", resources={"disk": 40})
    files = Files(d, task["id"])
    wait_until(lambda: files.get("local/f").status == 200, 10, "the file")
    assert d.task(task["id"])["disk"]["mode"] == "tmpfs"
    d.post(f"/v1/tasks/{task['id']}/stop", {})
    d.wait_ended(task["id"])
    wait_until(lambda: files.get("local/f").status == 410, 10, "the supervisor's end")
    refused(files.get("local/f"), 410, "disk_gone")
    refused(files.put("local/f", b"x"), 410, "disk_gone")
    d.stop()


def test_files_of_a_task_in_a_user_namespace(daemon):
    if daemon.get("/v1/attributes/feature.userns").json != 1:
        pytest.skip("the host makes no user namespaces")
    task = daemon.start_task("/bin/sh", "-c", "echo mine > /local/f; sleep 1000", userns_mode="private")
    files = Files(daemon, task["id"])
    assert files.put("local/d/up?mkdirs=true", b"up").status == 201
    inside = daemon.post(f"/v1/tasks/{task['id']}/exec", {"command": "/bin/sh", "args": [
        "-c", "stat -c %U /local/d /local/d/up && echo more >> /local/d/up"]}).json
    assert inside["output"]["stdout"] == "nobody\nnobody\n", inside
    assert files.get("local/d/up").body == b"upmore\n" and files.get("local/f").body == b"mine\n"
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_many_readers_and_writers_at_once(files):
    failures = []

    def work(i):
        for j in range(10):
            data = f"{i}:{j}".encode() * 1000
            if files.put("local/shared", data).status not in (201, 204):
                failures.append("put")
            body = files.get("local/shared").body
            if len(body) % 1000 or len(set(body[k:k + len(body) // 1000] for k in range(0, len(body), len(body) // 1000))) != 1:
                failures.append(body[:20])
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
    assert not list((files.host / "local").glob(".upload-*"))
