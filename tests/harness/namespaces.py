"""Namespaces of the calling thread's own; every process that it starts is in them too."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

NET, MOUNT = ("net", 0x40000000), ("mnt", 0x00020000)
"""The name in /proc/PID/ns, and the flag of unshare(2)."""

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def unshared(namespace: tuple[str, int]) -> Iterator[None]:
    """Be in a new namespace of that kind, then in the old one again."""
    name, flag = namespace
    home = os.open(f"/proc/thread-self/ns/{name}", os.O_RDONLY)
    try:
        _check(_libc.unshare(flag))
        try:
            yield
        finally:
            _check(_libc.setns(home, flag))
    finally:
        os.close(home)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
