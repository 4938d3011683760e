"""The content of messages: in memory while it is short, else in a file in ``bodies/``.

A file grows under a name of its own that ends with ``.tmp``, locked (flock(2)) by who writes it;
at the commit it is synced and gets its name, ``ID.TAG``, before the row is there.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import sqlite3
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeGuard

from mtad.errors import StoreError
from mtad.model import ids
from mtad.store.database import BODIES, GROWING, Database, error_of, make_directory

IN_ROW = 65_536
"""Content of up to so many octets is in the row of its message."""


class Content:
    """One message's; see mtad.model.envelope.Body. ``directory`` is ``bodies/``.

    ``tell`` is called with why its file cannot be written.
    """

    __slots__ = ("_chunks", "_descriptor", "_directory", "_hash", "_path", "_tag", "_tell", "size")

    def __init__(self, directory: str, tell: Callable[[StoreError], None]) -> None:
        self.size = 0
        self._directory = directory
        self._tell = tell
        self._chunks: list[bytes] = []
        self._descriptor = -1
        self._tag = self._path = ""  # of the file

    def write(self, octets: bytes | memoryview) -> None:
        """Add to the content; StoreError when there is no room."""
        self.size += len(octets)
        if self.size <= IN_ROW:
            self._chunks.append(bytes(octets))
            return
        try:
            if self._descriptor < 0:
                self._spill()
            self._write(octets)
        except OSError as error:
            self.discard()
            found = error_of(error, Path(self._directory))
            self._tell(found)
            raise found from error

    def end(self) -> tuple[bytes, bytes | None]:
        """Return the SHA-256 of the whole, and the content itself unless it is in a file."""
        if self._descriptor >= 0:
            return self._hash.digest(), None
        chunks = self._chunks
        content = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return hashlib.sha256(content).digest(), content

    def name_for(self, number: int) -> str:
        """Return the name that the file of message ``number`` has; no other ever has it."""
        return f"{ids.encode(number)}.{self._tag}"

    def place(self, number: int, *, synced: bool) -> None:
        """Give the file its name, on disk if ``synced`` (the name is with the directory's sync).

        Raises OSError.
        """
        if synced:
            os.fdatasync(self._descriptor)
        path = f"{self._directory}/{self.name_for(number)}"
        os.rename(self._path, path)  # noqa: PTH104 (a text is what there is)
        self._path = path

    @property
    def is_lost(self) -> bool:
        """Whether somebody has removed the file."""
        return self._descriptor >= 0 and not os.path.exists(self._path)  # noqa: PTH110

    def close(self) -> None:
        """Let go of the file, if there is one, and leave it where it is."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def discard(self) -> None:
        """Forget the content, and remove its file."""
        self._chunks.clear()
        if self._descriptor >= 0:
            with suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108
            self.close()

    def _spill(self) -> None:
        self._tag, self._descriptor = _new_file(self._directory)
        self._path = f"{self._directory}/{self._tag}{GROWING}"
        self._hash = hashlib.sha256()
        self._write(b"".join(self._chunks))
        self._chunks.clear()

    def _write(self, octets: bytes | memoryview) -> None:
        self._hash.update(octets)
        rest = memoryview(octets)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


def open_content(bodies: Path, name: str | None) -> int:
    """Return a descriptor of the file ``name`` in ``bodies``, to be read. Raises OSError.

    Whoever may write to the row, or there, could have put in anything: a path, a link, a device, a
    FIFO that nobody writes to.
    """
    if not is_name(name):
        raise OSError(errno.EINVAL, "no name of a file of ours")
    return open_regular(bodies / name)


def is_name(name: str | None) -> TypeGuard[str]:
    """Whether ``name``, from a row, is that of a file in ``bodies/``, and no path."""
    return bool(name) and not {"/", "\0"} & set(name or "")


def open_regular(path: Path) -> int:
    """Return a descriptor of a regular file, to be read; never waits. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return descriptor


def _new_file(directory: str) -> tuple[str, int]:
    """Return the tag and the descriptor of a new file, locked by it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    while True:
        tag = secrets.token_hex(8)
        try:
            descriptor = os.open(f"{directory}/{tag}{GROWING}", flags, 0o640)
        except FileNotFoundError:  # the first, or somebody has removed the directory
            make_directory(directory)
            continue
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return tag, descriptor
        os.close(descriptor)  # remove_orphans was between the two calls


def remove_orphans(directory: Path) -> int:
    """Remove the files of the store in ``directory`` that belong to no message; return how many.

    Safe beside those who write. Raises StoreError.
    """
    return each_orphan(directory, Path.unlink)


def each_orphan(directory: Path, act: Callable[[Path], object]) -> int:
    """Call ``act`` for each file that belongs to no message; return how often.

    These are left by who was killed while a message arrived, or before its row was committed.
    Nobody makes a file his own meanwhile. Raises StoreError.
    """
    bodies = directory / BODIES
    try:
        # What is no file is none of ours, and is left alone.
        names = sorted(path.name for path in bodies.iterdir() if _is_regular(path))
        growing = [name for name in names if name.endswith(GROWING)]
        found = sum(_act_if_left(bodies / name, act) for name in growing)
        with Database(directory) as database:
            placed = [name for name in names if name not in growing]
            suspects = [name for name in placed if not _has_row(database, name)]
            if suspects:
                # Under the lock there is nobody between a file's name and the commit of its row.
                with database.transaction():
                    for name in suspects:
                        if (bodies / name).exists() and not _has_row(database, name):
                            act(bodies / name)
                            found += 1
    except (sqlite3.Error, OSError) as error:
        raise error_of(error, bodies) from error
    return found


def _is_regular(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def _act_if_left(path: Path, act: Callable[[Path], object]) -> bool:
    """Call ``act`` for a growing file whose writer is gone; return whether it was so."""
    try:
        descriptor = open_regular(path)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        act(path)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True


def _has_row(database: Database, name: str) -> bool:
    try:
        number = ids.decode(name.partition(".")[0])
    except ValueError:
        return False
    row = database.connection.execute("SELECT file FROM message WHERE id = ?", (number,)).fetchone()
    return row is not None and row[0] == name
