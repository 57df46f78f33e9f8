"""The four network modes, each with what it must allow and what it must not, and that nothing of them is left."""
import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import time

import pytest

from conftest import BINARY, Daemon, wait_until
from fault_sweep import traced
from roots import make_image

CNI = pathlib.Path("/usr/lib/cni")
HAS_BRIDGE = all((CNI / p).exists() for p in ("bridge", "host-local", "portmap", "firewall")) and \
    shutil.which("iptables") and shutil.which("ip")
needs_bridge = pytest.mark.skipif(not HAS_BRIDGE, reason="needs the standard CNI plugins, iptables and ip")
PATIENT = ("--cni-timeout", "120")  # the first rules of iptables load modules; emulated machines take their time
NET = "/proc/self/ns/net"
SERVE = "import http.server as h;h.test(h.SimpleHTTPRequestHandler, h.ThreadingHTTPServer, port={})"
FETCH = "import sys,urllib.request as u;print(u.urlopen(sys.argv[1], timeout=10).status)"
CONNECT = """
import socket, sys
s = socket.socket(socket.AF_UNIX if sys.argv[1][0] == '@' else socket.AF_INET)
s.settimeout(5)
try:
    s.connect('\\0' + sys.argv[1][1:] if sys.argv[1][0] == '@' else ('127.0.0.1', int(sys.argv[1])))
    print('reached')
except OSError as e:
    print('refused')
"""


def net(mode, **more):
    return {"network": {"mode": mode, **more}}


def out(task):
    assert task["exit"]["code"] == 0, task
    return task["output"]["stdout"]


def refused(daemon, network, status=422, **spec):
    reply = daemon.post("/v1/tasks", {"command": "/bin/true", "network": network, **spec})
    assert reply.status == status, reply.body
    return reply.json


def pointer(reply):
    return reply["errors"][0]["pointer"]


def delete(daemon, task):
    assert daemon.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


def supervisor(task):
    """The parent of the task."""
    line = pathlib.Path(f"/proc/{task['pid']}/stat").read_text()
    return int(line.rsplit(")", 1)[1].split()[1])


def netns_of(task):
    return os.readlink(f"/proc/{task['pid']}/ns/net")


@pytest.fixture(scope="module")
def bridged():
    if not HAS_BRIDGE:
        pytest.skip("needs the standard CNI plugins, iptables and ip")
    d = Daemon(BINARY, *PATIENT, netns=True)
    yield d
    d.stop()


# host

def test_host_is_the_default(daemon):
    assert out(daemon.run("/bin/readlink", NET)) == os.readlink(NET) + "\n"
    task = daemon.run("/bin/true", **net("host"))
    assert task["network"] == {"mode": "host"}


def test_the_api_is_reached_from_mode_host_alone_and_only_as_monitor(daemon):
    """Loopback is no proof of who calls: without a token it is monitor."""
    script = ("import urllib.request as u, urllib.error as e\nfor p in ('/readyz', '/v1/attributes', '/v1/tasks'):\n"
              f"    try: print(u.urlopen('http://127.0.0.1:{daemon.port}' + p).status)\n"
              "    except e.HTTPError as x: print(x.code)")
    assert out(daemon.run("/usr/bin/python3", "-c", script)).split() == ["200", "200", "401"]
    for mode in (net("none"), net("group", group="api")):
        assert out(daemon.run("/usr/bin/python3", "-c", CONNECT, str(daemon.port), **mode)) == "refused\n"


def test_abstract_sockets_of_the_host_are_reached_from_mode_host_alone(daemon):
    import socket
    with socket.socket(socket.AF_UNIX) as s:
        name = f"@cloister-test-{os.getpid()}"
        s.bind("\0" + name[1:])
        s.listen()
        for mode, want in ((net("host"), "reached"), (net("none"), "refused"), (net("group", group="a"), "refused")):
            assert out(daemon.run("/usr/bin/python3", "-c", CONNECT, name, **mode)) == want + "\n", mode


# none

def test_none_has_a_loopback_alone_and_it_is_up(daemon):
    before = daemon.census()
    script = ("import os, socket\nprint(os.readlink('/proc/self/ns/net'), sorted(os.listdir('/sys/class/net')))\n"
              "s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname())\n"
              "s.accept()[0].sendall(b'over lo'); print(c.recv(9).decode())")
    task = daemon.run("/usr/bin/python3", "-c", script, **net("none"))
    first, second = out(task).splitlines()
    assert first.endswith("['lo']") and not first.startswith(os.readlink(NET)) and second == "over lo"
    assert task["network"] == {"mode": "none"}
    delete(daemon, task)
    daemon.assert_as_before(before)


def test_two_tasks_of_mode_none_are_apart(daemon):
    a, b = (out(daemon.run("/bin/readlink", NET, **net("none"))) for _ in range(2))
    # A number may be given again once its namespace is gone; while one lives it is not.
    held = daemon.start_task("/bin/sleep", "60", **net("none"))
    assert netns_of(held) + "\n" != out(daemon.run("/bin/readlink", NET, **net("none"))) and a and b
    delete(daemon, held)


# group

def test_a_group_shares_a_namespace_until_its_last_task(daemon):
    before = daemon.census()
    first = daemon.start_task("/usr/bin/python3", "-c", SERVE.format(8000), **net("group", group="g1"))
    second = daemon.start_task("/bin/sleep", "60", **net("group", group="g1"))
    other = daemon.start_task("/bin/sleep", "60", **net("group", group="g2"))
    assert netns_of(first) == netns_of(second) and len({netns_of(first), netns_of(other), os.readlink(NET)}) == 3
    fetch = "for i in $(seq 100); do python3 -c '%s' http://127.0.0.1:8000/ 2>/dev/null && exit; sleep .1; done; exit 1"
    assert out(daemon.sh(fetch % FETCH, **net("group", group="g1"))) == "200\n"
    assert out(daemon.run("/usr/bin/python3", "-c", CONNECT, "8000", **net("group", group="g2"))) == "refused\n"
    space = netns_of(first)
    delete(daemon, first)
    assert netns_of(daemon.start_task("/bin/sleep", "60", **net("group", group="g1"))) == space
    for task in daemon.get("/v1/tasks?limit=1000").json["items"]:
        if task["state"] == "running" and task["spec"]["network"].get("group"):
            delete(daemon, task)
    assert daemon.network() == before["network"] and daemon.mounts() == before["mounts"]


def test_a_group_stays_over_a_restart_of_its_only_task(daemon):
    task = daemon.start_task("/bin/sleep", "60", **net("group", group="r"))
    space = netns_of(task)
    assert daemon.post(f"/v1/tasks/{task['id']}/restart", {}).status in (200, 202)
    again = wait_until(lambda: (t := daemon.task(task["id"]))["restarts"] == 1 and t["state"] == "running" and t)
    assert netns_of(again) == space
    delete(daemon, task)


def test_a_killed_supervisor_leaves_no_group(daemon):
    before = daemon.census()
    task = daemon.start_task("/bin/sleep", "60", **net("group", group="k"))
    os.kill(supervisor(task), signal.SIGKILL)
    assert daemon.wait_ended(task["id"])["state"] == "lost"
    wait_until(lambda: daemon.network() == before["network"] and daemon.mounts() == before["mounts"], 10, "the end")
    delete(daemon, task)
    daemon.assert_as_before(before)


def test_the_others_keep_their_group_when_a_supervisor_is_killed(daemon):
    stays = daemon.start_task("/bin/sleep", "60", **net("group", group="s"))
    dies = daemon.start_task("/bin/sleep", "60", **net("group", group="s"))
    os.kill(supervisor(dies), signal.SIGKILL)
    daemon.wait_ended(dies["id"])
    joins = daemon.start_task("/bin/sleep", "60", **net("group", group="s"))
    assert netns_of(joins) == netns_of(stays)
    for task in (stays, dies, joins):
        delete(daemon, task)
    assert daemon.network() == []


def test_a_group_outlives_the_launcher_and_stale_ones_are_found_at_its_start(own_daemon):
    lives = own_daemon.start_task("/bin/sleep", "60", **net("group", group="lives"))
    dies = own_daemon.start_task("/bin/sleep", "60", **net("group", group="dies"))
    victim = supervisor(dies)
    own_daemon.process.kill()
    own_daemon.process.wait()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not pathlib.Path(f"/proc/{dies['pid']}").exists(), 10, "the end of its task")
    assert any("group-dies" in path for path in own_daemon.network())
    own_daemon.start()
    wait_until(lambda: [p for p in own_daemon.network() if "group-" in p] and
               all(p.endswith("group-lives") for p in own_daemon.network()), 10, "the removal of what is stale")
    joins = own_daemon.start_task("/bin/sleep", "60", **net("group", group="lives"))
    assert netns_of(joins) == netns_of(lives)


# files

def test_resolv_conf_of_the_spec(daemon):
    dns = {"servers": ["192.0.2.1", "2001:db8::1"], "searches": ["a.test", "b.test"], "options": ["ndots:2", "rotate"]}
    for mode in (net("host", dns=dns), net("none", dns=dns)):
        text = out(daemon.sh("cat /etc/resolv.conf; (echo x >> /etc/resolv.conf) 2>/dev/null && echo writable; true",
                             cap_add=["dac_override"], **mode))
        assert text.splitlines() == ["nameserver 192.0.2.1", "nameserver 2001:db8::1", "search a.test b.test",
                                     "options ndots:2 rotate"]


def test_what_the_spec_lacks_comes_from_the_host_but_for_its_loopback(daemon):
    host = [line for line in pathlib.Path("/etc/resolv.conf").read_text().splitlines() if line.startswith("nameserver")]
    lines = out(daemon.sh("cat /etc/resolv.conf", **net("none", dns={"searches": ["x.test"]}))).splitlines()
    if not any("127." in line for line in host):
        assert [line for line in lines if line.startswith("nameserver")] == host
    assert "search x.test" in lines and not any(line.startswith("nameserver 127.") for line in lines)


def test_hosts_and_hostname_outside_mode_host(daemon):
    script = "cat /etc/hosts /etc/hostname; hostname; getent hosts box"
    lines = out(daemon.sh(script, hostname="box", **net("none"))).splitlines()
    assert "127.0.0.1 localhost" in lines and "127.0.1.1 box" in lines and lines[3:5] == ["box", "box"]
    assert lines[5].split() == ["127.0.1.1", "box"]
    host = pathlib.Path("/etc/hosts")
    if host.exists():
        assert out(daemon.sh("cat /etc/hosts", hostname="box")) == host.read_text()


@pytest.mark.parametrize("root", ["overlay", "readonly", "copy"])
@pytest.mark.parametrize("target", [None, "../run/systemd/resolve/stub-resolv.conf", "/run/none/resolv.conf", "loop",
                                    "../../../../../../var/canary"])
def test_a_link_or_nothing_in_place_of_resolv_conf(target, root, tmp_path):
    """As systemd-resolved and others have it: the task finds its file, and nothing outside its root is touched."""
    tmp_path.chmod(0o755)
    image = make_image(tmp_path / "image", ["cat"])
    etc = image / "etc"
    if target:
        (etc / "resolv.conf").symlink_to(target)
    if target == "loop":
        (etc / "loop").symlink_to("resolv.conf")
    parts = {str(image / name): f"/{name}" for name in ("bin", "lib", "lib64", "usr", "etc")}
    d = Daemon(BINARY, "--chroot-env",
               ",".join(f"{k}={v}" for k, v in parts.items()))
    try:
        body = {"command": "/bin/cat", "args": ["/etc/resolv.conf"], "root": root,
                **net("host", dns={"servers": ["192.0.2.7"]})}
        reply = d.post("/v1/tasks?wait=exited&output=true", body)
        if target == "loop":
            assert reply.status == 500 and reply.json["step"] == "network_files" and reply.json["errno"] == "ELOOP"
        else:
            assert reply.status == 201 and reply.json["output"]["stdout"] == "nameserver 192.0.2.7\n", reply.body
        assert not pathlib.Path("/var/canary").exists()
        assert os.readlink(etc / "resolv.conf") == target if target else not (etc / "resolv.conf").exists()
    finally:
        d.stop()


# the spec and the policy

@pytest.mark.parametrize("network,at", [
    ({"mode": "private"}, "/network/mode"),
    ({"mode": "group"}, "/network/group"),
    ({"mode": "none", "group": "g"}, "/network/group"),
    ({"group": "g"}, "/network/group"),
    ({"mode": "group", "group": "../x"}, "/network/group"),
    ({"mode": "group", "group": "g" * 129}, "/network/group"),
    ({"mode": "group", "group": "g", "ports": [{"task": 1}]}, "/network/ports"),
    ({"ports": [{"task": 1}]}, "/network/ports"),
    ({"mode": "bridge", "ports": [{"host": 1}]}, "/network/ports/0/task"),
    ({"mode": "bridge", "ports": [{"task": 65536}]}, "/network/ports/0/task"),
    ({"mode": "bridge", "ports": [{"task": 1, "host_ip": "host"}]}, "/network/ports/0/host_ip"),
    ({"mode": "bridge", "ports": [{"task": 1, "protocol": "sctp"}]}, "/network/ports/0/protocol"),
    ({"mode": "bridge", "ports": [{"host": 9, "task": 1}, {"host": 9, "task": 2, "host_ip": "192.0.2.1"}]},
     "/network/ports/1/host"),
    ({"dns": {"servers": ["1.2.3"]}}, "/network/dns/servers/0"),
    ({"dns": {"servers": ["192.0.2.1"] * 4}}, "/network/dns/servers"),
    ({"dns": {"searches": ["a b"]}}, "/network/dns/searches/0"),
    ({"dns": {"options": ["ndots:2\nnameserver 192.0.2.1"]}}, "/network/dns/options/0"),
])
def test_bad_networks_name_the_field(daemon, network, at):
    assert pointer(refused(daemon, network)) == at


def test_modes_that_the_operator_denies():
    d = Daemon(BINARY, "--network-modes", "none,group", "--default-network-mode", "none")
    try:
        assert out(d.run("/bin/readlink", NET)) != os.readlink(NET) + "\n"
        for mode in ("host", "bridge"):
            problem = refused(d, {"mode": mode}, 403)
            assert (problem["code"], pointer(problem)) == ("network_mode_denied", "/network/mode")
        assert d.get("/v1/driver").json["capabilities"]["network_modes"] == ["none", "group"]
    finally:
        d.stop()


@pytest.mark.parametrize("flags", [("--network-modes", "host,cni"), ("--network-modes", "none"),
                                   ("--bridge-name", "a/b"), ("--bridge-name", "x" * 16), ("--bridge-subnet", "10.0.0.0"),
                                   ("--bridge-subnet", "10.0.0.0/33"), ("--cni-path", "usr/lib"),
                                   ("--default-network-mode", "group")])
def test_bad_options_are_told(daemon, flags):
    run = subprocess.run([daemon.binary, "--check-config", *flags], capture_output=True, text=True, check=False)
    assert run.returncode == 2 and flags[0][2:].replace("-", "_").split("_")[0] in run.stderr, run


# bridge

def test_bridge_reaches_the_host_and_the_host_reaches_it(bridged):
    before = bridged.census()
    task = bridged.start_task("/usr/bin/python3", "-c", SERVE.format(8000), **net("bridge"))
    network = bridged.task(task["id"])["network"]
    assert network["interface"] == "eth0" and network["ip"].startswith("172.27.6") and network["ports"] == []
    assert bridged.in_netns("curl", "-s", "--retry", "50", "--retry-connrefused", "--retry-delay", "1", "-o", "/dev/null",
                            "-w", "%{http_code}", f"http://{network['ip']}:8000/") == "200"
    server = subprocess.Popen(["nsenter", f"--net=/proc/{bridged.process.pid}/ns/net", "python3", "-c",
                               SERVE.format(8001)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://{network['gateway']}:8001/"
        bridged.in_netns("curl", "-s", "--retry", "50", "--retry-connrefused", "--retry-delay", "1", url)
        assert out(bridged.run("/usr/bin/python3", "-c", FETCH, url, **net("bridge"))) == "200\n"
    finally:
        server.kill()
        server.wait()
    assert out(bridged.run("/usr/bin/python3", "-c", FETCH, f"http://{network['ip']}:8000/", **net("bridge"))) == "200\n"
    for t in bridged.get("/v1/tasks?limit=1000").json["items"]:
        delete(bridged, t)
    bridged.assert_as_before(before)


def test_bridge_hosts_and_interfaces(bridged):
    task = bridged.sh("hostname; tail -n 1 /etc/hosts; ls /sys/class/net", hostname="web", **net("bridge"))
    lines = out(task).splitlines()
    assert lines == ["web", f"{task['network']['ip']} web", "eth0", "lo"]


def test_port_mapping(bridged):
    before = bridged.census()
    ports = [{"host": 18080, "task": 80}, {"task": 53, "protocol": "udp"}]
    task = bridged.start_task("/usr/bin/python3", "-c", SERVE.format(80), user="daemon", cap_add=["net_bind_service"],
                              **net("bridge", ports=ports))
    network = bridged.task(task["id"])["network"]
    assert network["ports"][0] == {"host": 18080, "task": 80, "protocol": "tcp"}
    assert 20000 <= network["ports"][1]["host"] <= 32000 and network["ports"][1]["protocol"] == "udp"
    for address in (network["gateway"], "127.0.0.1"):
        assert bridged.in_netns("curl", "-s", "--retry", "50", "--retry-connrefused", "--retry-delay", "1", "-o",
                                "/dev/null", "-w", "%{http_code}", f"http://{address}:18080/") == "200"
    problem = refused(bridged, {"mode": "bridge", "ports": [{"host": 18080, "task": 1}]}, 409)
    assert (problem["code"], pointer(problem)) == ("port_unavailable", "/network/ports/0/host")
    problem = refused(bridged, {"mode": "bridge", "ports": [{"task": 1}, {"host": bridged.port, "task": 1}]}, 409)
    assert pointer(problem) == "/network/ports/1/host"
    delete(bridged, task)
    bridged.assert_as_before(before)
    again = bridged.start_task("/bin/sleep", "60", **net("bridge", ports=ports))  # it is free again
    delete(bridged, again)


def test_a_group_on_the_bridge_has_one_address(bridged):
    before = bridged.census()
    first = bridged.start_task("/bin/sleep", "60", **net("group", group="b"))
    second = bridged.start_task("/bin/sleep", "60", **net("bridge", group="b", ports=[{"host": 18081, "task": 80}]))
    third = bridged.start_task("/bin/sleep", "60", **net("bridge", group="b"))
    assert len({netns_of(t) for t in (first, second, third)}) == 1
    assert bridged.task(second["id"])["network"]["ip"] == bridged.task(third["id"])["network"]["ip"] != ""
    problem = refused(bridged, {"mode": "bridge", "group": "b", "ports": [{"task": 81}]}, 409)
    assert (problem["code"], pointer(problem)) == ("group_attached", "/network/ports")
    for task in (second, first, third):
        assert any("group-b" in path for path in bridged.network())
        delete(bridged, task)
    bridged.assert_as_before(before)


def test_a_restart_keeps_the_address(bridged):
    task = bridged.start_task("/bin/sleep", "60", **net("bridge", ports=[{"host": 18082, "task": 80}]))
    before = bridged.task(task["id"])["network"]
    assert bridged.post(f"/v1/tasks/{task['id']}/restart", {}).status in (200, 202)
    again = wait_until(lambda: (t := bridged.task(task["id"]))["restarts"] == 1 and t["state"] == "running" and t)
    assert again["network"] == before
    delete(bridged, task)


def test_a_killed_supervisor_leaves_nothing_on_the_bridge(bridged):
    before = bridged.census()
    task = bridged.start_task("/bin/sleep", "60", **net("bridge", ports=[{"host": 18083, "task": 80}]))
    os.kill(supervisor(task), signal.SIGKILL)
    assert bridged.wait_ended(task["id"])["state"] == "lost"
    wait_until(lambda: bridged.network() == before["network"], 20, "the end of its network")
    delete(bridged, task)
    bridged.assert_as_before(before)


FORGE = """
import socket, subprocess, sys, time
def ip(words): subprocess.run(['ip', *words.split()], check=True)
gateway = subprocess.check_output(['ip', 'route']).decode().split('default via ')[1].split()[0]
own = socket.gethostbyname(socket.gethostname())
ip('addr flush dev lo')
subprocess.run('ip route flush table local 127.0.0.0/8', shell=True)
ip('route add 127.0.0.0/8 via ' + gateway + ' src ' + own)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(5):
    s.sendto(b'forged', ('127.0.0.1', int(sys.argv[1])))
    time.sleep(.1)
"""
LISTEN = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 18099))
print('listening', flush=True)
print(s.recv(9).decode())
"""
TELL = "import socket;socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'nothing', ('127.0.0.1', 18099))"


@needs_bridge
@pytest.mark.parametrize("guarded", [True, False])
def test_the_bridge_leads_no_forged_packet_to_the_hosts_loopback(guarded):
    """portmap lets loopback addresses be routed, for mapped ports (CVE-2020-8558). The control takes our rule away."""
    d = Daemon(BINARY, "--allow-caps", "net_admin,net_raw", *PATIENT, netns=True)
    try:
        held = d.start_task("/bin/sleep", "60", **net("bridge", ports=[{"host": 18084, "task": 80}]))
        if not guarded:
            d.in_netns("iptables", "-t", "raw", "-F")
        listener = subprocess.Popen(["nsenter", f"--net=/proc/{d.process.pid}/ns/net", "python3", "-c", LISTEN],
                                    stdout=subprocess.PIPE, text=True)
        assert listener.stdout.readline() == "listening\n"
        out(d.run("/usr/bin/python3", "-c", FORGE, "18099", cap_add=["net_admin", "net_raw"], **net("bridge")))
        d.in_netns("python3", "-c", TELL)  # the host itself may; what came before it is what the task sent
        assert listener.communicate(timeout=60)[0] == ("nothing\n" if guarded else "forged\n")
        delete(d, held)
    finally:
        d.stop()


# plugins that fail

FAKE = """#!/bin/sh
echo "$CNI_COMMAND" >> {dir}/log
cat > {dir}/input.$CNI_COMMAND
[ "$CNI_COMMAND" = DEL ] && [ -e {dir}/broken ] && exit 1
[ "$CNI_COMMAND" = ADD ] || exit 0
{add}
"""


class Fake:
    def __init__(self, tmp_path, add):
        tmp_path.chmod(0o755)
        self.log, self.dir = tmp_path / "log", tmp_path
        plugin = tmp_path / "fake"
        plugin.write_text(FAKE.format(dir=tmp_path, add=add))
        plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
        self.conf = tmp_path / "conf"
        self.conf.mkdir()
        (self.conf / "cloister.conflist").write_text(json.dumps(
            {"cniVersion": "1.0.0", "name": "t", "plugins": [{"type": "fake", "own": 1}]}))

    def daemon(self, *flags):
        return Daemon(BINARY, *flags, "--cni-path", str(self.dir), "--cni-config-dir", str(self.conf))

    def commands(self):
        return self.log.read_text().split()


@pytest.mark.parametrize("add,errno,words", [
    ("echo '{\"code\": 7, \"msg\": \"no more wires\"}'; exit 1", "EIO", "no more wires"),
    ("echo 'on stderr' >&2; exit 3", "EIO", "status 3): on stderr"),
    ("kill -9 $$", "EIO", "signal 9"),
    ("echo 'no json'", "EBADMSG", "gave no result"),
    ("true", "EBADMSG", "gave no result"),
    ("head -c 5000000 /dev/zero; echo '{}'", "EBADMSG", "gave no result"),
    ("sleep 300 & sleep 300", "ETIMEDOUT", "did not end its ADD"),
])
def test_a_plugin_that_fails_is_named_and_undone(tmp_path, add, errno, words):
    fake = Fake(tmp_path, add)
    d = fake.daemon("--cni-timeout", "5") if errno == "ETIMEDOUT" else fake.daemon()
    try:
        before = d.census()
        problem = refused(d, {"mode": "bridge"}, 500)
        assert (problem["step"], problem["errno"]) == ("network", errno) and "fake" in problem["detail"]
        assert words in problem["detail"]
        assert fake.commands()[-2:] == ["ADD", "DEL"]
        d.assert_as_before(before)
    finally:
        d.stop()


def test_a_plugin_gets_what_the_specification_says_and_nothing_of_ours(tmp_path):
    fake = Fake(tmp_path, f"env > {tmp_path}/env; ls /proc/self/fd > {tmp_path}/fds\n"
                          "echo '{\"cniVersion\": \"1.0.0\", \"ips\": []}'")
    d = fake.daemon()
    try:
        task = d.start_task("/bin/sleep", "60", **net("bridge"))
        delete(d, task)
        names = {line.split("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
        assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {
            "CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH", "PATH"}
        assert (tmp_path / "fds").read_text().split() == ["0", "1", "2", "3"]  # 3 is the listing's own
        assert json.loads((tmp_path / "input.ADD").read_text()) == {
            "cniVersion": "1.0.0", "name": "t", "type": "fake", "own": 1}
        assert json.loads((tmp_path / "input.DEL").read_text())["prevResult"] == {"cniVersion": "1.0.0", "ips": []}
        assert task["network"] == {"mode": "bridge", "interface": "eth0", "ip": None, "gateway": None, "ports": []}
    finally:
        d.stop()


def test_an_undoing_that_fails_is_tried_again_at_the_next_start(tmp_path):
    fake = Fake(tmp_path, "echo '{\"cniVersion\": \"1.0.0\", \"ips\": []}'")
    d = fake.daemon()
    try:
        before = d.census()
        task = d.start_task("/bin/sleep", "60", **net("bridge"))
        (tmp_path / "broken").touch()
        delete(d, task)
        assert d.mounts() == before["mounts"] and [p for p in d.network() if task["id"] in p]
        (tmp_path / "broken").unlink()
        d.process.send_signal(signal.SIGTERM)
        assert d.process.wait(20) == 0
        d.start()
        wait_until(lambda: d.census() == before, 10, "the second attempt")
        assert fake.commands()[-1] == "DEL"
    finally:
        d.stop()


def test_an_address_that_nobody_has_ends_the_start(tmp_path):
    fake = Fake(tmp_path, "echo '{\"cniVersion\": \"1.0.0\", \"ips\": [{\"address\": \"192.0.2.9/24\"}]}'")
    d = fake.daemon()
    try:
        before = d.census()
        problem = refused(d, {"mode": "bridge"}, 500)
        assert (problem["step"], problem["errno"]) == ("network", "EADDRNOTAVAIL")
        d.assert_as_before(before)
    finally:
        d.stop()


@needs_bridge
def test_what_earlier_plugins_did_is_undone_when_a_later_one_fails(tmp_path):
    """The firewall plugin knows by the result before what to remove."""
    fake = Fake(tmp_path, "exit 1")
    d = Daemon(BINARY, *PATIENT, "--cni-path", f"{CNI}:{tmp_path}", "--cni-config-dir", str(fake.conf), netns=True)
    try:
        conflist = json.loads((d.dir / "run/cni/cloister.conflist").read_text())
        conflist["plugins"].append({"type": "fake"})
        (fake.conf / "cloister.conflist").write_text(json.dumps(conflist))
        before = d.census()
        problem = refused(d, {"mode": "bridge", "ports": [{"task": 80}]}, 500)
        assert "plugin fake" in problem["detail"], problem
        d.assert_as_before(before)
    finally:
        d.stop()


def test_a_supervisor_killed_while_a_plugin_works(tmp_path):
    fake = Fake(tmp_path, "sleep 300")
    d = fake.daemon()
    try:
        before = d.census()
        body = json.dumps({"command": "/bin/true", **net("bridge")}).encode()
        client = subprocess.Popen(["curl", "-s", "--unix-socket", d.socket, "-H", "Content-Type: application/json", "-d",
                                   body, "http://localhost/v1/tasks"], stdout=subprocess.DEVNULL)
        wait_until(lambda: fake.log.exists() and "ADD" in fake.commands(), 10, "the plugin's start")
        pid = next(pid for pid, name in d.children().items() if name == "cloister-task")
        os.kill(pid, signal.SIGKILL)
        client.wait(20)
        wait_until(lambda: fake.commands()[-1] == "DEL", 10, "the undoing")
        for task in d.get("/v1/tasks").json["items"]:
            delete(d, task)
        wait_until(lambda: d.census() == before, 10, "the removal of everything")
    finally:
        d.stop()


def test_a_missing_plugin_is_named(tmp_path):
    d = Daemon(BINARY, "--cni-path", str(tmp_path))
    try:
        problem = refused(d, {"mode": "bridge"})
        assert pointer(problem) == "/network/mode" and "plugin bridge" in problem["errors"][0]["detail"]
        attributes = d.get("/v1/attributes").json["attributes"]
        assert "driver.network.bridge" not in attributes and attributes["driver.network.group"] == "1"
        assert "bridge" not in d.get("/v1/driver").json["capabilities"]["network_modes"]
    finally:
        d.stop()


@needs_bridge
def test_attributes_of_the_bridge(bridged):
    attributes = bridged.get("/v1/attributes").json["attributes"]
    assert attributes["driver.network.bridge"] == "1"
    assert {n for n in attributes if n.startswith("plugins.cni.")} == {
        f"plugins.cni.version.{p}" for p in ("bridge", "host-local", "firewall", "portmap")}
    start = time.monotonic()
    assert bridged.get("/v1/driver").json["capabilities"]["network_modes"] == ["host", "none", "group", "bridge"]
    assert time.monotonic() - start < 5


def test_a_start_that_fails_later_leaves_the_bridge_as_it_was(bridged):
    bridged.run("/bin/true", **net("bridge"))
    for task in bridged.get("/v1/tasks").json["items"]:
        delete(bridged, task)
    before = bridged.census()
    reply = bridged.post("/v1/tasks", {"command": "/no/such", **net("bridge", ports=[{"host": 18085, "task": 80}])})
    assert reply.status == 422 and pointer(reply.json) == "/command"
    bridged.assert_as_before(before)


def test_many_at_once_have_an_address_each_and_leave_nothing(bridged):
    before = bridged.census()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        own = list(pool.map(lambda _: bridged.start_task("/bin/sleep", "60", **net("bridge", ports=[{"task": 80}])),
                            range(12)))
        shared = list(pool.map(lambda _: bridged.start_task("/bin/sleep", "60", **net("bridge", group="many")), range(6)))
    views = [bridged.task(t["id"])["network"] for t in own]
    assert len({v["ip"] for v in views}) == len({v["ports"][0]["host"] for v in views}) == len(own)
    assert len({netns_of(t) for t in shared}) == 1
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda t: delete(bridged, t), own + shared))
    bridged.assert_as_before(before)


def test_a_group_that_all_enter_and_leave_at_once(daemon):
    before = daemon.census()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        tasks = list(pool.map(lambda _: daemon.run("/bin/true", **net("group", group="busy")), range(60)))
        assert {t["exit"]["code"] for t in tasks} == {0}
        assert daemon.network() == before["network"]
        list(pool.map(lambda t: delete(daemon, t), tasks))
    daemon.assert_as_before(before)


def test_the_default_configuration_is_written_and_the_operators_is_preferred(daemon, tmp_path):
    written = json.loads((daemon.dir / "run/cni/cloister.conflist").read_text())
    assert written["name"] == "cloister0" and [p["type"] for p in written["plugins"]] == ["bridge", "firewall", "portmap"]
    fake = Fake(tmp_path, "exit 0")
    text = (fake.conf / "cloister.conflist").read_text()
    d = fake.daemon()
    try:
        assert (fake.conf / "cloister.conflist").read_text() == text
        assert "plugins.cni.version.fake" in d.get("/v1/attributes").json["attributes"]
    finally:
        d.stop()


@needs_bridge
def test_a_supervisor_that_dies_before_it_attaches_leaves_no_port(bridged):
    d, before = bridged, bridged.census()
    spec = {"command": "/bin/true", **net("bridge", ports=[{"host": 18080, "task": 80}])}
    with traced(d.process.pid, "-f", "-e", "trace=renameat", "-e", "inject=renameat:signal=KILL:when=1"):
        reply = d.post("/v1/tasks", spec)  # it dies as it is about to note what the attachment needs
    assert reply.status == 500 and reply.json["code"] == "launch_cut_short", reply.body
    for row in d.rows():
        assert d.request("DELETE", f"/v1/tasks/{row}").status == 204
    d.assert_as_before(before)
    delete(d, d.post("/v1/tasks?wait=exited", spec).json)
    d.assert_as_before(before)


@needs_bridge
def test_a_supervisor_that_dies_before_it_is_a_member_leaves_no_directory(bridged):
    d, before = bridged, bridged.census()
    with traced(d.process.pid, "-f", "-e", "trace=mkdirat", "-e", "inject=mkdirat:signal=KILL:when=3") as trace:
        assert d.post("/v1/tasks", {"command": "/bin/true", **net("bridge")}).status == 500
    assert '"members"' in trace.text, trace.text
    for row in d.rows():
        assert d.request("DELETE", f"/v1/tasks/{row}").status == 204
    d.assert_as_before(before)


def test_a_supervisor_that_dies_on_its_way_into_or_out_of_a_group_leaves_nothing(own_daemon):
    d, before = own_daemon, own_daemon.census()
    spec = {"command": "/bin/sleep", "args": ["60"], **net("group", group="cut")}
    with traced(d.process.pid, "-f", "-e", "trace=mkdirat", "-e", "inject=mkdirat:signal=KILL:when=3"):
        assert d.post("/v1/tasks", spec).json["code"] == "launch_cut_short"
    d.assert_as_before(before)
    task = d.post("/v1/tasks", spec).json
    with traced(supervisor(task), "-e", "trace=umount2", "-e", "inject=umount2:signal=KILL:when=1"):
        assert d.post(f"/v1/tasks/{task['id']}/stop", {"timeout": "0s"}).status == 202
        assert d.wait_ended(task["id"])["state"] == "lost"
    delete(d, task)
    d.assert_as_before(before)
