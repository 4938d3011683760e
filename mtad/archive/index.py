"""``index.db``: what questions about mail are answered from. All of it can be made again.

One thread at a time writes (``advance``, ``leaving``, ``forget``), any number reads (``read``).
Nothing is synced: an index that was open when the machine went down is made anew, as is one that
is damaged or of another version.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from mtad.archive import entries, session_index, statistics
from mtad.archive.batch import next_batch
from mtad.archive.holds import has_term, holds
from mtad.archive.pool import Pool
from mtad.errors import StoreError
from mtad.log import event
from mtad.store import reader
from mtad.store.database import FILE, error_of, identity_of
from mtad.store.removal import Removed

INDEX = "index.db"
VERSION = 3
"""Of the tables, and of whatever decides what stands in them."""

_log = logging.getLogger("mtad.archive")

_BUSY_SECONDS = 5.0
_CACHE_KIB = 16_384
# After a question that took long the WAL is cut to this, in octets.
_WAL_LIMIT = 67_108_864
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_TABLES = (
    """
CREATE TABLE message (
    id INTEGER PRIMARY KEY,     -- that of mail.db
    size INTEGER NOT NULL,      -- octets of the content
    summary TEXT NOT NULL,      -- JSON: mtad.archive.summaries
    people TEXT NOT NULL,       -- JSON: mtad.archive.terms
    problem TEXT NOT NULL       -- what of it is not indexed, and why
) STRICT;
CREATE INDEX message_size ON message (size);
CREATE TABLE term (
    kind INTEGER NOT NULL,      -- mtad.archive.terms
    value TEXT NOT NULL,
    id INTEGER NOT NULL,        -- message.id
    PRIMARY KEY (kind, value, id)
) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5 (  -- rowid: message.id
    subject, people, header, text, tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TABLE leaving (          -- messages that are on their way out of mail.db, or out already
    id INTEGER PRIMARY KEY
) STRICT;
CREATE TABLE progress (
    indexed INTEGER NOT NULL,   -- everything up to this id is here
    changed INTEGER NOT NULL,   -- and every change of a delivery up to this one
    file INTEGER NOT NULL       -- that mail.db is: its inode; 0 at first
) STRICT;
CREATE TABLE boot (
    id TEXT NOT NULL            -- of the machine, while the index is open
) STRICT;
INSERT INTO progress VALUES (0, 0, 0);
"""
    + session_index.TABLES
    + statistics.TABLES
)


_REACHED = "UPDATE progress SET indexed = ?, changed = ?, file = ?"
# What is still to be in mail.db, if that is the one that was indexed.
_LAST = (
    "SELECT id FROM message WHERE NOT EXISTS (SELECT 1 FROM leaving WHERE id = message.id)"
    " ORDER BY id DESC LIMIT 1"
)


class Index:
    """The index of the store in ``directory``; opened, or made, when it is first written to.

    ``indexed`` is the id up to which it is complete, and ``is_full`` whether there is no room for
    more. Every method raises StoreError.
    ``open_mail`` opens the mail.db at a path.
    """

    def __init__(
        self,
        directory: Path,
        open_mail: Callable[[Path], sqlite3.Connection] = reader.open_reading,
    ) -> None:
        self.indexed = 0
        self.is_full = False
        self._open_mail = open_mail
        self._mail = directory / FILE
        self._path = directory / INDEX
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._unforgotten: deque[tuple[Removed, bool]] = deque()
        self.read = Pool(self._path, open_index)

    def advance(self) -> tuple[int, bool]:
        """Index a batch of what was committed; see mtad.archive.progress.Advancing."""
        with self._writing() as index:
            self._forget_all(index)
            known, changed = index.execute("SELECT file, changed FROM progress").fetchone()
            last = index.execute(_LAST).fetchone()
            with self._reading_mail() as mail:
                file = self._mail.stat().st_ino
                is_another = known not in {0, file} or (last and not _is_there(mail, last[0]))
                after = (0, 0) if is_another else (self.indexed, changed)
                batch = next_batch(self._mail.parent, mail, *after)
            if is_another:
                self._remove_files()
                index = self._open()
            with _transaction(index):
                entries.add(index, batch)
                index.execute(_REACHED, (batch.indexed, batch.changed, file))
            self.indexed = batch.indexed
            self.is_full = False
        return batch.indexed, batch.more

    def leaving(self, numbers: Sequence[int]) -> None:
        """Note that these messages are about to be deleted from mail.db.

        ``forget`` is to follow; if it does not, the next start sees to it. Where there is no room
        for that they are not noted: deleting makes some.
        """
        with _unless_full(), self._writing() as index, _transaction(index):
            rows = ((number,) for number in numbers)
            index.executemany("INSERT OR IGNORE INTO leaving VALUES (?)", rows)

    def forget(self, removed: Removed, *, pruned: bool) -> None:
        """Remove what is in mail.db no more, as soon as there is room; ``pruned`` is counted."""
        self._unforgotten.append((removed, pruned))
        with _unless_full(), self._writing() as index:
            self._forget_all(index)

    def reset_statistics(self) -> None:
        """Count from now on."""
        with self._writing() as index, _transaction(index):
            statistics.reset(index)

    def begin_anew(self) -> None:
        """Have everything indexed again, by the calls of ``advance`` that follow."""
        with self._lock:
            self._remove_files()

    def close(self) -> None:
        """Have all of it on disk, and close it."""
        with self._lock:
            if self._connection is not None:
                with suppress(sqlite3.Error), closing(self._connection) as index:
                    index.execute("PRAGMA synchronous = FULL")
                    index.execute("DELETE FROM boot")
                    index.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._connection = None

    def _forget_all(self, index: sqlite3.Connection) -> None:
        while self._unforgotten:
            removed, pruned = self._unforgotten[0]
            tally = statistics.Tally()
            if pruned:
                tally.pruned(len(removed.messages), len(removed.sessions), removed.octets)
            with _transaction(index):
                entries.remove(index, removed.messages)
                session_index.remove(index, removed.sessions)
                tally.write(index)
            self._unforgotten.popleft()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the index to write to. One that turns out to be damaged is removed.

        After a failure nothing is open: the file system may have to be repaired.
        """
        with self._lock:
            try:
                yield self._current()
            except sqlite3.Error as error:
                if error.sqlite_errorcode & 0xFF in _DAMAGED:
                    self._remove_files()
                found = error_of(error, self._path)
                self.is_full = found.full
                self._let_go()
                raise found from error
            except OSError as error:
                self._let_go()
                raise error_of(error, self._path) from error
            except StoreError:  # of mail.db
                self._let_go()
                raise

    @contextmanager
    def _reading_mail(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._open_mail(self._mail)) as mail:
                yield mail
        except sqlite3.Error as error:  # which is not the index's
            raise error_of(error, self._mail) from error

    def _current(self) -> sqlite3.Connection:
        """Return the index that is at the path; one that somebody has put there is made anew."""
        if self._connection is not None and identity_of(self._path) != self._file:
            event(_log, logging.WARNING, "index.begun", reason="its file has been replaced")
            self._remove_files()
        return self._connection or self._open()

    def _open(self) -> sqlite3.Connection:
        index = self._usable() or self._made()
        index.execute("DELETE FROM boot")
        index.execute("INSERT INTO boot VALUES (?)", (_boot_id(),))
        self._finish_leaving(index)
        (self.indexed,) = index.execute("SELECT indexed FROM progress").fetchone()
        self._file = identity_of(self._path)
        return index

    def _usable(self) -> sqlite3.Connection | None:
        """Return the index that is there, if it can be used."""
        try:
            index = self._connection = _opened(self._path)
            reason = _flaw(index)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                raise
            reason = str(error)
        else:
            if not reason:
                return index
        event(_log, logging.INFO, "index.begun", reason=reason)
        return None

    def _made(self) -> sqlite3.Connection:
        self._remove_files()
        index = self._connection = _opened(self._path)
        index.executescript(f"BEGIN; {_TABLES}; PRAGMA user_version = {VERSION}; COMMIT")
        return index

    def _finish_leaving(self, index: sqlite3.Connection) -> None:
        """Remove what a process that is no more has begun to delete."""
        leaving = [number for (number,) in index.execute("SELECT id FROM leaving")]
        if leaving:
            with self._reading_mail() as mail:
                gone = [number for number in leaving if not _is_there(mail, number)]
            with _transaction(index):
                entries.remove(index, gone)
                index.execute("DELETE FROM leaving")

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _remove_files(self) -> None:
        self._let_go()
        self.indexed = 0
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(f"{INDEX}{suffix}").unlink(missing_ok=True)


def _is_there(mail: sqlite3.Connection, number: int) -> bool:
    found = mail.execute("SELECT 1 FROM message WHERE id = ?", (number,))
    return found.fetchone() is not None


def _flaw(index: sqlite3.Connection) -> str:
    """Return why an index cannot be used; "": it can."""
    (version,) = index.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        return f"it has version {version}" if version else "it is new"
    if index.execute("SELECT 1 FROM boot WHERE id != ?", (_boot_id(),)).fetchone():
        return "the machine went down"
    return ""


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


@contextmanager
def _unless_full() -> Iterator[None]:
    """Let go of what has failed for want of room."""
    try:
        yield
    except StoreError as error:
        if not error.full:
            raise


@contextmanager
def _transaction(index: sqlite3.Connection) -> Iterator[None]:
    with index:
        index.execute("BEGIN IMMEDIATE")
        yield


def _opened(path: Path, how: str = "mode=rwc") -> sqlite3.Connection:
    place = f"{path.absolute().as_uri()}?{how}"
    connection = sqlite3.connect(
        place, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA secure_delete = OFF").fetchone()
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def indexed_of(index: sqlite3.Connection) -> int:
    """Return the id up to which it is complete, also where nothing can be written to it."""
    (indexed,) = index.execute("SELECT indexed FROM progress").fetchone()
    return int(indexed)


def open_index(path: Path) -> sqlite3.Connection:
    """Return a connection that changes nothing. Raises sqlite3.Error."""
    connection = _opened(path, "mode=rw")
    connection.execute("PRAGMA query_only = ON")
    connection.create_function("holds", -1, holds, deterministic=True)
    connection.create_function("has_term", -1, has_term, deterministic=True)
    return connection
