"""A wall clock of the test's own, for every process that it starts.

The kernel has one for all of them, so a library changes what they read; /etc/ld.so.preload, in
mounts of the test's own, brings it past environments that are cleared.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.mounts import mount, private_mounts

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """How many seconds the clock is off, in a file that every process maps."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.write_bytes(struct.pack("l", 0))
        file.chmod(0o644)

    def change(self, seconds: int) -> None:
        """Set the clock, from what it is in truth."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("l", seconds))


def missing() -> str:
    """Return why there can be no clock of one's own, or ""."""
    return "" if shutil.which("gcc") else "no gcc"


@contextmanager
def clock(directory: Path) -> Iterator[Clock]:
    """Yield the clock of the processes that are started meanwhile; ``directory`` is anybody's."""
    file, library = directory / "clock", directory / "clock.so"
    own = Clock(file)
    options = ["-shared", "-fPIC", "-O1", f'-DCLOCK_FILE="{file}"']
    subprocess.run(["gcc", *options, "-o", library, SOURCE], check=True)
    upper, work = directory / "upper", directory / "work"
    upper.mkdir()
    work.mkdir()
    (upper / "ld.so.preload").write_text(f"{library}\n")
    with private_mounts():
        layers = f"lowerdir=/etc,upperdir={upper},workdir={work}"
        mount("-t", "overlay", "-o", layers, "overlay", "/etc")
        yield own
