"""System calls made by another process on our behalf: ptrace(2), from a root that may do so.

What a daemon could regain is asked of the daemon itself, as it runs, without a hook in its code:
the tracer stops one of its threads, lets that thread make a system call, and puts everything
back. x86-64 alone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

# sys/ptrace.h
_SINGLESTEP, _GETREGS, _SETREGS, _DETACH = 9, 12, 13, 17
_SEIZE, _INTERRUPT = 0x4206, 0x4207
_TRACE_CLONE, _TRACE_EXEC, _EXEC_EVENT = 0x08, 0x10, 4

# asm/unistd_64.h
NR = {
    "open": 2,
    "close": 3,
    "socket": 41,
    "bind": 49,
    "clone": 56,
    "execve": 59,
    "exit": 60,
    "wait4": 61,
    "setuid": 105,
    "setgid": 106,
    "setgroups": 116,
    "setresuid": 117,
    "setresgid": 119,
    "capset": 126,
    "prctl": 157,
    "unshare": 272,
    "prlimit64": 302,
}

WHY_NOT = (
    ""
    if platform.machine() == "x86_64" and os.geteuid() == 0
    else "the tracer needs root and x86-64"
)
"""Why no process can be traced here; empty where it can."""

# The part of the stack below its pointer that a function may use without moving it, and more.
_RED_ZONE = 8192


_REGISTERS = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax "
    "rip cs eflags rsp ss fs_base gs_base ds es fs gs"
)


class _Registers(ctypes.Structure):
    """``struct user_regs_struct`` (sys/user.h)."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in _REGISTERS.split()]


class Tracee:
    """A stopped thread that makes system calls for us."""

    def __init__(self, tid: int) -> None:
        self.tid = tid
        self._registers = _Registers()
        self._ptrace(_GETREGS, 0, ctypes.addressof(self._registers))
        self._syscall = _syscall_instruction(tid)
        self._signals: list[int] = []

    def call(self, name: str, *arguments: int | bytes) -> int:
        """Return what the system call returns: a result, or a negative errno.

        Octets among the arguments are put into the thread's memory, and passed by address.
        """
        self._prepare(name, arguments)
        while self._step():  # an event, such as the birth of a child: the call is not over
            pass
        return self._result()

    def _step(self) -> int:
        """Let the thread make its call; return 0 when it is back, or the event before that."""
        while True:
            self._ptrace(_SINGLESTEP, 0, 0)
            _, status = os.waitpid(self.tid, _WALL)
            if not os.WIFSTOPPED(status):
                raise ProcessLookupError(f"thread {self.tid} ended: status {status:#x}")
            if os.WSTOPSIG(status) == signal.SIGTRAP:
                return status >> 16
            self._signals.append(os.WSTOPSIG(status))  # it gets it afterwards

    def _result(self) -> int:
        registers = _Registers()
        self._ptrace(_GETREGS, 0, ctypes.addressof(registers))
        return ctypes.c_longlong(registers.rax).value

    def run(self, path: str, *arguments: str) -> int:
        """Run a program in a child of the thread; return its exit status.

        Raises:
            OSError: execve(2) failed.
        """
        child = self.call("clone", 0)  # no signal at its end: nobody in there expects it
        if child < 0:
            raise OSError(-child, os.strerror(-child))
        os.waitpid(child, _WALL)
        error = Tracee(child)._exec(path, *arguments)
        status = self._wait(child)
        if error:
            raise OSError(error, os.strerror(error))
        return os.waitstatus_to_exitcode(status)

    def _wait(self, child: int) -> int:
        room = self._room(bytes(8))
        reaped = self.call("wait4", child, room, _WALL, 0)
        if reaped != child:
            raise OSError(-reaped, os.strerror(-reaped))
        return int(struct.unpack("<i", self._read(room, 4))[0])

    def _exec(self, path: str, *arguments: str) -> int:
        """Replace this thread's program and let go of it; return the errno if that fails."""
        strings = [text.encode() + b"\0" for text in (path, *arguments)]
        base = self._room(b"".join(strings))
        places, at = [], base
        for text in strings:
            places.append(at)
            at += len(text)
        vector = struct.pack(f"<{len(places) + 1}Q", *places, 0)
        self._prepare("execve", (places[0], self._room(vector, 4096), 0))
        # The tracer has cap_sys_ptrace: to be traced takes nothing from an exec (capabilities(7)).
        if self._step() == _EXEC_EVENT:
            error = 0
        else:
            error = -self._result()
            self._prepare("exit", (126,))  # it must not go on as a second daemon
        self._ptrace(_DETACH, 0, 0)
        return error

    def _prepare(self, name: str, arguments: tuple[int | bytes, ...]) -> None:
        registers = _Registers.from_buffer_copy(self._registers)
        registers.rax, registers.orig_rax = NR[name], 2**64 - 1
        registers.rip = self._syscall
        offset = 0
        for register, argument in zip(
            ("rdi", "rsi", "rdx", "r10", "r8", "r9"),
            (*arguments, 0, 0, 0, 0, 0, 0),
            strict=False,
        ):
            if isinstance(argument, bytes):
                value, offset = self._room(argument, offset), offset + 256
            else:
                value = argument & (2**64 - 1)
            setattr(registers, register, value)
        self._ptrace(_SETREGS, 0, ctypes.addressof(registers))

    def _room(self, content: bytes, offset: int = 0) -> int:
        address = int(self._registers.rsp) - _RED_ZONE + offset
        memory = os.open(f"/proc/{self.tid}/mem", os.O_RDWR)
        try:
            os.pwrite(memory, content, address)
        finally:
            os.close(memory)
        return address

    def _read(self, address: int, length: int) -> bytes:
        memory = os.open(f"/proc/{self.tid}/mem", os.O_RDONLY)
        try:
            return os.pread(memory, length, address)
        finally:
            os.close(memory)

    def release(self) -> None:
        """Let the thread go on where it was, with the signals that came meanwhile."""
        self._ptrace(_SETREGS, 0, ctypes.addressof(self._registers))
        ptrace(_DETACH, self.tid)
        for number in self._signals:
            os.kill(self.tid, number)

    def _ptrace(self, request: int, address: int, data: int) -> None:
        ptrace(request, self.tid, address, data)


_WALL = 0x40000000  # __WALL: children of clone(2) too


def ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, tid, address, data) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@contextmanager
def traced(tid: int) -> Iterator[Tracee]:
    """Stop thread ``tid`` for a while; it goes on afterwards where it was."""
    ptrace(_SEIZE, tid, 0, _TRACE_CLONE | _TRACE_EXEC)
    ptrace(_INTERRUPT, tid)
    os.waitpid(tid, _WALL)
    tracee = Tracee(tid)
    try:
        yield tracee
    finally:
        tracee.release()


def _syscall_instruction(tid: int) -> int:
    """Return where in the program of ``tid`` there are the octets of ``syscall``."""
    for line in Path(f"/proc/{tid}/maps").read_text().splitlines():
        span, mode, *_ = line.split()
        if "x" not in mode or line.endswith("[vsyscall]"):
            continue
        start, end = (int(address, 16) for address in span.split("-"))
        with Path(f"/proc/{tid}/mem").open("rb") as memory:
            memory.seek(start)
            at = memory.read(end - start).find(b"\x0f\x05")
        if at >= 0:
            return start + at
    raise LookupError(f"no syscall instruction in {tid}")
