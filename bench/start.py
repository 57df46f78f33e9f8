#!/usr/bin/python3
"""Create-to-exited of /bin/true through the API, beside peers and the floor program, interleaved in one run.

Prints medians and ratios. Peers that are not installed, or that refuse this host (crun on hybrid cgroups), are named.
Usage, as root: bench/start.py [ROUNDS] (default 60)
"""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/api"))
from conftest import Daemon, Reply, UnixConnection  # noqa: E402

# A move between v1 groups waits for a grace period of the kernel, unless another's has just ended: long enough that none
# profits from the one before.
PAUSE_S = 0.05
RESOURCES = {"cpu": 500, "memory": 256, "pids": 100}


def cloister(daemon, connection):
    body = json.dumps({"command": "/bin/true", "resources": RESOURCES})

    def once():
        connection.request("POST", "/v1/tasks?wait=exited", body, {"Content-Type": "application/json"})
        reply = Reply(connection.getresponse())
        assert reply.json["exit"]["code"] == 0, reply.body
    return once


def bwrap():
    command = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--ro-bind", "/usr", "/usr", "--symlink",
               "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc",
               "--dev", "/dev", "--uid", "65534", "--unshare-user", "/bin/true"]
    return lambda: subprocess.run(command, check=True)


def oci(runtime, bundle):
    root = bundle / "rootfs"
    for name in ("usr", "proc", "dev", "sys", "etc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    subprocess.run([runtime, "spec", *(["--bundle", bundle] if runtime == "runc" else [])], check=True, cwd=bundle)
    config = json.loads((bundle / "config.json").read_text())
    config["process"].update(args=["/bin/true"], terminal=False, user={"uid": 65534, "gid": 65534})
    config["process"].pop("rlimits", None)
    config["mounts"] = [m for m in config["mounts"] if m["type"] != "cgroup"] + [
        {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}]
    config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]
    config["linux"]["resources"] = {"memory": {"limit": 256 << 20}, "cpu": {"shares": 500}, "pids": {"limit": 100}}
    config["linux"]["cgroupsPath"] = f"/cloister-bench-{runtime}"
    (bundle / "config.json").write_text(json.dumps(config))
    return lambda: subprocess.run([runtime, "run", "--bundle", bundle, f"bench-{os.getpid()}"], check=True,
                                  stdin=subprocess.DEVNULL, capture_output=True)


def floor(directory):
    program = str(ROOT / "build/release/floor")
    return lambda: int(subprocess.run([program, "1", directory], check=True, capture_output=True).stdout) / 1e6


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    work = pathlib.Path(tempfile.mkdtemp(prefix="cloister-bench-"))
    daemon = Daemon(ROOT / "build/release/cloisterd")
    (work / "floor").mkdir()
    contenders = {"cloister": cloister(daemon, UnixConnection(daemon.socket)), "floor": floor(work / "floor")}
    for name in ("bwrap", "crun", "runc"):
        if not shutil.which(name):
            print(f"{name}: not installed")
            continue
        try:
            if name != "bwrap":
                (work / name).mkdir()
            once = bwrap() if name == "bwrap" else oci(name, work / name)
            once()
            contenders[name] = once
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{name}: does not run here: {getattr(error, 'stderr', b'') or error}")
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, once in contenders.items():
            time.sleep(PAUSE_S)
            start = time.perf_counter()
            measured = once()
            times[name].append(measured if isinstance(measured, float) else time.perf_counter() - start)
    base = statistics.median(times["cloister"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:10} p50 {median * 1000:7.2f} ms   cloister/{name} {base / median:5.2f}   rounds {len(values)}")
    daemon.stop()
    shutil.rmtree(work)


main()
