"""Volumes of the host in a task: where they may go, what can be written, which mounts travel."""
import json
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile

import pytest

from conftest import BINARY, Daemon, wait_until
from fault_sweep import traced
from roots import make_image

MODES = ["overlay", "readonly", "copy"]


class Host:
    """A volume on a shared mount, with another mount below it; and some odd ones."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cloister-volumes-"))
        self.dir.chmod(0o755)
        self.disk = self.dir / "disk"
        self.disk.mkdir()
        self.mount("disk", self.disk)
        subprocess.run(["mount", "--make-shared", self.disk], check=True)
        self.data = self.disk / "data"
        self.data.mkdir()
        self.data.chmod(0o777)
        (self.data / "file").write_text("host\n")
        self.sub = self.data / "sub"
        self.sub.mkdir()
        self.mount("sub", self.sub)
        (self.sub / "below").write_text("below\n")
        shutil.copy2("/bin/cat", self.data / "setuid")
        (self.data / "setuid").chmod(0o4755)
        (self.data / "only-root").write_text("top secret")
        (self.data / "only-root").chmod(0o600)
        os.mknod(self.data / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        (self.data / "null").chmod(0o666)
        self.alone = self.dir / "alone"
        self.alone.mkdir()
        self.mount("alone", self.alone)
        subprocess.run(["mount", "--make-private", self.alone], check=True)
        (self.alone / "inner").mkdir()
        (self.alone / "inner/below").write_text("inner\n")
        (self.dir / "link").symlink_to(self.data)
        self.image = make_image(self.dir / "image")
        (self.image / "inside").mkdir()
        (self.image / "absolute").symlink_to("/inside")
        (self.image / "upward").symlink_to("../../../../../inside")
        (self.image / "itself").symlink_to("/")
        (self.image / "kernel").symlink_to("/proc")

    @staticmethod
    def mount(name, place):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=777,size=1m", name, place], check=True)

    def config(self):
        return {
            "plugin": {"exec": {"config": {"allow_caps": ["all"]}}},
            "client": {
                "user_denylist": [],
                "chroot": {"image": {str(self.image): "/"}},
                "host_volume": {
                    "data": {"path": str(self.data), "allow_bidirectional": True},
                    "fixed": {"path": str(self.data), "read_only": True},
                    "strict": {"path": str(self.data)},
                    "one": {"path": str(self.data / "file")},
                    "gone": {"path": str(self.dir / "gone")},
                    "device": {"path": str(self.data / "null")},
                    "inner": {"path": str(self.alone / "inner")},
                    "linked": {"path": str(self.dir / "link")},
                    "alone": {"path": str(self.alone), "allow_bidirectional": True},
                },
            },
        }

    def close(self):
        for place in (self.alone, self.disk):
            subprocess.run(["umount", "-R", place], check=True)
        shutil.rmtree(self.dir)


@pytest.fixture(scope="module")
def host():
    h = Host()
    yield h
    h.close()


@pytest.fixture(scope="module")
def volumes(host):
    file = host.dir / "cloister.json"
    file.write_text(json.dumps(host.config()))
    d = Daemon(BINARY, "--config", file)
    yield d
    d.stop()


def at(destination, volume="data", **more):
    return [{"volume": volume, "destination": destination, **more}]


def out(task):
    assert task["exit"]["code"] == 0, task["output"]
    return task["output"]["stdout"]


def refused(daemon, pointer, status=422, **spec):
    before = daemon.census()
    reply = daemon.post("/v1/tasks", {"command": "/bin/true", **spec})
    assert reply.status == status and reply.json["errors"][0]["pointer"] == pointer, reply.body
    daemon.assert_as_before(before)
    return reply.json


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("destination", ["/data", "/not/there/yet", "/usr/lib/made", "/srv/a/b", "//mnt/./", "/local/x"])
def test_a_volume_shows_at_its_place_in_every_root(volumes, host, mode, destination):
    script = f"cd {destination}; cat file sub/below; echo task > from-task; ls /usr/bin/sh"
    task = volumes.sh(script, root=mode, chroot="image", volume_mounts=at(destination))
    assert out(task) == "host\nbelow\n/usr/bin/sh\n"
    assert (host.data / "from-task").read_text() == "task\n"
    (host.data / "from-task").unlink()


def test_the_default_chroot_takes_volumes_when_read_only(volumes):
    task = volumes.sh("cat /new/data/file; ls -d /usr/lib /etc/passwd /bin/sh", root="readonly",
                      volume_mounts=at("/new/data"))
    assert out(task) == "host\n/bin/sh\n/etc/passwd\n/usr/lib\n"


def test_places_below_a_directory_with_mounts_of_its_own(volumes):
    """/etc is a mount of the read-only root, and so is what is extended; several places may be in one directory."""
    mounts = at("/usr/x") + at("/usr/y/z", "fixed") + at("/x", "one") + at("/etc/y", "strict")
    task = volumes.sh("cat /usr/x/file /usr/y/z/sub/below /x /etc/y/file; ls /usr/bin/sh", root="readonly",
                      volume_mounts=mounts)
    assert out(task) == "host\nbelow\nhost\nhost\n/usr/bin/sh\n"


@pytest.mark.parametrize("mode", MODES)
def test_a_file_can_be_a_volume(volumes, host, mode):
    for destination in ("/etc/passwd", "/etc/new.conf"):
        task = volumes.sh(f"cat {destination}; (echo x > {destination}) 2>/dev/null || echo kept", root=mode, user="0",
                          chroot="image", volume_mounts=at(destination, "one", read_only=True))
        assert out(task) == "host\nkept\n"
    assert (host.image / "etc/passwd").read_text().startswith("root")


@pytest.mark.parametrize("spec", [at("/v", "fixed"), at("/v", read_only=True)])
def test_read_only_holds_for_mounts_below_too(volumes, spec):
    script = ("for f in /v/x /v/sub/x; do (echo x > $f) 2>/dev/null && echo wrote $f; done;"
              "mount -o remount,bind,rw /v; mount -o remount,bind,rw /v/sub; true")
    assert out(volumes.sh(script, user="0", volume_mounts=spec)) == ""
    control = volumes.sh("(echo x > /v/x) && echo wrote; (echo x > /v/sub/x) && echo wrote; rm /v/x /v/sub/x", user="0",
                         volume_mounts=at("/v"))
    assert out(control) == "wrote\nwrote\n"


def test_set_id_bits_and_devices_in_a_volume_give_nothing(volumes, host):
    spec = {"user": "nobody", "no_new_privs": False, "volume_mounts": at("/v")}
    task = volumes.sh("/v/setuid /v/only-root; echo x > /v/null", **spec)
    assert task["output"]["stdout"] == "" and task["output"]["stderr"].count("ermission denied") == 2, task["output"]
    control = subprocess.run([host.data / "setuid", host.data / "only-root"], check=True, user=65534, capture_output=True)
    assert control.stdout == b"top secret"
    (host.data / "null").write_text("the control")


@pytest.mark.parametrize("destination", [
    "/", "//", "/.", "/proc", "/proc/", "//proc/.", "/proc/self", "/sys/fs", "/dev", "/dev/pts", "/dev/shm", "/local",
    "/alloc/", "/secrets", "/tmp", "relative", "", "/a/../proc", "/..", "/a/.."])
def test_places_that_are_taken_are_refused(volumes, destination):
    refused(volumes, "/volume_mounts/0/destination", volume_mounts=at(destination))


def test_names_that_no_file_can_have_are_refused_or_stay_inside(volumes):
    for name in ("/" + "a" * 256, "/a" * 2047):
        refused(volumes, "/volume_mounts/0/destination", volume_mounts=at(name))
    for name in ("/a" * 1024, "/a b\nc", "/a\\b:,c", "/" + "a" * 255):
        task = volumes.run("/bin/cat", f"{name}/file", volume_mounts=at(name, read_only=True), root="readonly")
        assert out(task) == "host\n"


def test_unknown_volumes_and_members_are_refused(volumes):
    refused(volumes, "/volume_mounts/0/volume", volume_mounts=at("/v", "none"))
    refused(volumes, "/volume_mounts/0/destination", volume_mounts=[{"volume": "data"}])
    refused(volumes, "/volume_mounts/0/propagation_mode", volume_mounts=at("/v", propagation_mode="shared"))
    refused(volumes, "/volume_mounts/0/bogus", volume_mounts=at("/v", bogus=1))
    refused(volumes, "/volume_mounts/1/destination", volume_mounts=at("/v") + at("//v/"))


def test_a_volume_that_the_host_lacks_is_named(volumes):
    answer = refused(volumes, "/volume_mounts/1/volume", volume_mounts=at("/a") + at("/b", "gone"))
    assert answer["step"] == "volume_mounts" and answer["errno"] == "ENOENT"
    refused(volumes, "/volume_mounts/0/volume", volume_mounts=at("/b", "device"))


def test_a_volumes_path_is_no_longer_followed_once_the_daemon_runs(volumes, host):
    """A task that has the outer volume could replace the inner one by a link to any place of the host."""
    assert out(volumes.sh("cat /v/below", volume_mounts=at("/v", "inner"))) == "inner\n"
    task = volumes.sh("rm -rf /v/inner && ln -s /etc /v/inner", user="0", volume_mounts=at("/v", "alone"))
    assert out(task) == "" and (host.alone / "inner").is_symlink()
    answer = refused(volumes, "/volume_mounts/0/volume", volume_mounts=at("/v", "inner"))
    assert answer["errno"] == "ELOOP"


def test_links_in_the_operators_path_are_followed(volumes):
    assert out(volumes.sh("cat /v/file", volume_mounts=at("/v", "linked"))) == "host\n"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("link", ["/absolute", "/upward"])
def test_links_to_a_place_stay_inside(volumes, host, mode, link):
    task = volumes.sh("cat /inside/file; ls -A /inside/sub", root=mode, chroot="image", volume_mounts=at(link))
    assert out(task) == "host\nbelow\n"
    assert os.listdir(host.image / "inside") == [] and not pathlib.Path("/inside").exists()


@pytest.mark.parametrize("mode", MODES)
def test_a_path_is_tried_again_when_the_host_has_changed_meanwhile(volumes, mode):
    """openat2(2), EAGAIN: any rename or mount on the host, while a ".." is followed."""
    with traced(volumes.process.pid, "-f", "-e", "trace=openat2", "-e", "inject=openat2:error=EAGAIN:when=1+2") as trace:
        task = volumes.sh("cat /inside/file", root=mode, chroot="image", volume_mounts=at("/upward"), work_dir="/upward")
    assert out(task) == "host\n" and trace.text.count("EAGAIN") > 3


@pytest.mark.parametrize("mode", MODES)
def test_links_to_the_root_or_the_kernels_files_give_nothing(volumes, mode):
    refused(volumes, "/volume_mounts/0/destination", root=mode, chroot="image", volume_mounts=at("/itself"))
    task = volumes.sh("ls /proc/self/status /kernel/sys/kernel/hostname; cat /kernel/file 2>/dev/null; true", root=mode,
                      chroot="image", volume_mounts=at("/kernel"))
    assert out(task) == "/kernel/sys/kernel/hostname\n/proc/self/status\n"


def test_the_operator_decides_on_propagation(volumes):
    refused(volumes, "/volume_mounts/0/propagation_mode", 403,
            volume_mounts=at("/v", "strict", propagation_mode="bidirectional"))
    for mode in ("host-to-task", "bidirectional"):
        refused(volumes, "/volume_mounts/0/propagation_mode", volume_mounts=at("/v", "fixed", propagation_mode=mode))
        refused(volumes, "/volume_mounts/0/propagation_mode",
                volume_mounts=at("/v", read_only=True, propagation_mode=mode))
        refused(volumes, "/volume_mounts/0/propagation_mode", volume_mounts=at("/v", "alone", propagation_mode=mode))


@pytest.mark.parametrize("mode,to_task,to_host", [("private", False, False), ("host-to-task", True, False),
                                                  ("bidirectional", True, True)])
def test_mounts_travel_as_the_mode_says(volumes, host, mode, to_task, to_host):
    for name in ("from-host", "from-task", "go"):
        (host.data / name).mkdir(exist_ok=True)
    script = ("mount -t tmpfs t /v/from-task && echo x > /v/from-task/seen; touch /v/go/mounted;"
              "while [ ! -e /v/go/on ]; do sleep 0.05; done; ls -A /v/from-host")
    task = volumes.start_task("/bin/sh", "-c", script, user="0", cap_add=["sys_admin"],
                              volume_mounts=at("/v", propagation_mode=mode))
    try:
        wait_until((host.data / "go/mounted").exists, what="the task's mount")
        assert (host.data / "from-task/seen").exists() == to_host
        host.mount("h", host.data / "from-host")
        (host.data / "from-host/seen").write_text("x")
        (host.data / "go/on").write_text("")
        ended = volumes.wait_ended(task["id"])
        logs = volumes.get(f"/v1/tasks/{task['id']}/logs").body.decode()
        assert ended["exit"]["code"] == 0 and logs == ("seen\n" if to_task else "")
    finally:
        volumes.request("DELETE", f"/v1/tasks/{task['id']}?force=true")
        subprocess.run(["umount", host.data / "from-host"], check=False)
        if to_host:
            subprocess.run(["umount", host.data / "from-task"], check=False)
        shutil.rmtree(host.data / "go")


def test_what_the_operator_configured_is_told(volumes):
    capabilities = volumes.get("/v1/driver").json["capabilities"]
    assert {"name": "fixed", "read_only": True, "allow_bidirectional": False} in capabilities["volumes"]
    assert capabilities["chroots"] == ["default", "image"] and capabilities["roots"] == MODES


@pytest.mark.parametrize("client,word", [
    ({"chroot": {"a": {}}}, "empty"), ({"chroot": {"a": {"/b": "c"}}}, "absolute"), ({"chroot": {"a": {"/b": 1}}}, "/b"),
    ({"chroot": {"a": {"/b": "/c", "/d": "/c/"}}}, "two sources"), ({"chroot": {"default": {"/b": "/c"}}}, "default"),
    ({"chroot": {"a": {"/b": "/../c"}}}, "absolute"), ({"chroot": {"a": "/b"}}, "chroot"),
    ({"host_volume": {"a": {}}}, "path"), ({"host_volume": {"a": {"path": "b"}}}, "absolute"),
    ({"host_volume": {"a": {"path": "/b", "bogus": 1}}}, "bogus"), ({"host_volume": ["a"]}, "host_volume"),
    ({"host_volume": {"a": {"path": "/b", "read_only": "yes"}}}, "read_only")])
def test_a_bad_configuration_is_named(tmp_path, client, word):
    file = tmp_path / "bad.json"
    file.write_text(json.dumps({"client": client}))
    result = subprocess.run([BINARY, "--config", file, "--check-config"], check=False, capture_output=True, text=True)
    assert result.returncode == 2 and word in result.stderr, result.stderr


def test_blocks_and_flags_say_the_same(tmp_path):
    file = tmp_path / "cloister.conf"
    file.write_text('client {\n  chroot "debian" { "/srv/debian" = "/" }\n'
                    '  host_volume "data" { path = "/srv/data"  read_only = true }\n}\n')
    for arguments in (["--config", file], ["--chroot", '{"debian": {"/srv/debian": "/"}}', "--host-volume",
                                           '{"data": {"path": "/srv/data", "read_only": true}}']):
        result = subprocess.run([BINARY, *arguments, "--check-config"], check=False, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
