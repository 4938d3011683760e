"""``mail.db``, open for writing: its lock, its version, and its faults as StoreError.

Who writes holds ``mail.lock`` (flock(2)), so that writers in other processes wait without polling;
SQLite's own lock is there for strangers. Statements are executed by ``connection`` between
``begin`` and ``commit``.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mtad.errors import StoreError
from mtad.log import event
from mtad.model import ids
from mtad.store.schema import APPLICATION_ID, MIGRATIONS, NEWEST, VERSION

FILE, BODIES = "mail.db", "bodies"
"""Names in the store's directory."""

GROWING = ".tmp"
"""So ends the name of a file in ``bodies/`` whose message is not there yet."""

_log = logging.getLogger("mtad.store")

_LOCK = "mail.lock"
_BUSY_SECONDS = 5.0
# After a burst the WAL is cut to this, in octets.
_WAL_LIMIT = 67_108_864

_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_REPAIR = "`mtactl store repair` begins a new one, with all that can be read of it"
_ROOM = "make room, keep less (store.retention), or delete some (`mtactl message delete`)"
_HELP = {
    sqlite3.SQLITE_FULL: _ROOM,
    sqlite3.SQLITE_IOERR_SHMSIZE: _ROOM,
    sqlite3.SQLITE_BUSY: "end the program that holds the lock: see `fuser mail.db`",
    sqlite3.SQLITE_READONLY: "mount it for writing, and check the owner of the file",
    sqlite3.SQLITE_CANTOPEN: "check that the directory is there, and its owner",
    sqlite3.SQLITE_CORRUPT: _REPAIR,
    sqlite3.SQLITE_NOTADB: _REPAIR,
}


def error_of(error: Exception, place: Path) -> StoreError:
    """Return ``error``, which came up at ``place``, as a StoreError."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
        return StoreError(
            f"{place}: {error} ({name})",
            full=code in _FULL,
            help=_HELP.get(code) or _HELP.get(code & 0xFF, ""),
        )
    if isinstance(error, OSError):
        full = error.errno in _NO_ROOM
        found = f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)})"
        hint = _HELP[sqlite3.SQLITE_FULL] if full else "check the file system, and the owner"
        return StoreError(f"{error.filename or place}: {found}", full=full, help=hint)
    return StoreError(f"{place}: {type(error).__name__}: {error}")


class Database:
    """An open ``mail.db`` in ``directory``, made if it is missing.

    ``synced``: a commit is on disk when it returns (fsync(2)). Not for two threads at once.
    Raises StoreError: it cannot be opened, is no database of ours, or of a newer version.
    """

    def __init__(self, directory: Path, *, synced: bool = True) -> None:
        self.path = directory / FILE
        self._synced = synced
        self._lock = -1
        self._file: tuple[int, int] | None = None
        try:
            self._open(directory)
        except (sqlite3.Error, OSError) as error:
            raise error_of(error, self.path) from error

    def _open(self, directory: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(directory / _LOCK, flags, 0o640)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            make_directory(str(directory / BODIES))
            self._connect()
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        except BaseException:
            os.close(self._lock)
            raise

    def _make_if_missing(self, directory: Path) -> None:
        if self.path.exists():
            if self.path.stat().st_size:
                return
            self.path.unlink()  # one that was emptied belongs to nothing beside it
        aside = set_aside(directory)
        if aside or self._file:
            event(
                _log,
                logging.WARNING,
                "store.begun",
                reason=f"{self.path} was gone, or empty",
                aside=[str(path) for path in aside],
            )
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
        sync(directory)

    def is_current(self) -> bool:
        """Whether the file at the path is still the one that is open, and not emptied."""
        try:
            found = os.stat(self.path)  # noqa: PTH116 (for each group)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._file and found.st_size > 0

    def begin(self, *, wait: bool = True) -> bool:
        """Begin to write; return False when that means to wait, and ``wait`` is not asked for.

        Raises StoreError, after 5 s of waiting for a stranger, too.
        """
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        begun = False
        try:
            # Whoever had the lock may have put another file in its place (mtad.store.repair).
            if not self.is_current():
                if not wait:
                    return False
                self._leave()
                self._connect()
            self._begin(_BUSY_SECONDS if wait else 0.0)
            begun = True
        except (sqlite3.Error, OSError) as error:
            code = getattr(error, "sqlite_errorcode", None)
            if wait or code not in _BUSY:
                raise error_of(error, self.path) from error
        finally:
            if not begun:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
        return begun

    def _connect(self) -> None:
        """Open the file that is at the path, under the lock."""
        self._make_if_missing(self.path.parent)
        self.connection = _connected(self.path, synced=self._synced)
        self._file = identity_of(self.path)

    def _leave(self) -> None:
        """Close a file that is no longer at the path."""
        if self.path.exists():
            # One that was emptied gets no part of itself back from its WAL, at its end.
            if not self.path.stat().st_size:
                self.path.unlink()
        else:
            # It was moved away, without its WAL, which the last to close it would throw away.
            with suppress(sqlite3.Error):
                self.connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1_000:.0f}")
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self.connection.close()

    def _begin(self, patience: float) -> None:
        if patience:
            self.connection.execute(f"PRAGMA busy_timeout = {patience * 1_000:.0f}")
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        finally:
            if patience:
                self.connection.execute("PRAGMA busy_timeout = 0")

    def next_id(self) -> int:
        """Return an id that is greater than all before, to be used in this transaction."""
        (last,) = self.connection.execute(NEWEST, {"highest": ids.highest()}).fetchone()
        return max(int(last) + 1, time.time_ns())

    def commit(self) -> None:
        """Make what was written last, and let others write. Raises StoreError: nothing is kept."""
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.rollback()
            raise error_of(error, self.path) from error
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def rollback(self) -> None:
        """Take back what was written, and let others write."""
        with suppress(sqlite3.Error):
            self.connection.rollback()
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write what the block executes, all or nothing. Raises StoreError."""
        self.begin()
        try:
            yield self.connection
        except BaseException as error:
            self.rollback()
            if isinstance(error, sqlite3.Error):
                raise error_of(error, self.path) from error
            raise
        self.commit()

    def close(self) -> None:
        """Close the file; an open transaction is taken back."""
        with suppress(sqlite3.Error):
            self.connection.close()
        os.close(self._lock)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Have the lock of the store in ``directory``; those who write wait. Raises OSError."""
    lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def set_aside(directory: Path) -> list[Path]:
    """Rename what a ``mail.db`` that is gone has left behind; return the new names.

    Its WAL may hold commits, and files of content belong to its messages: beside a new one they
    would be removed. Files that still grow stay: they are of messages to come. Under the lock.
    Raises OSError.
    """
    end = f"old-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    wal, bodies = directory / f"{FILE}-wal", directory / BODIES
    old_wal, old_bodies = directory / f"{wal.name}.{end}", directory / f"{BODIES}.{end}"
    found = []
    # Others may still have it mapped.
    (directory / f"{FILE}-shm").unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        if wal.stat().st_size:
            wal.rename(old_wal)
            found.append(old_wal)
        wal.unlink(missing_ok=True)
    make_directory(str(bodies))
    if left := [path for path in bodies.iterdir() if not path.name.endswith(GROWING)]:
        old_bodies.mkdir(mode=0o750, exist_ok=True)
        for path in left:
            path.rename(old_bodies / path.name)
        sync(old_bodies)
        found.append(old_bodies)
    return found


def make_directory(path: str) -> None:
    """Make the directory ``path``, on disk, if there is none. Raises OSError."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o750)  # noqa: PTH102 (a text is what there is)
        sync(os.path.dirname(path))  # noqa: PTH120


def sync(directory: str | Path) -> None:
    """Have the names of a directory on disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring an open database to VERSION, each step a transaction.

    Raises:
        StoreError: it is of a newer version, or not ours.
        sqlite3.Error: a step has failed, and is taken back.
    """
    found = _pragma(connection, "user_version")
    application = _pragma(connection, "application_id")
    is_empty = not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != APPLICATION_ID and not (application == 0 and is_empty):
        raise StoreError("it is a database of another program", help="move it away")
    if found > VERSION:
        raise StoreError(
            f"it has version {found}, and this mtad knows {VERSION}",
            help="run the mtad that has written it, or move it away",
        )
    for number, script in enumerate(MIGRATIONS[found:], found + 1):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {number}; COMMIT"
            )
        except sqlite3.Error:
            connection.rollback()
            raise


def _connected(path: Path, *, synced: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        if not _pragma(connection, "page_count"):
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        try:
            migrate(connection)
        except StoreError as error:
            raise StoreError(f"{path}: {error.message}", help=error.help) from error
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        # What is written stays in memory until the commit, which is not on the loop's thread.
        connection.execute("PRAGMA cache_spill = OFF")
        connection.execute("PRAGMA busy_timeout = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at ``path`` from others; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
