"""Runs a command with some system calls missing (ENOSYS), as on an old kernel: without_calls.py NUMBER,... COMMAND..."""
import ctypes
import os
import struct
import sys

LOAD_NR, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06  # struct sock_filter, linux/bpf_common.h
ALLOW, ENOSYS = 0x7fff0000, 0x00050000 | 38  # SECCOMP_RET_*, seccomp(2)
PR_SET_SECCOMP, MODE_FILTER = 22, 2


def deny(numbers):
    program = struct.pack("HBBI", LOAD_NR, 0, 0, 0)
    for number in numbers:
        program += struct.pack("HBBI", JUMP_EQUAL, 0, 1, number) + struct.pack("HBBI", RETURN, 0, 0, ENOSYS)
    program += struct.pack("HBBI", RETURN, 0, 0, ALLOW)
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.c_char_p(header), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    deny([int(n) for n in sys.argv[1].split(",")])
    os.execv(sys.argv[2], sys.argv[2:])
