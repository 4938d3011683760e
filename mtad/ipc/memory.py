"""Memory that processes share."""

from __future__ import annotations

import fcntl
import os


def create(name: str, size: int) -> int:
    """Return a descriptor of ``size`` octets of new shared memory, all zero.

    It is sealed (memfd_create(2)): whoever holds it cannot shrink it, which would kill a reader.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor
