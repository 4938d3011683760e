"""The channel of a worker, or of the archive, to the supervisor in the hands of a test."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SYS_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


def taken(pid: int, descriptor: int) -> int:
    """Return a duplicate of another process's descriptor (pidfd_getfd(2))."""
    process = os.pidfd_open(pid)
    try:
        number: int = _libc.syscall(_SYS_PIDFD_GETFD, process, descriptor, 0)
        assert number >= 0, os.strerror(ctypes.get_errno())
        return number
    finally:
        os.close(process)


@contextmanager
def channel_of(child: int) -> Iterator[socket.socket]:
    """Yield its end of its channel to the supervisor."""
    words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
    number = int(words[words.index("-m") + 3])
    with socket.socket(fileno=taken(child, number)) as channel:
        channel.setblocking(True)
        yield channel
