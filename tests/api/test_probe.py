"""A score of the default profile: each point is one way in which a task could be less isolated than it seems. All must
pass, of a task that says nothing but its command; the two points that a network of one's own decides, with mode none."""
import json
import platform

import pytest

import attempts
from conftest import BINARY, Daemon
from test_escape import CHROOT, PYTHON, SCRIPT, ground, held  # noqa: F401 (ground is a fixture)

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are x86-64's")

# name -> whether it holds, of the task that runs this.
STATUS = r"""
import glob, json, os, resource, signal, sys
s = dict(l.split(':\t', 1) for l in open('/proc/self/status').read().splitlines() if ':\t' in l)
caps = {k: int(s[k], 16) for k in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')}
# capability.h: dac_read_search linux_immutable net_broadcast net_admin net_raw ipc_lock sys_module sys_rawio sys_ptrace
# sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mac_override mac_admin syslog bpf perfmon
dangerous = sum(1 << n for n in (2, 9, 11, 12, 13, 14, 16, 17, 19, 20, 21, 22, 23, 24, 25, 26, 32, 33, 34, 38, 39))
mounts = open('/proc/self/mountinfo').read().splitlines()
stat = open('/proc/self/stat').read().rsplit(')', 1)[1].split()
umask = os.umask(0); os.umask(umask)
def no_tty():
    try: os.close(os.open('/dev/tty', os.O_RDWR)); return False
    except OSError: return True
points = {
    # identity
    'no descriptor beyond 2': sorted(os.listdir('/proc/self/fd')) == ['0', '1', '2', '3'],  # 3 is the listing's
    'working directory inside': os.getcwd().startswith('/') and not os.readlink('/proc/self/cwd').startswith('(unreachable)'),
    'no inheritable capabilities': caps['CapInh'] == 0, 'no ambient capabilities': caps['CapAmb'] == 0,
    'no effective capabilities': caps['CapEff'] == caps['CapPrm'] == 0, 'a small bounding set': caps['CapBnd'] & dangerous == 0,
    'no_new_privs': s['NoNewPrivs'] == '1', 'a filter': s['Seccomp'] == '2',
    'ids': len(set(s['Uid'].split())) == len(set(s['Gid'].split())) == 1 and os.getuid() != 0 != os.getgid(),
    'groups': os.getgroups() == [os.getgid()],
    'no signal ignored or blocked': int(s['SigIgn'], 16) & ~(1 << 12 | 1 << 24) == int(s['SigBlk'], 16) == 0,  # python's own
    'no terminal': no_tty() and stat[4] == '0', 'a session of its own': os.getsid(0) == os.getpid(),
    'a clean environment': not [k for k in os.environ if not k.startswith('NOMAD_') and k not in
                                ('PATH', 'HOME', 'USER', 'LOGNAME', 'HOSTNAME', 'LC_CTYPE', 'CLOISTER_TASK_ID', 'TMPDIR')],
    'umask': umask == 0o022, 'oom_score_adj': int(open('/proc/self/oom_score_adj').read()) >= 0,
    # namespaces
    'few processes': len([p for p in os.listdir('/proc') if p.isdigit()]) <= 5,
    'few mounts': len(mounts) < 60, # of its own directories, which are bind mounts, the kernel tells the path on the host
    'no path of the host in the mounts but its own': not [
        m for m in mounts if 'cloister' in m and os.environ['NOMAD_ALLOC_ID'] not in m],
    'place in the hierarchies hidden': all(l.split(':', 2)[2] == '/' for l in open('/proc/self/cgroup').read().splitlines()),
    'no hierarchy': not [m for m in mounts if ' - cgroup' in m],
    'sysfs is read-only': [m for m in mounts if ' - sysfs ' in m and ' ro,' in m] != [],
    'nosuid everywhere': all('nosuid' in m for m in mounts), 'nodev but in /dev': all(
        'nodev' in m or m.split()[4].startswith('/dev') or m.split()[4].startswith('/proc/') for m in mounts),
    '/proc/1/root is the own': os.stat('/proc/1/root/').st_ino == os.stat('/').st_ino,
    'nothing of the daemon': not [d for d in ('/run/cloister', '/var/lib/cloister', '/etc/cloister', sys.argv[1]) if os.path.exists(d)],
    # devices
    'a small /dev': set(os.listdir('/dev')) <= set('fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero'.split()),
    # ways out
    'no set-id program works': all(os.statvfs(d).f_flag & os.ST_NOSUID for d in ('/', '/usr/bin', '/tmp', '/local')),
    # limits
    'no core dumps': resource.getrlimit(resource.RLIMIT_CORE)[1] == 0,
    'open files bounded': 0 < resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1 << 30,
}
print(json.dumps({n: bool(v) for n, v in points.items()}))
"""
NETWORK = {"abstract socket of the host", "loopback_of_the_host"}


@pytest.fixture(scope="module")
def by_default(ground):  # noqa: F811
    """The default profile; its chroot has attempts.py besides. All that the operator may allow is as by default."""
    d = Daemon(BINARY, "--chroot-env", f"{CHROOT},{ground.dir}/program=/program")
    ground.args["api"] = d.socket
    yield d
    d.stop()


def attempted(daemon, names, args, **spec):
    task = daemon.run(PYTHON, f"/program/{SCRIPT.name}", json.dumps(sorted(names)), json.dumps(args), **spec)
    assert task["exit"]["code"] == 0, task["output"]
    return {n: o not in (0, "broken", "SIGALRM", "SIGSEGV", "SIGKILL") for n, o in json.loads(task["output"]["stdout"]).items()}


def test_no_point_fails_by_default(by_default, ground):  # noqa: F811
    points = json.loads(by_default.run(PYTHON, "-c", STATUS, str(by_default.dir))["output"]["stdout"])
    names = set(attempts.ATTEMPTS) - NETWORK
    if "sys_resource" not in held(by_default):
        names.remove("lower_oom_score_adj")  # the floor is the daemon's own, which it cannot raise
    points |= attempted(by_default, names, ground.args)
    points |= attempted(by_default, NETWORK, ground.args, network={"mode": "none"})
    failed = sorted(n for n, ok in points.items() if not ok)
    print(f"{len(points) - len(failed)} of {len(points)} points")
    assert not failed and len(points) > 120
