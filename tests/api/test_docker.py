"""The recipe of the container image, without an engine: what it copies is enough to build, what it installs to run."""
import re
import shutil
import subprocess

from conftest import ROOT

RECIPE = (ROOT / "docker/Dockerfile").read_text().replace("\\\n", " ")
BUILD, RUN = re.split(r"^FROM .*\n", RECIPE, flags=re.M)[1:]


def test_what_is_copied_can_be_configured(tmp_path):
    for line in re.findall(r"^COPY (.*)$", BUILD, flags=re.M):
        *sources, target = line.split()
        target = tmp_path / target.removeprefix("/src/")
        for source in map(ROOT.joinpath, sources):
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    subprocess.run(["cmake", "--preset", "release"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    rules = subprocess.run(["ninja", "-C", "build/release", "-t", "query", "cloisterd"], cwd=tmp_path, check=True,
                           capture_output=True, text=True).stdout
    for library in ("api", "tasks", "supervisor", "server", "isolation", "base"):
        assert f"lib{library}.a" in rules


def test_the_libraries_are_installed():
    installed = set(re.search(r"install -y -q --no-install-recommends(.*?)&&", RUN, flags=re.S)[1].split())
    needed = re.findall(r"NEEDED.*\[(.*)\]", subprocess.run(["readelf", "-d", ROOT / "build/release/cloisterd"], capture_output=True, text=True,
                                                            check=True).stdout)
    place = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    owners = {subprocess.run(["dpkg", "-S", f"*/{place}/{name}"], capture_output=True, text=True, check=True)
              .stdout.split(":")[0] for name in needed}
    assert "libmicrohttpd12" in owners and owners - {"libc6"} <= installed
    assert {"e2fsprogs", "containernetworking-plugins", "iptables"} <= installed
