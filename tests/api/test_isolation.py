"""What a task can see, change and consume."""
import hashlib
import os
import pathlib

import pytest

from conftest import Daemon

DEFAULTS = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 27, 29, 31]  # Nomad's thirteen, capabilities(7)


def mask(caps):
    return f"{sum(1 << c for c in caps):016x}"


def status(task):
    return dict(line.split(":\t", 1) for line in task["output"]["stdout"].splitlines() if ":\t" in line)


def test_only_own_processes(daemon):
    task = daemon.sh("ls -d /proc/[0-9]*")
    assert len(task["output"]["stdout"].split()) <= 2


def test_host_files_never_change(daemon):
    files = [pathlib.Path(p) for p in ("/etc/passwd", "/etc/hostname", "/usr/bin/env")]
    before = [(hashlib.sha256(f.read_bytes()).digest(), f.stat().st_mode, f.stat().st_nlink) for f in files]
    task = daemon.sh("echo evil >> /etc/passwd; tail -n 1 /etc/passwd; rm -f /etc/hostname; chmod 4777 /usr/bin/env;"
                     "echo x > /usr/made-by-task; ls /usr/made-by-task", user="daemon",
                     cap_add=["dac_override", "fowner", "chown"])
    assert task["output"]["stdout"] == "evil\n/usr/made-by-task\n", task["output"]
    assert before == [(hashlib.sha256(f.read_bytes()).digest(), f.stat().st_mode, f.stat().st_nlink) for f in files]
    assert not pathlib.Path("/usr/made-by-task").exists()


def test_tasks_do_not_see_each_other(daemon):
    daemon.sh("echo secret > /tmp/a; echo secret > /dev/shm/a; echo secret > /local/a; echo secret > /alloc/data/a")
    assert daemon.sh("cat /tmp/a /dev/shm/a /local/a /alloc/data/a")["output"]["stdout"] == ""


def test_outside_the_chroot_map_nothing_is_there(daemon):
    assert daemon.sh("ls -d /root /home /var /work /srv /boot /run/cloister 2>/dev/null")["output"]["stdout"] == ""


def test_host_secrets_are_hidden(daemon):
    task = daemon.sh("cat /etc/shadow /etc/gshadow /etc/shadow-; ls /etc/cloister", cap_add=["dac_override"])
    assert task["output"]["stdout"] == ""


def test_merged_usr_stays_a_link(daemon):
    assert daemon.sh("readlink /bin /lib /sbin")["output"]["stdout"] == "usr/bin\nusr/lib\nusr/sbin\n"


def test_mounts_show_no_pivot_leftovers(daemon):
    out = daemon.sh("cat /proc/self/mountinfo")["output"]["stdout"]
    targets = [line.split()[4] for line in out.splitlines()]
    assert "/proc" in targets and "/sys" in targets and not any("old" in t or t == "/mnt" for t in targets)


def test_capabilities_of_nobody(daemon):
    s = status(daemon.run("/bin/cat", "/proc/self/status"))
    assert s["CapBnd"] == mask(DEFAULTS)
    assert {s[k] for k in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {mask([])}
    assert s["NoNewPrivs"] == "1"


def test_cap_add_and_drop(daemon):
    s = status(daemon.run("/bin/cat", "/proc/self/status", cap_drop=["ALL"], cap_add=["CAP_Chown", "kill"]))
    assert {s[k] for k in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd")} == {mask([0, 5])}


def test_cap_drop_alone(daemon):
    assert status(daemon.run("/bin/cat", "/proc/self/status", cap_drop=["mknod"]))["CapBnd"] == \
        mask([c for c in DEFAULTS if c != 27])


def test_signals_and_fds_are_clean(daemon):
    s = status(daemon.run("/bin/cat", "/proc/self/status"))
    assert int(s["SigBlk"], 16) == 0 and int(s["SigIgn"], 16) == 0
    out = daemon.run("/usr/bin/python3", "-c", "import os;print(sorted(os.listdir('/proc/self/fd')))")["output"]["stdout"]
    assert out == "['0', '1', '2', '3']\n"  # 3 is the listing's own


def test_namespaces_differ(daemon):
    out = daemon.sh("readlink /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/uts")["output"]["stdout"]
    host = [str(pathlib.Path(f"/proc/self/ns/{n}").readlink()) for n in ("mnt", "pid", "ipc", "uts")]
    assert not set(out.split()) & set(host) and len(out.split()) == 4


def test_hostname(daemon):
    assert daemon.sh("cat /proc/sys/kernel/hostname", hostname="box")["output"]["stdout"] == "box\n"


def test_kernel_knobs_are_read_only(daemon):
    task = daemon.sh("for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_helper; do"
                     " (echo x > $f) 2>/dev/null && echo open $f; done; cat /proc/keys /proc/timer_list; echo done",
                     cap_add=["dac_override"])
    assert task["output"]["stdout"] == "done\n"


def test_devices(daemon):
    task = daemon.sh("echo x > /dev/null; head -c 2 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; ls /dev/sda"
                     " /dev/vda /dev/mem /dev/kmsg 2>/dev/null", user="daemon")
    assert task["output"]["stdout"].split() == ["2", "4"]


def test_memory_limit_kills_and_is_told(daemon):
    task = daemon.run("/usr/bin/python3", "-c", "x = bytearray(200 << 20); print('survived')", resources={"memory": 32})
    assert task["exit"]["oom_killed"] is True and task["exit"]["signal"] == "SIGKILL"
    assert task["output"]["stdout"] == "" and task["exit"]["reason"] == "out of memory"


def test_memory_within_the_limit_is_no_oom(daemon):
    assert daemon.run("/usr/bin/python3", "-c", "x = bytearray(20 << 20)",
                      resources={"memory": 64})["exit"]["oom_killed"] is False


def test_pids_limit_stops_a_fork_bomb(daemon):
    script = ("import os, time\nn = 0\ntry:\n    while n < 500:\n        if os.fork() == 0: time.sleep(60)\n        n += 1\n"
              "except OSError: pass\nprint(n)")
    task = daemon.run("/usr/bin/python3", "-c", script, resources={"pids": 20})
    assert int(task["output"]["stdout"]) == 19 and daemon.processes() == set()


def test_limits_are_in_the_kernel(daemon):
    task = daemon.start_task("/bin/sleep", "60", resources={"cpu": 700, "memory": 40, "memory_max": 80, "pids": 33})
    values = {}
    for group in daemon.groups():
        if group.endswith(task["id"]):
            for name in ("cpu.shares", "cpu.weight", "memory.limit_in_bytes", "memory.max", "pids.max"):
                path = pathlib.Path(group, name)
                if path.exists():
                    values[name] = path.read_text().strip()
    assert values.get("cpu.shares", "700") == "700" and "33" == values["pids.max"]
    assert (values.get("memory.limit_in_bytes") or values.get("memory.max")) == str(80 << 20)
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def test_the_servers_account_and_root_are_no_ones(daemon):
    config = daemon.get("/v1/config").json
    server = next(line for line in pathlib.Path(f"/proc/{daemon.server_pid()}/status").read_text().splitlines()
                  if line.startswith("Uid:")).split()
    assert config["server_user"] and server[1] == server[2] != "0"
    assert daemon.post("/v1/tasks", {"command": "/bin/true", "user": server[1]}).status == 403


def test_the_server_has_no_power(daemon):
    lines = pathlib.Path(f"/proc/{daemon.server_pid()}/status").read_text().splitlines()
    s = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert {s[k] for k in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {mask([])} and s["NoNewPrivs"] == "1"


def test_the_daemons_environment_is_not_the_tasks():
    d = Daemon(env={"CLOISTER_TEST_SECRET": "daemon-secret"})
    try:
        task = d.sh("env; cat /proc/*/environ | tr '\\000' '\\n'; echo end")
        assert "CLOISTER_TEST_SECRET" not in task["output"]["stdout"] and "end\n" in task["output"]["stdout"]
    finally:
        d.stop()


@pytest.mark.parametrize("pid_mode", ["private", "host"])
def test_work_dir_never_leaves_the_root(daemon, pid_mode):
    """Root makes the directory: neither another process's root nor an fd of ours may be a way out (CVE-2024-21626)."""
    canary = pathlib.Path(f"/var/tmp/cloister-canary-{os.getpid()}")
    paths = [f"/proc/{pid}/root{canary}" for pid in ("1", "self", daemon.process.pid)]
    paths += [f"/proc/self/fd/{n}{below}" for n in range(3, 24) for below in ("", "/made")]
    for path in paths:
        reply = daemon.post("/v1/tasks?wait=exited", {"command": "/bin/true", "work_dir": path, "pid_mode": pid_mode})
        assert not canary.exists(), path
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/work_dir", (path, reply.body)


def test_the_command_is_not_looked_up_outside_the_root(daemon):
    """The answer for a file that the host has must be the one for a file that it lacks."""
    there, missing = (daemon.post("/v1/tasks", {"command": f"/proc/{daemon.process.pid}/root{path}", "pid_mode": "host"})
                      for path in ("/etc/shadow", "/etc/no-such-file"))
    assert there.status == missing.status == 422 and there.json["errno"] == missing.json["errno"]
