"""System call filters: what the built-in profile lets through, measured call by call, and the operator's profiles.

Each denied attempt has a control: the same in a task without a filter gets past where the filter stands, to success or
to the kernel's own answer."""
import errno
import itertools
import json
import pathlib
import platform
import re
import signal
import subprocess
import time

import pytest

from conftest import BINARY, ROOT, Daemon

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers here are those of x86-64")

EPERM, ENOSYS = errno.EPERM, errno.ENOSYS
JUNK = 0x7fffdead  # no address, descriptor, process, flag set or size that means anything
KILLED = -signal.SIGSYS

# The lines before the script of a test: attempt(number, arguments...) is 0, the errno, or minus the signal.
PROBE = """
import ctypes, fcntl, json, mmap, os, pty, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def in_child(fn):
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 2)
        ctypes.set_errno(0)
        r = fn()
        os._exit(ctypes.get_errno() % 256 if r == -1 else 0)
    status = os.waitpid(pid, 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
def call(nr, *args):
    return libc.syscall(ctypes.c_long(nr), *[ctypes.c_ulong(a) for a in args])
def attempt(nr, *args):
    return in_child(lambda: call(nr, *args))
def attempt_socket(*args):
    fd = call(41, *args)
    return os.close(fd) or 0 if fd >= 0 else ctypes.get_errno()
"""

# Every call from 0 to 511 with arguments that mean nothing, each in a child: a result a line, as of attempt().
SWEEP = r"""
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void)
{
    for (long nr = 0; nr < 512; nr++) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
            struct itimerval limit = {.it_value.tv_sec = 2};
            setitimer(ITIMER_REAL, &limit, NULL);
            long r = syscall(nr, JUNK, JUNK, JUNK, JUNK, JUNK, JUNK);
            _exit(r == -1 ? errno : 0);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            return 1;
        printf("%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
        fflush(stdout);
    }
    return 0;
}
"""


def configuration(directory, **options):
    directory.chmod(0o755)
    file = directory / "cloister.json"
    file.write_text(json.dumps({"client": {"user_denylist": []}, "plugin": {"exec": {"config": {
        "allow_caps": ["all"], "allow_seccomp_unconfined": True, **options}}}}))
    return "--config", file


@pytest.fixture(scope="module")
def loose(tmp_path_factory):
    """A daemon whose operator allows everything."""
    d = Daemon(BINARY, *configuration(tmp_path_factory.mktemp("seccomp")))
    yield d
    d.stop()


def probe(daemon, script, *arguments, **spec):
    """What the script prints as JSON."""
    task = daemon.run("/usr/bin/python3", "-c", PROBE + script, *map(json.dumps, arguments), **spec)
    assert task["exit"]["code"] == 0, task
    return json.loads(task["output"]["stdout"])


def attempts(daemon, calls, **spec):
    """name -> result of calls: name -> [number, arguments...]."""
    return probe(daemon, "print(json.dumps({n: attempt(*c) for n, c in json.loads(sys.argv[1]).items()}))", calls, **spec)


def with_and_without(daemon, calls, **spec):
    return attempts(daemon, calls, **spec), attempts(daemon, calls, seccomp="unconfined", **spec)


def published():
    """The calls that docs/seccomp.md allows always, in part, and with a capability."""
    text = (ROOT / "docs/seccomp.md").read_text().split("## The built-in profile")[1].split("## Profiles")[0]
    always = {word for line in text.splitlines() if line.startswith("    ") for word in line.split()}
    part, more = text.split("| call |")[1].split("| capability |")
    return always, set(re.findall(r"^\| (\w+) \|", part, re.M)), \
        {cap: names.split() for cap, names in re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", more, re.M)}


# Newer than the headers of Debian 12. The kernel lets the first two through without asking any filter.
NEWER = {"uretprobe": 335, "uprobe": 336, "cachestat": 451, "fchmodat2": 452, "map_shadow_stack": 453, "futex_wake": 454,
         "futex_wait": 455, "futex_requeue": 456, "statmount": 457, "listmount": 458, "mseal": 462, "setxattrat": 463,
         "getxattrat": 464, "listxattrat": 465, "removexattrat": 466, "file_getattr": 468, "file_setattr": 469}


def numbers():
    text = pathlib.Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").read_text()
    return {**NEWER, **{name: int(number) for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)", text)}}


def sweep(daemon, **spec):
    script = f"cd /tmp && cat >sweep.c && gcc -DJUNK={JUNK}L -o sweep sweep.c && ./sweep"
    task = daemon.sh(script, stdin=SWEEP, **spec)
    assert task["exit"]["code"] == 0, task
    return [int(line) for line in task["output"]["stdout"].split()]


def test_the_surface_is_what_is_published(loose):
    always, part, more = published()
    number = numbers()
    by_default = {n for names in more.values() for n in names} - {"chroot"}  # not allowed: what wants a capability
    allowed = {number[n] for n in always | {"chroot"} if n in number}
    in_part = {number[n] for n in part}
    denied = set(range(512)) - allowed - in_part
    assert not (always | part) & (by_default - part) and len(allowed) > 280

    confined, control = sweep(loose), sweep(loose, seccomp="unconfined")
    wrong = {n: (confined[n], control[n]) for n in allowed
             if confined[n] in (EPERM, ENOSYS) and control[n] not in (EPERM, ENOSYS)}
    assert not {n for n in wrong if n <= 456}, "published, but denied"  # the others as libseccomp knows them or not
    assert not {n: confined[n] for n in denied if confined[n] not in (EPERM, ENOSYS)}, "allowed, but not published"
    assert {confined[n] for n in denied & set(number.values()) if n < 430} == {EPERM}
    assert {confined[n] for n in range(max(allowed) + 1, 512)} == {ENOSYS}
    assert len([n for n in denied if control[n] not in (EPERM, ENOSYS)]) > 30, "the control gets past too little"


DANGEROUS = {
    "add_key": [248, 0, 0, 0, 0, 0], "request_key": [249, 0, 0, 0, 0], "keyctl": [250, 0, -3 % 2**64, 0],
    "io_uring_setup": [425, 1, 0], "io_uring_enter": [426, JUNK], "io_uring_register": [427, JUNK],
    "userfaultfd": [323, 1], "unshare NEWUSER": [272, 0x10000000], "clone NEWUSER": [56, 0x10000011, 0, 0, 0, 0],
    "ptrace TRACEME": [101, 0], "process_vm_readv": [310, JUNK], "kcmp": [312, JUNK, JUNK, 0, 0, 0],
    "pidfd_getfd": [438, JUNK], "mount": [165, 0, 0, 0, 0, 0], "setns": [308, JUNK, 0],
    "open_tree": [428, JUNK, 0, 0], "fsconfig": [431, JUNK, 0], "perf_event_open": [298, 0, 0, JUNK, JUNK, 0],
    "personality READ_IMPLIES_EXEC": [135, 0x400000], "personality ADDR_NO_RANDOMIZE": [135, 0x40000],
    "get_mempolicy": [239, 0, 0, 0, 0, 0], "clock_settime": [227, JUNK, 0], "modify_ldt": [154, 0, 0, 0],
    "quotactl": [179, JUNK, 0, 0, 0], "sysfs": [139, 3], "ustat": [136, JUNK, 0],
}


@pytest.mark.parametrize("user", ["nobody", "root"])
def test_dangerous_calls_are_denied(loose, user):
    confined, control = with_and_without(loose, DANGEROUS, user=user)
    assert set(confined.values()) == {EPERM}, confined
    # Of some the kernel of a host may have nothing, or allow it to root alone: they are told by the others.
    may_be_closed = {"userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "sysfs", "unshare NEWUSER",
                     "clone NEWUSER", "ustat", "perf_event_open", "kcmp", "modify_ldt"}
    closed = {n for n, e in control.items() if e in (EPERM, ENOSYS)}
    assert closed <= may_be_closed and len(closed) < 6, control


def test_unshare_of_what_is_the_tasks_own_works(loose):
    assert attempts(loose, {"FS": [272, 0x200], "FILES": [272, 0x400]}) == {"FS": 0, "FILES": 0}


def test_no_new_namespace_of_any_kind(loose):
    flags = {"NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000, "NEWUSER": 0x10000000,
             "NEWPID": 0x20000000, "NEWNET": 0x40000000}
    clone = {n: [56, f | 17, 0, 0, 0, 0] for n, f in flags.items()}
    unshare = {"unshare " + n: [272, f] for n, f in {**flags, "NEWTIME": 0x80}.items()}
    with_user = {n + " with NEWUSER": [272, f | 0x10000000] for n, f in flags.items()}
    confined, control = with_and_without(loose, {**clone, **unshare, **with_user})
    assert set(confined.values()) == {EPERM}, confined
    if control["unshare NEWUSER"] == 0:  # a host may forbid user namespaces to all
        assert {control[n + " with NEWUSER"] for n in flags} == {0}
    as_root = attempts(loose, {**clone, **unshare}, user="root", seccomp="unconfined", cap_add=["sys_admin"])
    assert set(as_root.values()) == {0}, as_root


def test_clone3_is_not_there_and_threads_work(loose):
    confined, control = with_and_without(loose, {"clone3": [435, 0, 0]})
    assert confined["clone3"] == ENOSYS and control["clone3"] == errno.EINVAL
    script = "import threading; t = threading.Thread(target=print, args=(1,)); t.start(); t.join()"
    assert probe(loose, script) == 1


FAMILIES = {"UNIX": 1, "INET": 2, "INET6": 10, "NETLINK": 16}
TYPES = (1, 2, 3)  # stream, datagram, raw


def test_socket_families(loose):
    script = "print(json.dumps([attempt_socket(*c) for c in json.loads(sys.argv[1])]))"
    good = [(f, t, 0) for f in FAMILIES.values() for t in TYPES]
    bad = [(f, t, 0) for f in range(65) if f not in FAMILIES.values() for t in TYPES]
    tried = [(29, 3, 1), (30, 1, 0), (38, 5, 0), (40, 1, 0), (44, 3, 0), (64, 2, 0)]
    assert set(probe(loose, script, bad)) == {EPERM}
    control = probe(loose, script, good + tried, seccomp="unconfined")
    assert probe(loose, script, good) == control[:len(good)] and control.count(0) >= 4
    assert [e for e in control[len(good):] if e != EPERM], control
    # whatever the capabilities
    as_root = attempts(loose, {"ALG": [41, 38, 5, 0], "VSOCK": [41, 40, 1, 0], "upper half": [41, 38 + (1 << 32), 5, 0]},
                       user="root", cap_add=["all"])
    assert set(as_root.values()) == {EPERM}
    packet = {"PACKET": [41, 17, 3, 0]}
    assert attempts(loose, packet, user="root")["PACKET"] == EPERM
    assert attempts(loose, packet, user="root", cap_add=["net_raw"])["PACKET"] in (0, errno.EAFNOSUPPORT)


TTY = """
def on_tty(request):
    master, slave = pty.openpty()
    def inner():
        os.setsid()
        fcntl.ioctl(slave, 0x540e, 0)  # TIOCSCTTY
        if libc.syscall(ctypes.c_long(16), ctypes.c_long(slave), ctypes.c_ulong(request), ctypes.c_char_p(b"x")):
            return -1
        return 0
    return in_child(inner)
print(json.dumps([on_tty(r) for r in (0x5401, 0x5412, 0x541c, 0x100005412, 0xffffffff0000541c)]))
"""


def test_no_input_for_terminals_from_nowhere(loose):
    """TIOCSTI puts a character into the terminal's input as if it had been typed; TIOCLINUX pastes on consoles. The
    kernel reads 32 bits of the request (CVE-2019-7303)."""
    confined, control = probe(loose, TTY), probe(loose, TTY, seccomp="unconfined")
    assert confined[1:] == [EPERM] * 4, confined
    assert EPERM not in control and (control[1] == control[3] == 0 or control[1] == errno.EIO), control  # legacy_tiocsti


# int 0x80 with (number, first argument, second argument)
INT80 = """
code = bytes.fromhex("53 89f8 89f3 89d1 31d2 cd80 5b c3")
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
int80 = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int)(
    ctypes.addressof(ctypes.c_char.from_buffer(page)))
def i386(*args):
    def inner():
        r = int80(*args)
        ctypes.set_errno(-r if r < 0 else 0)
        return -1 if r < 0 else 0
    return in_child(inner)
print(json.dumps([i386(20, 0, 0), i386(21, 0, 0), i386(310, 0x10000000, 0), i386(102, 1, 0)]))
"""


def test_no_other_architecture(loose):
    confined, control = probe(loose, INT80), probe(loose, INT80, seccomp="unconfined")
    if control[0] == -signal.SIGSEGV:
        pytest.skip("this kernel has no i386 calls")
    assert control[0] == 0 and KILLED not in control, control  # getpid
    assert confined == [KILLED] * 4, confined  # getpid, mount, unshare, socketcall
    x32 = {str(n): [0x40000000 | n, JUNK, JUNK] for n in (0, 39, 56, 165, 272, 512, 547)}
    assert set(attempts(loose, x32).values()) == {ENOSYS}


# A capability opens its calls: each gets past the filter to the kernel's own answer.
BY_CAPABILITY = {
    "sys_admin": {"mount": [165, 0, 0, 0, 0, 0], "unshare": [272, 0x4000000], "setns": [308, JUNK, 0],
                  "clone": [56, 0x4000011, 0, 0, 0, 0], "clone3": [435, 0, 0], "umount2": [166, 0, 0],
                  "fsopen": [430, 0, 0], "quotactl": [179, JUNK, 0, 0, 0], "bpf": [321, JUNK, 0, 0],
                  "perf_event_open": [298, 0, 0, 0, 0, 0], "fanotify_init": [300, JUNK, 0]},
    "bpf": {"bpf": [321, JUNK, 0, 0]}, "perfmon": {"perf_event_open": [298, 0, 0, 0, 0, 0]},
    "syslog": {"syslog": [103, JUNK, 0, 0]}, "sys_ptrace": {"ptrace": [101, 0], "kcmp": [312, JUNK, JUNK, 0, 0, 0]},
    "sys_chroot": {"chroot": [161, 0]}, "sys_nice": {"get_mempolicy": [239, 0, 0, 0, 0, 0]},
    "sys_time": {"clock_settime": [227, JUNK, 0], "settimeofday": [164, JUNK, JUNK]},
    "sys_module": {"finit_module": [313, JUNK, 0, 0], "delete_module": [176, 0, 0]},
    "sys_rawio": {"iopl": [172, JUNK]}, "sys_boot": {"reboot": [169, JUNK, JUNK, JUNK, 0]},
    "sys_pacct": {"acct": [163, JUNK]}, "sys_tty_config": {"vhangup": [153]},
    "dac_read_search": {"open_by_handle_at": [304, JUNK, 0, 0]},
}


@pytest.mark.parametrize("cap", BY_CAPABILITY)
def test_a_capability_opens_its_calls(loose, cap):
    assert set(BY_CAPABILITY[cap]) <= set(published()[2][cap]) and set(BY_CAPABILITY) == set(published()[2])
    without = attempts(loose, BY_CAPABILITY[cap], user="root", cap_drop=["all"])
    assert set(without.values()) <= {EPERM, ENOSYS}, without
    held = loose.get("/v1/attributes/caps.held").body.decode().strip('"').split(",")
    if cap not in held:
        pytest.skip("this host cannot give it")
    with_it, control = with_and_without(loose, BY_CAPABILITY[cap], user="root", cap_drop=["all"], cap_add=[cap])
    assert with_it == control and EPERM not in control.values(), (with_it, control)  # ENOSYS: not in this kernel


def test_mounting_works_with_sys_admin(loose):
    script = "mount -t tmpfs none /tmp && echo mounted"
    assert loose.sh(script, user="root")["output"]["stdout"] == ""
    assert loose.sh(script, user="root", cap_add=["sys_admin"])["output"]["stdout"] == "mounted\n"


STATUS = "grep -E '^(NoNewPrivs|Seccomp|Seccomp_filters):' /proc/self/status"


@pytest.mark.parametrize("user,no_new_privs", [*itertools.product(["nobody", "root"], [True, False])])
def test_with_and_without_no_new_privs(loose, user, no_new_privs):
    spec = {"user": user, "no_new_privs": no_new_privs}
    out = loose.sh(STATUS, **spec)["output"]["stdout"].split()
    assert out == ["NoNewPrivs:", str(int(no_new_privs)), "Seccomp:", "2", "Seccomp_filters:", "1"]
    assert attempts(loose, DANGEROUS, **spec) == {n: EPERM for n in DANGEROUS}
    free = loose.sh(STATUS, seccomp="unconfined", **spec)["output"]["stdout"].split()
    assert free == ["NoNewPrivs:", str(int(no_new_privs)), "Seccomp:", "0", "Seccomp_filters:", "0"]


@pytest.mark.parametrize("user,no_new_privs", [*itertools.product(["nobody", "root"], [True, False])])
def test_sessions_have_the_filter(loose, user, no_new_privs):
    task = loose.start_task("/bin/sleep", "60", no_new_privs=no_new_privs)
    def session(*command):
        body = {"command": command[0], "args": list(command[1:]), "user": user, "timeout": "60s"}
        reply = loose.post(f"/v1/tasks/{task['id']}/exec", body)
        assert reply.status == 200, reply.body
        return reply.json["output"]["stdout"]
    out = session("/bin/sh", "-c", STATUS).split()
    assert out == ["NoNewPrivs:", str(int(no_new_privs)), "Seccomp:", "2", "Seccomp_filters:", "1"]
    script = "print(json.dumps({n: attempt(*c) for n, c in json.loads(sys.argv[1]).items()}))"
    denied = json.loads(session("/usr/bin/python3", "-c", PROBE + script, json.dumps(DANGEROUS)))
    assert denied == {n: EPERM for n in DANGEROUS}
    assert loose.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


ORDINARY = r"""
import asyncio, http.server, multiprocessing, os, pty, select, signal, socket, sqlite3, ssl, subprocess, sys, tempfile
import threading, urllib.request
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
try:
    urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=10)
except urllib.error.HTTPError as e:
    assert e.code == 501
def square(x):
    return x * x
with multiprocessing.Pool(2) as pool:
    assert pool.map(square, [1, 2, 3]) == [1, 4, 9]
async def main():
    p = await asyncio.create_subprocess_exec("/bin/echo", "hi", stdout=subprocess.PIPE)
    return (await p.communicate())[0]
assert asyncio.run(main()) == b"hi\n"
poll = select.epoll(); a, b = socket.socketpair(); poll.register(a, select.EPOLLIN); b.send(b"x"); assert poll.poll(1)
socket.send_fds(a, [b"x"], [0]); assert len(socket.recv_fds(b, 1, 1)[1]) == 1
left, right = socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET), os.memfd_create("x")
os.write(right, b"data"); copy = os.memfd_create("y"); assert os.sendfile(copy, right, 0, 4) == 4
db = sqlite3.connect(os.path.join(tempfile.mkdtemp(), "db")); db.execute("create table t (x)"); db.commit()
signal.sigtimedwait([signal.SIGUSR1], 0.01); os.sched_getaffinity(0); os.getpriority(os.PRIO_PROCESS, 0)
assert os.getxattr is not None and os.statvfs("/").f_bsize
pid, fd = pty.fork()
if pid == 0:
    os.execv("/bin/stty", ["stty", "-a"])
assert os.waitpid(pid, 0)[1] == 0
print("all work")
"""
SHELL = r"""
set -e -o pipefail
cd /tmp; seq 1000 | sort -rn | head -n 3 | tail -n 1
tar cf a.tar -C /etc hostname && tar tf a.tar; cp -a a.tar b.tar; cmp a.tar b.tar; touch -d yesterday b.tar; ln -s a.tar c; ls -l >l
find /etc -maxdepth 1 -name 'host*' -print0 | xargs -0 -n1 basename | sort | head -n 1
trap 'echo term' TERM; sleep 60 & kill -TERM $$; kill %1; ! wait %1
dd if=/dev/zero of=d bs=1M count=1 conv=fsync 2>/dev/null; perl -e 'print "perl\n"'; timeout 1 true; nice true; setsid true
"""
PROGRAM = r"""
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
static void *run(void *p) { return p; }
int main(void) { pthread_t t; pid_t pid; int status; char *argv[] = {"true", NULL};
  return pthread_create(&t, NULL, run, NULL) || pthread_join(t, NULL) ||
  posix_spawn(&pid, "/bin/true", NULL, NULL, argv, NULL) || waitpid(pid, &status, 0) != pid || status; }
"""


def test_ordinary_programs_work(loose):
    task = loose.run("/usr/bin/python3", "-c", ORDINARY)
    assert task["output"]["stdout"] == "all work\n", task["output"]
    task = loose.run("/bin/bash", "-c", SHELL)
    assert task["output"]["stdout"] == "998\nhostname\nhost.conf\nterm\nperl\n" or \
        re.fullmatch(r"998\nhostname\nhost\S*\nterm\nperl\n", task["output"]["stdout"]), task["output"]
    script = "cd /tmp && cat >p.c && gcc -O2 -pthread -o p p.c && ./p && echo built"
    task = loose.sh(script, stdin=PROGRAM)
    assert task["output"]["stdout"] == "built\n", task["output"]


def profile(action, *rules, **more):
    return {"defaultAction": f"SCMP_ACT_{action}", "syscalls": list(rules), **more}


def rule(names, action, **more):
    return {"names": names, "action": f"SCMP_ACT_{action}", **more}


def on_arg(index, value, op="EQ"):
    return {"index": index, "value": value, "op": f"SCMP_CMP_{op}"}


# What a small static or dynamic program and the dynamic linker call, and none of what our steps call after the filter.
TRUE_CALLS = ["execve", "brk", "mmap", "munmap", "mprotect", "openat", "open", "read", "pread64", "close", "fstat", "stat",
              "newfstatat", "access", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "getrandom",
              "exit_group", "exit", "futex", "write"]
PROFILES = {
    "denies": profile("ALLOW", rule(["mkdir", "mkdirat"], "ERRNO", errnoRet=errno.EXDEV)),
    "kills": profile("ALLOW", rule(["ustat"], "KILL_PROCESS")),
    "args": profile("ALLOW", rule(["socket"], "ERRNO", args=[on_arg(0, 10)]),
                    rule(["kill"], "ERRNO", args=[on_arg(1, 9, "GE"), on_arg(1, 4, "EQ")])),
    "caps": profile("ALLOW", rule(["uname"], "ERRNO", excludes={"caps": ["CAP_NET_ADMIN"]})),
    "narrow": profile("ERRNO", rule(TRUE_CALLS, "ALLOW"), defaultErrnoRet=EPERM),
    "narrow-kill": profile("KILL_PROCESS", rule(TRUE_CALLS, "ALLOW")),
    "i386": profile("ALLOW", architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]),
}


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    directory = tmp_path_factory.mktemp("profiles")
    for name, text in PROFILES.items():
        (directory / f"{name}.json").write_text(json.dumps(text))
    d = Daemon(BINARY, *configuration(directory, allow_seccomp_unconfined=False,
                                      seccomp_profiles={n: str(directory / f"{n}.json") for n in PROFILES}))
    yield d
    d.stop()


def test_a_profile_of_the_operators(profiled):
    mkdir = {"mkdir": [83, 0, 0], "io_uring_setup": [425, 1, 0]}
    assert attempts(profiled, mkdir, seccomp="denies")["mkdir"] == errno.EXDEV
    assert attempts(profiled, mkdir, seccomp="kills")["mkdir"] == errno.EFAULT
    assert attempts(profiled, {"ustat": [136, JUNK, 0]}, seccomp="kills")["ustat"] == KILLED
    assert attempts(profiled, {"ustat": [136, JUNK, 0]}, seccomp="denies")["ustat"] == errno.EINVAL
    assert profiled.sh(STATUS, seccomp="denies")["output"]["stdout"].endswith("Seccomp:\t2\nSeccomp_filters:\t1\n")


def test_a_profiles_arguments(profiled):
    calls = {"INET": [41, 2, 1, 0], "INET6": [41, 10, 1, 0], "kill 0": [62, JUNK, 0], "kill 4": [62, JUNK, 4],
             "kill 9": [62, JUNK, 9], "kill 15": [62, JUNK, 15], "kill 3": [62, JUNK, 3]}
    assert attempts(profiled, calls, seccomp="args") == {
        "INET": 0, "INET6": EPERM, "kill 0": errno.ESRCH, "kill 4": EPERM, "kill 9": EPERM, "kill 15": EPERM,
        "kill 3": errno.ESRCH}


def test_a_profiles_conditions(profiled):
    uname = {"uname": [63, 0]}
    assert attempts(profiled, uname, seccomp="caps")["uname"] == EPERM
    if "net_admin" in profiled.get("/v1/attributes/caps.held").body.decode():
        assert attempts(profiled, uname, seccomp="caps", user="root", cap_add=["net_admin"])["uname"] == errno.EFAULT


def test_a_narrow_profile_need_not_allow_what_the_steps_call(profiled):
    for name in ("narrow", "narrow-kill"):
        assert profiled.run("/bin/true", seccomp=name)["exit"]["code"] == 0
    task = profiled.run("/bin/ls", "/", seccomp="narrow-kill")
    assert task["exit"]["signal"] == "SIGSYS" and task["exit"]["code"] is None
    # ... unless it must be loaded before them; then the start fails, named, and leaves nothing
    before = profiled.census()
    reply = profiled.post("/v1/tasks", {"command": "/bin/true", "seccomp": "narrow", "no_new_privs": False})
    assert reply.status == 500 and reply.json["step"] == "capabilities" and reply.json["errno"] == "EPERM", reply.body
    profiled.assert_as_before(before)


def test_a_profile_may_let_i386_in(profiled):
    if probe(profiled, INT80, seccomp="denies")[0] == -signal.SIGSEGV:
        pytest.skip("this kernel has no i386 calls")
    assert probe(profiled, INT80, seccomp="denies") == [KILLED] * 4
    assert probe(profiled, INT80, seccomp="i386")[0] == 0


def test_names_are_checked(profiled, daemon):
    before = profiled.census()
    for name in ("other", "default ", "DEFAULT", "../denies", "denies.json", "/etc/passwd"):
        reply = profiled.post("/v1/tasks", {"command": "/bin/true", "seccomp": name})
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/seccomp", reply.body
    for bad in ("", None, 1, True, ["default"], {}, "x" * 129):
        reply = profiled.post("/v1/tasks", {"command": "/bin/true", "seccomp": bad})
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/seccomp", reply.body
    for d in (profiled, daemon):  # said so, and said nothing
        reply = d.post("/v1/tasks", {"command": "/bin/true", "seccomp": "unconfined"})
        assert reply.status == 403 and reply.json["code"] == "seccomp_denied", reply.body
        assert reply.json["errors"][0]["pointer"] == "/seccomp"
    profiled.assert_as_before(before)


def test_the_task_tells_its_profile(profiled):
    assert profiled.run("/bin/true")["spec"]["seccomp"] == "default"
    assert profiled.run("/bin/true", seccomp="denies")["spec"]["seccomp"] == "denies"


def test_the_filter_comes_back_with_a_restart_of_the_task_and_of_the_launcher(profiled):
    spec = {"seccomp": "denies"}
    task = profiled.start_task("/bin/sleep", "60", **spec)
    profiled.process.send_signal(signal.SIGKILL)
    profiled.process.wait()
    profiled.log.close()
    profiled.start()
    assert profiled.post(f"/v1/tasks/{task['id']}/restart", {"timeout": "0s"}).status in (200, 202)
    end = time.monotonic() + 20
    while (t := profiled.task(task["id"]))["state"] != "running" or t["restarts"] != 1:
        assert time.monotonic() < end, t
        time.sleep(0.05)
    pids = profiled.processes()
    texts = [pathlib.Path(f"/proc/{pid}/status").read_text() for pid in pids]
    assert texts and all("Seccomp:\t2" in text for text in texts)
    assert profiled.request("DELETE", f"/v1/tasks/{task['id']}?force=true").status == 204


@pytest.mark.parametrize("text,words", [
    ("{", ["byte"]), ("", ["byte"]), ("[]", ["expected object"]), ("{}", ["/defaultAction", "required"]),
    ('{"defaultAction": "SCMP_ACT_ALLOW", "defaultAction": "SCMP_ACT_ERRNO"}', ["/defaultAction"]),
    (json.dumps(profile("ALOW")), ["/defaultAction", "SCMP_ACT_KILL"]),
    (json.dumps(profile("NOTIFY")), ["/defaultAction"]),
    (json.dumps(profile("ERRNO", rule(["read"], "ALLOW"), rule(["write"], "PERMIT"))), ["/syscalls/1/action"]),
    (json.dumps(profile("ERRNO", rule(["read"], "ALLOW", args=[on_arg(7, 0)]))), ["/syscalls/0/args/0/index"]),
    (json.dumps(profile("ERRNO", rule(["read"], "ALLOW", arg=[]))), ["/syscalls/0/arg", "unknown"]),
    (json.dumps(profile("ALLOW", rule(["no_such_call"], "ERRNO"))), ["/syscalls/0/names/0", "cannot be denied"]),
    (json.dumps(profile("ERRNO", rule(["ioctl"], "ALLOW"), rule(["ioctl"], "TRAP", args=[on_arg(1, 0x5412)]))),
     ["/syscalls/1/names/0", "another action"]),
])
def test_a_bad_profile_is_a_configuration_error(tmp_path, text, words):
    bad = tmp_path / "bad.json"
    bad.write_text(text)
    run = subprocess.run([BINARY, *configuration(tmp_path, seccomp_profiles={"mine": str(bad)}), "--check-config"],
                         check=False, capture_output=True, text=True)
    assert run.returncode == 2 and all(w in run.stderr for w in [str(bad), *words]), run.stderr


@pytest.mark.parametrize("name,path,word", [
    ("mine", "/nonexistent.json", "No such file"), ("mine", "/etc", "Is a directory"), ("mine", "bad.json", "absolute"),
    ("default", "/etc/hostname", "taken"), ("unconfined", "/etc/hostname", "taken"), ("", "/etc/hostname", "no name"),
])
def test_a_missing_profile_is_a_configuration_error(tmp_path, name, path, word):
    run = subprocess.run([BINARY, *configuration(tmp_path, seccomp_profiles={name: path}), "--check-config"],
                         check=False, capture_output=True, text=True)
    assert run.returncode == 2 and word in run.stderr and "seccomp_profiles" in run.stderr, run.stderr


# Makes seccomp(2) ENOSYS by a filter of the old kind, then becomes the daemon.
WITHOUT_SECCOMP = """#!/usr/bin/python3
import ctypes, os, struct, sys
code = b"".join(struct.pack("HBBI", *i) for i in [(0x20, 0, 0, 0), (0x15, 0, 1, 317), (6, 0, 0, 0x50000 | 38),
                                                  (6, 0, 0, 0x7fff0000)])
buffer = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
assert ctypes.CDLL(None).prctl(22, 2, program) == 0
os.execv("%s", ["cloisterd", *sys.argv[1:]])
"""


def test_a_kernel_without_seccomp_refuses_by_name(tmp_path):
    script = tmp_path / "cloisterd"
    script.write_text(WITHOUT_SECCOMP % BINARY)
    script.chmod(0o755)
    d = Daemon(script, *configuration(tmp_path))
    try:
        assert d.get("/v1/attributes").json["attributes"]["feature.seccomp"] == "0"
        before = d.census()
        for spec in ({}, {"seccomp": "default"}, {"no_new_privs": False}):
            reply = d.post("/v1/tasks", {"command": "/bin/true", **spec})
            assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/seccomp", reply.body
        d.assert_as_before(before)
        assert d.run("/bin/true", seccomp="unconfined")["exit"]["code"] == 0
    finally:
        d.stop()


def test_the_attribute(daemon):
    assert daemon.get("/v1/attributes").json["attributes"]["feature.seccomp"] == "1"


@pytest.mark.parametrize("inject,errno_name", [("retval=0", "EPERM"), ("error=ENOMEM", "ENOMEM"), ("error=EINVAL", "EINVAL")])
@pytest.mark.parametrize("no_new_privs", [True, False])
def test_a_filter_that_is_not_in_force_ends_the_start(own_daemon, inject, errno_name, no_new_privs):
    """Also when the kernel says that it were."""
    before = own_daemon.census()
    trace = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=seccomp", "-e",
                              f"inject=seccomp:{inject}", "-p", str(own_daemon.process.pid)], stderr=subprocess.DEVNULL)
    status = pathlib.Path(f"/proc/{own_daemon.process.pid}/status")
    try:
        end = time.monotonic() + 10
        while "TracerPid:\t0\n" in status.read_text() and time.monotonic() < end:
            time.sleep(0.02)
        reply = own_daemon.post("/v1/tasks", {"command": "/bin/true", "no_new_privs": no_new_privs})
    finally:
        trace.terminate()
        trace.wait(20)
    assert reply.status == 500 and reply.json["step"] == "seccomp" and reply.json["errno"] == errno_name, reply.body
    own_daemon.assert_as_before(before)
    assert own_daemon.run("/bin/true")["exit"]["code"] == 0
