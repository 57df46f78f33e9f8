"""A FUSE file system with one file, "f", that can fall silent: fuse_server.py MOUNTPOINT. It prints "ready" when it is mounted.
After SIGUSR1 it takes requests and answers none, so that who waits for one cannot be killed; after SIGUSR2, none but those
about its root; while it is stopped (SIGSTOP) it does not even take them. Its end aborts the connection. The protocol is linux/fuse.h's, version 7.31."""
import ctypes
import errno
import os
import signal
import struct
import sys

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH = 1, 2, 3, 14, 15, 17, 18, 25
INIT, OPENDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 26, 27, 29, 36, 38, 42
ROOT, FILE = 1, 2  # node ids
DIRECT_IO = 1      # FOPEN_DIRECT_IO: each read is a request
HEADER = struct.Struct("<IIQQIIII")  # struct fuse_in_header
DATA = b"data\n"


def attributes(node):
    mode, size = (0o040777, 0) if node == ROOT else (0o100777, len(DATA))
    return struct.pack("<6Q10I", node, size, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(opcode, node, body):
    """What follows the header of the answer, or a negative errno; None: none is wanted."""
    if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
        return None
    if opcode == INIT:
        return struct.pack("<4I2H2I2H8I", 7, 31, 0, 0, 0, 0, 65536, 1, 0, 0, *[0] * 8)
    if opcode == GETATTR:
        return struct.pack("<Q2I", 0, 0, 0) + attributes(node)  # valid for no time: each use is a request
    if opcode == LOOKUP:
        if body.rstrip(b"\0") != b"f":
            return -errno.ENOENT
        return struct.pack("<4Q2I", FILE, 0, 0, 0, 0, 0) + attributes(FILE)
    if opcode in (OPEN, OPENDIR):
        return struct.pack("<Q2I", 0, DIRECT_IO, 0)
    if opcode == READ:
        offset, size = struct.unpack_from("<8xQI", body)
        return DATA[offset:offset + size]
    if opcode == STATFS:
        return struct.pack("<5Q10I", 0, 0, 0, 0, 0, 4096, 255, 4096, *[0] * 7)
    return b"" if opcode in (RELEASE, RELEASEDIR, FLUSH, DESTROY) else -errno.ENOSYS


def main(path):
    silent = []
    signal.signal(signal.SIGUSR1, lambda *_: silent.extend((ROOT, FILE)))
    signal.signal(signal.SIGUSR2, lambda *_: silent.append(FILE))
    fd = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    if libc.mount(b"silent", path.encode(), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    print("ready", flush=True)
    while True:
        try:
            request = os.read(fd, 1 << 20)
        except OSError as error:
            if error.errno == errno.ENOENT:
                continue  # it was interrupted before it was read
            return  # unmounted
        _, opcode, unique, node, *_ = HEADER.unpack_from(request)
        reply = answer(opcode, node, request[HEADER.size:])
        about = FILE if opcode == LOOKUP else node
        if about in silent or reply is None:
            continue
        failed = isinstance(reply, int)
        text = struct.pack("<IiQ", 16 + (0 if failed else len(reply)), reply if failed else 0, unique)
        try:
            os.write(fd, text + (b"" if failed else reply))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise


if __name__ == "__main__":
    main(sys.argv[1])
