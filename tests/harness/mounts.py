"""File systems of the test's own: small ones, and one whose power can be cut."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from harness.daemon import until
from harness.namespaces import MOUNT, unshared

_EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_NO_LOG_FLUSH = 2
_SYNC_FILE_RANGE_WRITE = 2
_PAGE = 4096
_RUNS_OF_PAGES = 16

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def private_mounts() -> Iterator[None]:
    """Be in a mount namespace: what is mounted there nobody else sees, and it ends with it."""
    here = Path.cwd()
    with unshared(MOUNT):
        mount("--make-rprivate", "/")
        yield
    os.chdir(here)  # to come back is to be at the root


def mount(*arguments: str | Path) -> None:
    """Call mount(8). Raises subprocess.CalledProcessError."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)


class Disk:
    """An ext4 file system in a file, mounted at ``path``, which can lose its power.

    Then what nobody has synced is gone: the kernel's own code drops the dirty pages and what its
    journal has not written (EXT4_IOC_SHUTDOWN, as xfstests use it), and makes the file system
    whole again when it is next mounted.
    """

    def __init__(self, image: Path, path: Path, megabytes: int = 1024) -> None:
        self._image = image
        self._path = path
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        options = ["-q", "-m", "0", "-J", "size=8", "-E", "lazy_itable_init=0"]
        subprocess.run(["mkfs.ext4", *options, image], check=True, capture_output=True)
        self._mount()

    def fail(self, chance: Random) -> None:
        """Cut the power; from now on every write fails, and the disk has what it has.

        Of what nobody has synced, some is on the disk all the same, and not the oldest first.
        """
        with suppress(FileNotFoundError):  # a body that is kept or given up meanwhile
            for path in sorted(self._path.rglob("*")):
                if path.is_file():
                    _write_back(path, chance)
        root = os.open(self._path, os.O_RDONLY)
        try:
            fcntl.ioctl(root, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(root)

    def restore(self) -> None:
        """Have power again, as soon as nobody uses what was there."""
        until(lambda: subprocess.run(["umount", self._path], capture_output=True).returncode == 0)
        until(lambda: not self._loop_devices())  # one that is about to go would be used again
        self._mount()

    def _loop_devices(self) -> bytes:
        return subprocess.check_output(["losetup", "--associated", self._image])

    def _mount(self) -> None:
        mount("-t", "ext4", "-o", "loop", self._image, self._path)


def _write_back(path: Path, chance: Random) -> None:
    """Have the kernel write a few runs of a file's dirty pages, without any promise."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        pages = os.fstat(descriptor).st_size // _PAGE + 1
        for _ in range(_RUNS_OF_PAGES):
            first, count = chance.randrange(pages), chance.randint(1, max(1, pages // 8))
            start, length = ctypes.c_int64(first * _PAGE), ctypes.c_int64(count * _PAGE)
            _libc.sync_file_range(descriptor, start, length, _SYNC_FILE_RANGE_WRITE)
    finally:
        os.close(descriptor)


def missing_disk(directory: Path) -> str:
    """Return why there can be no Disk here, or ""."""
    if shutil.which("mkfs.ext4") is None:
        return "no mkfs.ext4"
    (point := directory / "probe").mkdir()
    try:
        with private_mounts():
            Disk(directory / "probe.img", point, megabytes=64).fail(Random(0))
    except (subprocess.CalledProcessError, OSError) as error:
        return f"no ext4 on a loop device that can be shut down: {error}"
    return ""
