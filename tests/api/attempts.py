"""What a task might try against its host. A program, so that the same attempt can be made in a task, and where a defence
is off (the control): attempts.py '["name", ...]' '{"argument": ...}' prints {name: outcome}. The outcome is 0 for what was
done, an errno's name for what was refused, "no" for what was refused without one, a signal's name for a death.

Nothing here changes a host that lets it happen: files are opened and not written to, calls have arguments that lead to
nothing. POWER names the capabilities that are the power to do it: who holds one may."""
import ctypes
import errno
import fcntl
import glob
import json
import mmap
import os
import pty
import resource
import signal
import socket
import sys

AT_FDCWD, JUNK, BROKEN = -100, 0x7fffdead, 254
ATTEMPTS, POWER = {}, {}
args = {}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def attempt(power="", name=None):
    def add(fn):
        key = name or fn.__name__
        ATTEMPTS[key], POWER[key] = fn, power.split()
        return fn
    return add


def call(nr, *values):
    """A system call by its number on x86-64; raises what it says."""
    r = libc.syscall(ctypes.c_long(nr), *[ctypes.c_ulong(v % 2**64) if isinstance(v, int) else v for v in values])
    if r < 0:
        raise OSError(ctypes.get_errno(), "")
    return r


def passes(name, nr, *values, power=""):
    """An attempt that is a call with arguments that mean nothing: done when it gets past every permission."""
    def fn():
        try:
            call(nr, *values)
        except OSError as e:
            if e.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                raise
        return True
    attempt(power, name)(fn)


def opens(path, flags):
    os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
    return True


# --- kernel files ---------------------------------------------------------------------------------------------------
KNOBS = """/proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sys/kernel/panic /proc/sys/kernel/sysrq
/proc/sys/kernel/printk /proc/sys/kernel/randomize_va_space /proc/sys/kernel/pid_max /proc/sys/vm/overcommit_memory
/proc/sys/vm/drop_caches /proc/sys/vm/panic_on_oom /proc/sys/fs/file-max /proc/sys/fs/suid_dumpable /proc/sysrq-trigger
/proc/sys/net/ipv4/ip_forward /proc/irq/default_smp_affinity /proc/sys/fs/protected_symlinks /proc/sys/kernel/modprobe
/proc/sys/kernel/hotplug /proc/sys/fs/binfmt_misc/register /proc/sys/kernel/ns_last_pid /sys/kernel/uevent_helper
/sys/kernel/profiling /sys/power/state /sys/kernel/mm/transparent_hugepage/enabled /sys/kernel/mm/ksm/run
/sys/module/printk/parameters/time /sys/bus/pci/rescan /sys/class/net/lo/mtu /sys/devices/system/cpu/cpu1/online
/sys/block/vda/queue/nr_requests /sys/kernel/rcu_expedited""".split()
GROUP_FILES = ["release_agent", "notify_on_release", "cgroup.procs", "tasks", "devices.allow", "memory.limit_in_bytes",
               "cgroup.subtree_control", "cgroup.kill", "memory.max"]
SECRET = """/proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/latency_stats /proc/interrupts /proc/timer_stats
/proc/acpi /proc/scsi /proc/asound /proc/kpagecount /proc/kpageflags /proc/kpagecgroup /sys/firmware /sys/devices/virtual/powercap""".split()
for path in KNOBS:
    attempt("", f"write {path}")(lambda path=path: opens(path, os.O_WRONLY))
for file in GROUP_FILES:
    attempt("", f"write cgroup {file}")(lambda file=file: any_of(
        lambda p: opens(p, os.O_WRONLY), glob.glob(f"/sys/fs/cgroup/*/{file}") + glob.glob(f"/sys/fs/cgroup/{file}")))


def any_of(fn, items):
    """True as soon as one works; what the last one said otherwise."""
    last = None
    for item in items:
        try:
            if fn(item):
                return True
            last = OSError(errno.EACCES, "it has led nowhere")
        except OSError as e:
            last = e
    raise last or OSError(errno.ENOENT, "nothing to try")


def has_content(path):
    found = os.listdir(path) if os.path.isdir(path) else os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 16)
    return bool(found) or refuse(errno.ENODATA)


for path in SECRET:
    attempt("", f"read {path}")(lambda path=path: has_content(path))
attempt("sys_admin", "remount /proc/sys")(lambda: mounts("none", "", 32 | 4096, target="/proc/sys"))
attempt("sys_admin", "remount /sys")(lambda: mounts("none", "", 32 | 4096, target="/sys"))
for path in SECRET[:3] + ["/proc/sys", "/sys/firmware"]:
    attempt("sys_admin", f"unmount {path}")(lambda path=path: not (libc.umount2(path.encode(), 2) and refuse()))


def refuse(number=None):
    raise OSError(number or ctypes.get_errno(), "")


def mounts(source, kind, flags=0, data=None, target="/tmp"):
    return libc.mount(source.encode(), target.encode(), kind.encode(), flags, data and data.encode()) == 0 or refuse()


attempt("sys_admin", "mount tmpfs")(lambda: mounts("none", "tmpfs"))
attempt("sys_admin", "mount proc")(lambda: mounts("none", "proc"))
attempt("sys_admin", "mount sysfs")(lambda: mounts("none", "sysfs"))
attempt("sys_admin", "mount cgroup2")(lambda: mounts("none", "cgroup2"))
attempt("sys_admin", "bind mount")(lambda: mounts("/usr", "", 4096))


@attempt("sys_admin")
def mount_cgroup_v1_of_release_agents():
    """CVE-2022-0492."""
    return any_of(lambda c: mounts("none", "cgroup", 0, c), ("memory", "pids", "rdma", "cpu", "freezer"))


@attempt("sys_admin")
def user_namespace_then_mount_cgroup():
    call(272, 0x10000000 | 0x20000 | 0x2000000)
    return True


# --- devices --------------------------------------------------------------------------------------------------------
DEVICES = {"mem": (1, 1), "port": (1, 4), "kmsg": (1, 11), "fuse": (10, 229), "kvm": (10, 232), "console": (5, 1),
           "loop-control": (10, 237)}
for name, (major, minor) in DEVICES.items():
    attempt("", f"make and open {name}")(lambda n=name, d=(major, minor): make_and_open(n, 0o020666, *d))
attempt("", "make and open the host's disk")(lambda: make_and_open("disk", 0o060666, *args.get("disk", (254, 0))))
attempt("", "open /dev/mem")(lambda: opens("/dev/mem", os.O_RDONLY))


def make_and_open(name, mode, major, minor):
    place = f"{args.get('place', '/tmp')}/node-{name}-{os.getpid()}"
    os.mknod(place, mode, os.makedev(major, minor))
    try:
        return opens(place, os.O_RDONLY)
    finally:
        os.unlink(place)


# --- system calls ---------------------------------------------------------------------------------------------------
passes("unshare NEWUSER", 272, 0x10000000, power="sys_admin")
passes("unshare NEWNS", 272, 0x20000, power="sys_admin")
passes("clone3 NEWUSER", 435, (ctypes.c_ulong * 11)(0x10000000), 88, power="sys_admin")
passes("bpf", 321, 0, (ctypes.c_uint * 32)(2, 4, 4, 1), 128, power="sys_admin bpf")
passes("perf_event_open", 298, (ctypes.c_uint * 32)(1, 128), -1, 0, -1, 0, power="sys_admin perfmon")
passes("userfaultfd", 323, 1)
passes("io_uring_setup", 425, 1, (ctypes.c_char * 256)())
passes("open_by_handle_at", 304, AT_FDCWD, (ctypes.c_uint * 6)(8, 1, 2, 0), 0, power="dac_read_search")
passes("keyctl", 250, 0, -1, 1)  # -1: of this thread, gone with it
passes("add_key", 248, b"user", b"cloister-test", b"x", 1, -1)
passes("request_key", 249, b"user", b"cloister-test", 0, 0)
passes("kexec_load", 246, 0, JUNK, 0, JUNK)
passes("init_module", 175, 0, 0, 0, power="sys_module")
passes("syslog", 103, 10, 0, 0, power="syslog")
passes("clock_settime", 227, 0, 0, power="sys_time")
passes("process_vm_readv of init", 310, 1, JUNK, 0, JUNK, 0, 1, power="sys_ptrace")
passes("ptrace", 101, 0, 0, 0, 0, power="sys_ptrace")
passes("fsopen", 430, b"proc", 0, power="sys_admin")
passes("open_tree", 428, AT_FDCWD, b"/", 1, power="sys_admin")
passes("pivot_root", 155, b"/none", b"/none", power="sys_admin")
passes("swapon", 167, b"/none", 0, power="")
passes("acct", 163, b"/none", power="sys_pacct")
passes("quotactl", 179, 0x800001, 0, 0, 0, power="sys_admin")
passes("fanotify_init", 300, 0, 0, power="sys_admin")
passes("reboot", 169, JUNK, JUNK, JUNK, 0, power="sys_boot")
passes("iopl", 172, 0, power="sys_rawio")
passes("personality READ_IMPLIES_EXEC", 135, 0x400000)
passes("setns to init's mount namespace", 308, os.open("/proc/1/ns/mnt", os.O_RDONLY) if os.getuid() == 0 and
       os.access("/proc/1/ns/mnt", os.R_OK) else -1, 0x20000, power="sys_admin")
passes("x32 getpid", 0x40000000 | 39)


@attempt("dac_read_search")
def handle_of_the_hosts_root():
    """"Shocker": inode 2, and what is near, of the file system that holds /etc/hosts or whatever there is."""
    def by_handle(path):
        fd = os.open(path, os.O_RDONLY)
        return any_of(lambda ino: call(304, fd, (ctypes.c_uint * 4)(8, 1, ino, 0), 0) >= 0, range(1, 256))
    return any_of(by_handle, ["/", "/tmp", "/local", "/etc", "/usr"])


@attempt("sys_nice")
def realtime_scheduling():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return True


@attempt("sys_nice")
def nice_below_what_it_has():
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 5)
    return True


@attempt("sys_resource")
def raise_a_hard_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    call(160, resource.RLIMIT_NOFILE, (ctypes.c_ulong * 2)(64, hard + 1))
    return True


@attempt("sys_resource")
def lower_oom_score_adj():
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR)
    return os.write(fd, str(int(os.read(fd, 16)) - 1).encode()) > 0


@attempt("sys_admin")
def change_the_hosts_name():
    socket.sethostname(socket.gethostname())
    return True


def opens_socket(family, kind, protocol=0):
    socket.socket(family, kind, protocol).close()
    return True


attempt("net_raw", "socket PACKET")(lambda: opens_socket(17, socket.SOCK_RAW))
attempt("net_raw", "socket raw ICMP")(lambda: opens_socket(2, socket.SOCK_RAW, 1))
attempt("net_raw", "socket raw ICMPv6")(lambda: opens_socket(10, socket.SOCK_RAW, 58))
attempt("", "socket VSOCK")(lambda: opens_socket(40, socket.SOCK_STREAM))
attempt("", "socket ALG")(lambda: opens_socket(38, socket.SOCK_SEQPACKET))
attempt("net_admin", "socket NETLINK_NETFILTER")(lambda: opens_socket(16, socket.SOCK_RAW, 12))
attempt("net_admin", "socket NETLINK_XFRM")(lambda: opens_socket(16, socket.SOCK_RAW, 6))


@attempt()
def tiocsti():
    _, slave = pty.openpty()
    os.setsid()
    fcntl.ioctl(slave, 0x540e, 0)
    fcntl.ioctl(slave, 0x5412, b"x")
    return True


@attempt()
def i386_getpid():
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("53 b814000000 cd80 5b c3"))
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))() > 0


# --- ways out -------------------------------------------------------------------------------------------------------
def shows_the_host(path):
    """Whether this directory is the host's root: it has the file that the test has made there."""
    return os.path.exists(os.path.join(path, args["canary"].lstrip("/")))


@attempt()
def double_chroot():
    os.makedirs("/tmp/jail", exist_ok=True)
    fd = os.open("/", os.O_RDONLY)
    os.chroot("/tmp/jail")
    os.fchdir(fd)
    os.chdir("../" * 64)
    os.chroot(".")
    return shows_the_host("/")


@attempt()
def upwards_from_every_descriptor():
    def up(name):
        os.fchdir(int(name))
        os.chdir("../" * 64)
        return shows_the_host(".")
    return any_of(up, os.listdir("/proc/self/fd"))


@attempt("sys_ptrace", name="root, cwd or a descriptor of another process")
def another_process():
    paths = [p for k in ("root", "cwd", "fd/*") for p in glob.glob(f"/proc/[0-9]*/{k}")]
    own = f"/proc/{os.getpid()}/"
    return any_of(shows_the_host, [p for p in paths if not p.startswith(own)])


@attempt("sys_ptrace")
def write_to_the_program_of_another_process():
    """CVE-2019-5736: of any but our own; a program that runs can be opened for writing once it does not (ETXTBSY)."""
    def write(path):
        try:
            return os.readlink(path).endswith("cloisterd") or opens(path, os.O_WRONLY) and False
        except OSError as e:
            return e.errno == errno.ETXTBSY and "cloister" in os.readlink(path)
    return any_of(write, glob.glob("/proc/[0-9]*/exe"))


def connects(address):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(2)
        s.connect(address)
    return True


attempt("", "abstract socket of the host")(lambda: connects("\0" + args["abstract"]))
attempt("", "socket of our API")(lambda: connects(args["api"]))


@attempt()
def loopback_of_the_host():
    socket.create_connection(("127.0.0.1", args["port"]), timeout=2).close()
    return True


@attempt()
def shared_memory_of_the_host():
    return libc.shmat(args["shm"], None, 0) != -1 or refuse()


attempt("", "file in the host's /dev/shm")(lambda: os.path.exists(args["shm_file"]))


def outcome(fn):
    """In a process of its own, which may lose its root, its namespaces or its life."""
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 20)
        try:
            result = fn()
            code = 0 if result or result is None else 255
        except OSError as e:
            code = e.errno or 255
        except BaseException as e:  # a fault of the attempt's own must not look like a refusal
            print(repr(e), file=sys.stderr, flush=True)
            code = BROKEN
        os._exit(code)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    code = os.WEXITSTATUS(status)
    return 0 if code == 0 else "broken" if code == BROKEN else errno.errorcode.get(code, "no")


if __name__ == "__main__":
    args = json.loads(sys.argv[2])
    print(json.dumps({n: outcome(ATTEMPTS[n]) for n in json.loads(sys.argv[1])}))
