"""Room that is kept back: on a full disk, what deletes needs some itself.

SQLite writes what changes before it frees what goes, so there is a file in the store's directory
that can be given up for that. It is made again as soon as there is room.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from mtad.log import event

_log = logging.getLogger("mtad.store")

FILE = "mail.reserve"
"""Its name in the store's directory."""

_OCTETS = 4 * 2**20
# Of a small file system it is this part at most, and it is made when so many times as much is free.
_PART = 8
_TIMES = 3


def keep(directory: Path) -> None:
    """Make the reserve if it is not there, and there is room. Raises OSError."""
    path = directory / FILE
    octets, free = _measured(directory)
    if path.exists() or free < _TIMES * octets:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        os.posix_fallocate(descriptor, 0, octets)
    except OSError:
        path.unlink()  # somebody was faster
    finally:
        os.close(descriptor)


def is_short(directory: Path) -> bool:
    """Return whether less is free than the reserve takes, or needs to be made. Raises OSError."""
    octets, free = _measured(directory)
    return free < octets * (1 if (directory / FILE).exists() else _TIMES)


def _measured(directory: Path) -> tuple[int, int]:
    """Return the size of the reserve, and what is free besides it, in octets."""
    disk = os.statvfs(directory)
    octets = min(_OCTETS, disk.f_blocks * disk.f_frsize // _PART)
    return octets, disk.f_bavail * disk.f_frsize


def give_up(directory: Path) -> None:
    """Let others have the room of the reserve, if it is there. Raises OSError."""
    with suppress(FileNotFoundError):
        (directory / FILE).unlink()
        event(_log, logging.WARNING, "store.reserve", exc_info=None, reason="the disk is full")
