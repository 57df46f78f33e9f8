"""The behaviours of the seed driver's own tests, as this service has them. Those that other files prove already:

drivers/exec
| behaviour | where |
|---|---|
| healthy, driver.exec is set; undetected without root | test_http.py::test_attributes, test_start.py::test_as_an_ordinary_user_it_serves_all_but_tasks |
| a task survives the loss of who watches it, and is found again | test_crash.py::test_kill_9_of_the_launcher |
| a relative path is below work_dir | test_run.py::test_work_dir_is_made |
| USER, LOGNAME and HOME are those of the task's user | test_run.py::test_environment |
| host volumes read-only and writable | test_volumes.py::test_read_only_holds_for_mounts_below_too |
| only listed devices open | test_devices.py::test_only_listed_devices_open |
| no_pivot_root works | test_start.py::test_no_pivot_root_isolates_as_well |
| task options are validated | test_bad_input.py::test_bad_spec |
| resolv.conf: none, servers only, all | test_network.py::test_resolv_conf_of_the_spec, test_network.py::test_what_the_spec_lacks_comes_from_the_host_but_for_its_loopback |
| capability sets of root and nobody | test_escape.py::test_the_capability_sets_are_as_computed |
| a terminal has the size that it was given | test_exec_ws.py::test_terminal_size_and_name, test_exec_ws.py::test_resize_reaches_the_foreground |
| stdin is half-closed | test_exec_ws.py::test_half_close_of_stdin |
shared executor
| behaviour | where |
|---|---|
| no group is left after the end | test_hosts.py::test_nothing_of_a_task_outlives_it |
| devices of the policy | test_devices.py::test_listed_devices_work |
| memory and memory_max become the hard and the soft limit | test_resources.py::test_memory_max_is_the_hard_limit_and_memory_the_soft_one |
end to end
| behaviour | where |
|---|---|
| logs are followed, both streams | test_logs.py::test_followers_get_what_was_written |
| a dead task cannot be restarted | test_restart.py::test_an_ended_task_cannot_be_restarted |
| attempts are used up | test_restart.py::test_attempts_are_used_up_and_the_last_exit_stays |
| the order of events | test_events.py::test_a_life_is_told_in_order |

Different here, on purpose: a command that is not executable is refused (the seed makes it executable, on the host too);
memory_max is the hard limit on every host (the seed honours it when a cluster allows oversubscription). Left out, since they
are a cluster's: alloc directories that move between clients, artifacts, templates, leaders and life-cycle hooks of a group,
device plugins, schedules, and the plugin protocol itself (recoverable errors, task handles)."""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import BINARY, Daemon, wait_until
from roots import make_image
from test_exec_ws import control, dial, listen, sync, url
from test_exec_ws import run as run_ws


@pytest.fixture
def sleeper(daemon):
    task = daemon.start_task("/bin/sleep", "600")
    yield task
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def session(daemon, task, *command, **more):
    reply = daemon.post(f"/v1/tasks/{task['id']}/exec", {"command": command[0], "args": list(command[1:]), **more})
    assert reply.status == 200, reply.body
    return reply.json


# --- start, wait, stop ----------------------------------------------------------------------------------------------

def test_start_wait_bare_name(daemon):
    task = daemon.run("cat", "/proc/self/cgroup")
    assert task["exit"]["code"] == 0
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}").status == 204


def test_start_wait_stop_kill(daemon):
    task = daemon.start_task("/bin/bash", "-c", "echo hi; sleep 600")
    stopped = daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"signal": "SIGINT", "timeout": "2s"}).json
    assert stopped["state"] == "exited" and stopped["exit"]["code"] != 0
    assert daemon.get(f"/v1/tasks/{task['id']}/logs").body in (b"hi\n", b"")  # it may be stopped before it speaks
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}").status == 204


def test_start_wait_stop_with_sigkill_tells_the_signal(daemon):
    task = daemon.start_task("/bin/sleep", "600")
    stopped = daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"signal": "SIGKILL", "timeout": "2s"}).json
    assert stopped["exit"]["signal"] == "SIGKILL" and stopped["exit"]["code"] is None and stopped["state"] == "exited"


@pytest.mark.parametrize("timeout", ["0s", "100ms"])
def test_kill_immediately(daemon, timeout):
    task = daemon.start_task("/bin/sleep", "100")
    stopped = daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"signal": "SIGKILL", "timeout": timeout}).json
    assert stopped["exit"]["signal"] == "SIGKILL" and not os.path.exists(f"/proc/{task['pid']}")


def test_the_end_of_a_wait_is_not_the_end_of_the_task_and_a_new_server_finds_it(own_daemon):
    task = own_daemon.post("/v1/tasks?wait=exited&timeout=200ms", {"command": "/bin/sleep", "args": ["600"]}).json
    assert task["state"] in ("starting", "running")  # starting: on a slow host
    task = wait_until(lambda: (t := own_daemon.task(task["id"]))["state"] == "running" and t, what="the start")
    os.kill(own_daemon.server_pid(), signal.SIGKILL)
    wait_until(lambda: own_daemon.children() and own_daemon.ready(), 20)
    again = own_daemon.task(task["id"])
    assert again["state"] == "running" and again["pid"] == task["pid"]
    stopped = own_daemon.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {"timeout": "0s"}).json
    assert stopped["exit"]["signal"] == "SIGKILL"


def test_no_orphaned_executor(daemon):
    before = daemon.census()
    reply = daemon.post("/v1/tasks", {"command": "/does/not/exist"})
    assert reply.status == 422 and "/does/not/exist" in reply.json["errors"][0]["detail"]
    daemon.assert_as_before(before)


def test_no_orphaned_tasks(daemon):
    task = daemon.run("/bin/sh", "-c", "sleep 3600 & sleep 1")
    assert task["exit"]["code"] == 0 and task["id"] not in str(daemon.groups()) and daemon.processes() == set()


@pytest.mark.parametrize("pid_mode", ["private", "host"])
def test_a_background_child_does_not_hold_the_end_up(daemon, pid_mode):
    began = time.monotonic()
    task = daemon.sh("(sleep 300 >/dev/null &); exec sleep 1", pid_mode=pid_mode)
    assert task["exit"]["code"] == 0 and time.monotonic() - began < 30


def test_a_failing_command_has_its_code(daemon):
    task = daemon.run("/bin/date", "fail")
    assert task["exit"]["code"] == 1 and "fail" in task["output"]["stderr"]


def test_a_kill_from_outside_is_told(daemon):
    task = daemon.start_task("/bin/sleep", "600")
    os.kill(task["pid"], signal.SIGKILL)
    ended = daemon.wait_ended(task["id"])
    assert ended["exit"]["signal"] == "SIGKILL" and not ended["exit"]["oom_killed"]


def test_the_first_stats_come_at_once(daemon, sleeper):
    stats = daemon.get(f"/v1/tasks/{sleeper['id']}/stats").json
    assert stats["cpu"] and stats["memory"] and stats["time"]


def test_output_never_grows_after_a_stop(daemon):
    task = daemon.start_task("/bin/sh", "-c", "while :; do echo X; sleep 0.05; done")
    path = f"/v1/tasks/{task['id']}"
    wait_until(lambda: daemon.get(f"{path}/logs").body)
    began = time.monotonic()
    assert daemon.post(f"{path}/stop?wait=exited", {"signal": "SIGINT", "timeout": "100ms"}).json["state"] == "exited"
    assert time.monotonic() - began < 20
    size = len(daemon.get(f"{path}/logs").body)
    time.sleep(0.5)
    assert len(daemon.get(f"{path}/logs").body) == size and daemon.processes() == set()


def test_oom_killed(daemon):
    task = daemon.run("/usr/bin/tail", "/dev/zero", resources={"memory": 16})
    assert task["exit"]["oom_killed"] and task["exit"]["code"] != 0


# --- what a task is ---------------------------------------------------------------------------------------------------

def test_an_unknown_user_is_named(daemon):
    reply = daemon.post("/v1/tasks", {"command": "/bin/true", "user": "alice"})
    assert reply.status == 422 and "alice" in reply.json["errors"][0]["detail"]


def test_the_alloc_directory_is_seen_on_the_host(daemon):
    task = daemon.sh("printf hello > /alloc/data/output.txt")
    assert (daemon.dir / "state/tasks" / task["id"] / "alloc/data/output.txt").read_text() == "hello"


@pytest.mark.parametrize("pid_mode,ipc_mode", [("private", "private"), ("host", "host"), ("private", "host"),
                                               ("host", "private")])
def test_namespaces_are_as_the_modes_say(daemon, pid_mode, ipc_mode):
    names = ["mnt", "pid", "ipc", "uts", "cgroup", "user", "net", "time"]
    out = daemon.sh("cd /proc/self/ns && readlink " + " ".join(names), pid_mode=pid_mode, ipc_mode=ipc_mode)["output"]["stdout"]
    own = {n for n, inside in zip(names, out.split()) if inside != os.readlink(f"/proc/self/ns/{n}")}
    expected = {"mnt", "uts", "cgroup"} | {n for n, mode in (("pid", pid_mode), ("ipc", ipc_mode)) if mode == "private"}
    assert own == expected


def test_pid_1_sees_its_own_processes_alone(daemon, sleeper):
    assert daemon.sh("echo $$")["output"]["stdout"] == "1\n"
    assert daemon.sh("echo $$", pid_mode="host")["output"]["stdout"] != "1\n"
    assert len(session(daemon, sleeper, "/bin/ps", "ax")["output"]["stdout"].splitlines()) == 3


def test_the_root_lists_exactly_what_was_embedded():
    d = Daemon(BINARY, "--chroot-env", "/bin=/bin,/usr=/usr,/lib=/lib,/lib64=/lib64,/etc/ld.so.cache=/etc/ld.so.cache,"
               "/etc/passwd=/etc/passwd")
    try:
        for root in ("overlay", "readonly"):
            out = d.sh("ls / /etc", root=root)["output"]["stdout"]
            assert set(out.split("\n\n")[0].split()[1:]) <= {"alloc", "bin", "dev", "etc", "lib", "lib64", "local", "proc",
                                                             "secrets", "sys", "tmp", "usr", "run"}, out
            assert out.split("/etc:\n")[1].split() == ["ld.so.cache", "passwd"], out
    finally:
        d.stop()


def test_oom_score_adj_is_not_inherited(tmp_path):
    script = tmp_path / "cloisterd"
    script.write_text(f"#!/bin/sh\necho 300 > /proc/self/oom_score_adj && exec {BINARY} \"$@\"\n")
    script.chmod(0o755)
    d = Daemon(script)
    try:
        assert pathlib.Path(f"/proc/{d.process.pid}/oom_score_adj").read_text() == "300\n"
        assert d.sh("cat /proc/self/oom_score_adj")["output"]["stdout"] == "0\n"
    finally:
        d.stop()


def test_ambient_caps_all_is_the_seeds_way():
    d = Daemon(BINARY, "--ambient-caps", "all")
    try:
        def sets(**spec):
            out = d.sh("grep ^Cap /proc/self/status", **spec)["output"]["stdout"].split()
            return dict(zip(out[::2], out[1::2]))
        assert set(sets().values()) == {"00000000a80405fb"}
        assert set(sets(cap_drop=["all"], cap_add=["net_bind_service"]).values()) == {"0000000000000400"}
    finally:
        d.stop()



@pytest.mark.parametrize("allow,add,drop,wrong", [
    (None, ["fowner", "mknod"], ["ALL"], []), (None, ["net_admin"], [], ["net_admin"]),
    (None, [], ["audit_write", "NET_RAW"], []), (["fowner", "mknod"], [], ["all"], []),
    (["fowner", "mknod"], ["CAP_FOWNER", "MKNOD"], ["all"], []), (["fowner", "mknod"], ["net_admin"], [], ["net_admin"]),
    (None, ["sys_time", "chown", "net_admin"], [], ["sys_time", "net_admin"]), (["all"], ["net_admin"], [], []),
    (["all"], ["all"], [], [])])
def test_capabilities_of_the_operator_and_of_the_task(allow, add, drop, wrong):
    d = Daemon(BINARY, *(["--allow-caps", ",".join(allow)] if allow else []))
    try:
        reply = d.post("/v1/tasks?wait=exited", {"command": "/bin/true", "cap_add": add, "cap_drop": drop})
        if wrong:
            assert reply.status == 403 and {w for w in wrong if w in json.dumps(reply.json).lower()}, reply.body
            assert reply.json["errors"][0]["pointer"] == f"/cap_add/{[a.lower() for a in add].index(wrong[0])}"
        else:
            assert reply.status == 201 and reply.json["exit"]["code"] == 0, reply.body
    finally:
        d.stop()


@pytest.mark.parametrize("flag,good,bad", [
    ("--denied-host-uids", ["", "1000", "1,2,5-10,70000-80000"], ["x", "5-", "-5", "10-5", "4294967296", "1,,2", "1 2"]),
    ("--denied-host-gids", ["", "0", "0-3"], ["x", "3-0", "4294967296"]),
    ("--default-pid-mode", ["private", "host"], ["other", ""]), ("--default-ipc-mode", ["private", "host"], ["other", ""]),
    ("--allow-caps", ["all", "chown,CAP_KILL"], ["chown,bogus", "cap_"])])
def test_operators_options_are_checked(flag, good, bad):
    for value in good + bad:
        run = subprocess.run([BINARY, flag, value, "--check-config"], check=False, capture_output=True, text=True)
        assert run.returncode == (0 if value in good else 2), (value, run.stderr)


# --- the command is looked up in the root -------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def lookups(tmp_path_factory):
    directory = tmp_path_factory.mktemp("lookup")
    for part in (directory, *directory.parents[:2]):
        part.chmod(0o755)
    image, volume = directory / "image", directory / "volume"
    make_image(image, ["sh", "echo"])
    for place in (image / "usr/local/bin", image / "opt/deep", volume / "nested"):
        place.mkdir(parents=True)
    for path in (image / "usr/local/bin/bare", image / "opt/absolute", image / "opt/deep/nested", image / "opt/plain",
                 volume / "in-volume", volume / "nested/below"):
        path.write_text("#!/bin/sh\necho $0\n")
        path.chmod(0o644 if path.name == "plain" else 0o755)
    file = directory / "cloister.json"
    file.write_text(json.dumps({"client": {"chroot": {"image": {str(image): "/"}},
                                           "host_volume": {"v": {"path": str(volume)}}}}))
    d = Daemon(BINARY, "--config", file)
    yield d
    d.stop()


@pytest.mark.parametrize("command,work_dir,found", [
    ("bare", None, "/usr/local/bin/bare"), ("/opt/absolute", None, "/opt/absolute"), ("absolute", "/opt", None),
    ("./absolute", "/opt", "/opt/./absolute"), ("deep/nested", "/opt", "/opt/deep/nested"), ("/opt/plain", None, None),
    ("/srv/v/in-volume", None, "/srv/v/in-volume"), ("in-volume", None, None), ("v/nested/below", "/srv", "/srv/v/nested/below"),
    ("/usr/bin/env", None, None), ("env", None, None), ("/bin/kill", None, None), ("echo", None, None)])
def test_the_command_is_looked_up_in_the_root(lookups, command, work_dir, found):
    """/usr/bin/env and /bin/kill are the host's alone. The task's own PATH counts, its volumes only by their paths."""
    body = {"command": command, "chroot": "image", "volume_mounts": [{"volume": "v", "destination": "/srv/v"}],
            **({"work_dir": work_dir} if work_dir else {})}
    reply = lookups.post("/v1/tasks?wait=exited&output=true", body)
    if found or command == "echo":
        assert reply.status == 201 and reply.json["output"]["stdout"] == (f"{found}\n" if found else "\n"), reply.body
    else:
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/command", reply.body


def test_work_dir_is_where_it_starts(daemon):
    assert daemon.run("/bin/pwd", work_dir="/etc")["output"]["stdout"] == "/etc\n"


# --- exec -------------------------------------------------------------------------------------------------------------

def test_exec_shows_the_failure_of_a_command(daemon, sleeper):
    assert session(daemon, sleeper, "/bin/cat", "/proc/self/cgroup")["exit"]["code"] == 0
    failed = session(daemon, sleeper, "/bin/cat", "/no/such/file")
    assert failed["exit"]["code"] == 1 and "/no/such/file" in failed["output"]["stderr"]


@pytest.mark.parametrize("script,stdin,code,out,err", [
    ("echo hello stdout; echo hello stderr >&2; exit 43", "", 43, "hello stdout\n", "hello stderr\n"),
    ("for n in 1 2 3; do echo $n; sleep 0.2; done", "", 0, "1\n2\n3\n", ""),
    ("stty size", "", 1, "", "Inappropriate ioctl for device"),
    ("echo hello from command; head -n1", "hello from stdin\n", 0, "hello from command\nhello from stdin\n", "")])
def test_exec_without_a_terminal(daemon, sleeper, script, stdin, code, out, err):
    done = session(daemon, sleeper, "/bin/sh", "-c", script, stdin=stdin)
    assert done["exit"]["code"] == code and done["output"]["stdout"] == out and err in done["output"]["stderr"]


@sync
async def test_exec_with_a_terminal_merges_the_streams(daemon, sleeper):
    heard = await run_ws(daemon, sleeper, "/bin/sh", "-c", "echo hello stdout; echo hello stderr >&2; exit 43", tty="true")
    assert heard.out == b"hello stdout\r\nhello stderr\r\n" and not heard.err and heard.exit["code"] == 43


@sync
async def test_exec_with_a_terminal_echoes(daemon, sleeper):
    heard = await run_ws(daemon, sleeper, "/bin/sh", "-c", "head -n1", tty="true", send=[b"\x00a line\n"])
    assert heard.out == b"a line\r\na line\r\n" and heard.exit["code"] == 0


@sync
async def test_exec_takes_the_last_of_two_resizes(daemon, sleeper):
    sizes = [control(resize={"rows": 50, "cols": 40}), control(resize={"rows": 100, "cols": 100})]
    async with dial(daemon, url(sleeper, "/bin/sh", "-c", "read x; stty size", tty="true")) as ws:
        for message in [*sizes, b"\x00\n"]:
            await ws.send(message)
        assert (await listen(ws)).out.endswith(b"100 100\r\n")


@sync
async def test_exec_ends_with_its_main_process(daemon, sleeper):
    script = "(( sleep 300; echo from background ) & ); echo from main; exec sleep 1"
    heard = await run_ws(daemon, sleeper, "/bin/bash", "-c", script, tty="true")
    assert heard.out == b"from main\r\n" and heard.exit["code"] == 0


def test_exec_is_isolated_as_the_task_is(daemon, sleeper):
    made = session(daemon, sleeper, "/bin/sh", "-c", 'f=$(mktemp /tmp/own.XXXXXX); echo hello > "$f"; echo "$f"')
    path = made["output"]["stdout"].strip()
    assert path.startswith("/tmp/own.") and not os.path.exists(path)
    assert session(daemon, sleeper, "/bin/cat", path)["output"]["stdout"] == "hello\n"


# --- end to end -------------------------------------------------------------------------------------------------------

def test_the_environment_names_directories_that_are_there(daemon):
    out = daemon.sh('echo $NOMAD_ALLOC_DIR $NOMAD_TASK_DIR $NOMAD_SECRETS_DIR; cd "$NOMAD_ALLOC_DIR" && cd "$NOMAD_TASK_DIR"'
                    ' && cd "$NOMAD_SECRETS_DIR" && ls -d /bin')["output"]["stdout"]
    assert out == "/alloc /local /secrets\n/bin\n"


def test_the_end_of_one_task_leaves_the_devices_of_another(daemon, sleeper):
    other = daemon.start_task("/bin/sleep", "600")
    daemon.post(f"/v1/tasks/{other['id']}/stop?wait=exited", {"timeout": "0s"})
    dd = session(daemon, sleeper, "/bin/dd", "if=/dev/zero", "of=/dev/null", "count=1")
    assert dd["exit"]["code"] == 0, dd


def test_a_volume_keeps_what_one_task_wrote_for_the_next(lookups):
    volume = {"chroot": "image", "volume_mounts": [{"volume": "v", "destination": "/v"}], "user": "4242"}
    host = pathlib.Path(lookups.get("/v1/config").json["host_volume"]["v"]["path"])
    host.chmod(0o777)
    lookups.sh("echo kept > /v/file", **volume)
    volume["volume_mounts"][0]["read_only"] = True
    task = lookups.sh("read x < /v/file; echo $x; echo more > /v/file", **volume)
    assert task["output"]["stdout"] == "kept\n" and "Read-only" in task["output"]["stderr"]
