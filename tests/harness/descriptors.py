"""What a process has open."""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path


def count_open() -> int:
    """Return how many descriptors this process has open, without other tests' garbage."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def opened(pid: int | str = "self") -> list[str]:
    """Return what a process has open: paths, ``socket:[NUMBER]``, ``anon_inode:[KIND]``.

    What it closes meanwhile is not among them.
    """
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            links.append(str(link.readlink()))
    return links
