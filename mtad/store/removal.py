"""How mail is deleted: rows in short transactions, then the files of their content.

Whoever deletes holds the store's lock for ``HOLD_SECONDS`` and what a commit takes, and leaves it
to the writers for several times as long: flock(2) is not fair.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mtad.model import ids
from mtad.store import deliveries
from mtad.store.bodies import is_name
from mtad.store.database import BODIES, Database, error_of
from mtad.store.reserve import is_short

HOLD_SECONDS = 0.01
PAUSE_SECONDS = 0.03
# So many free pages go with what is deleted, where room is short.
_SHORT_PAGES = 4_096

Kind = Literal["message", "session", "transcript"]
"""A session goes with its transcript; a transcript is that of a session without a row."""

_FLOOR = (
    "INSERT INTO state VALUES ('floor', :newest)"
    " ON CONFLICT DO UPDATE SET value = max(iif(value <= :highest, value, 0), :newest)"
)


@dataclass(slots=True)
class Removed:
    """What one transaction has deleted: ids, and the octets of the messages' content.

    ``unsent`` counts the recipients that their messages will not be sent on to.
    """

    messages: list[int] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)
    octets: int = 0
    unsent: int = 0
    files: list[str] = field(default_factory=list)


def remove(database: Database, doomed: Sequence[tuple[Kind, int]]) -> Iterator[Removed]:
    """Delete messages and sessions by their ids, transcripts by the keys of their sessions.

    Yields what each transaction has deleted, when it is on disk; what is not there is left out. No
    id is given again. Blocks. Raises StoreError; what was yielded stays deleted.
    """
    # What was deleted is written back by this process, not within a commit that others wait for.
    database.connection.execute("PRAGMA wal_autocheckpoint = 0")
    # Nor are pages overwritten that go: on a full disk there is no room for that.
    database.connection.execute("PRAGMA secure_delete = FAST").fetchone()
    at = 0
    while at < len(doomed):
        removed = Removed()
        with database.transaction() as mail:
            until = time.monotonic() + HOLD_SECONDS
            while at < len(doomed) and time.monotonic() < until:
                kind, number = doomed[at]
                _DELETE[kind](mail, number, removed)
                at += 1
            highest = ids.highest()
            ours = (number for number in removed.messages + removed.sessions if number <= highest)
            if (newest := max(ours, default=0)) > 0:
                mail.execute(_FLOOR, {"newest": newest, "highest": highest})
            if is_short(database.path.parent):
                # A shorter file needs less room to be written back.
                mail.execute(f"PRAGMA incremental_vacuum({_SHORT_PAGES})").fetchall()
        write_back(database)
        _remove_files(database.path, removed.files)
        yield removed
        if at < len(doomed):
            time.sleep(PAUSE_SECONDS)


def write_back(database: Database, how: str = "PASSIVE") -> None:
    """Have the WAL written back to the file, if there is room; nobody waits for this.

    ``how`` is as in the pragma. Raises StoreError.
    """
    try:
        database.connection.execute(f"PRAGMA wal_checkpoint({how})").fetchall()
    except sqlite3.Error as error:
        found = error_of(error, database.path)
        if not found.full:
            raise found from error


def _message(mail: sqlite3.Connection, number: int, removed: Removed) -> None:
    deleted = "DELETE FROM message WHERE id = ? RETURNING size, file"
    for size, file in mail.execute(deleted, (number,)).fetchall():
        removed.messages.append(number)
        removed.octets += size
        if file is not None:
            removed.files.append(file)
    removed.unsent += deliveries.forget(mail, number)


def _session(mail: sqlite3.Connection, number: int, removed: Removed) -> None:
    deleted = "DELETE FROM session WHERE id = ? RETURNING key"
    for (key,) in mail.execute(deleted, (number,)).fetchall():
        removed.sessions.append(number)
        _transcript(mail, key, removed)


def _transcript(mail: sqlite3.Connection, key: int, _: Removed) -> None:
    mail.execute("DELETE FROM transcript WHERE session = ?", (key,))


_DELETE: dict[Kind, Callable[[sqlite3.Connection, int, Removed], None]] = {
    "message": _message,
    "session": _session,
    "transcript": _transcript,
}


def _remove_files(path: Path, names: Sequence[str]) -> None:
    """Remove content whose rows are gone; those must not come back after a power cut."""
    if not names:
        return
    try:
        # The lock is free: writers do not wait for this.
        with suppress(FileNotFoundError):
            descriptor = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        for name in filter(is_name, names):
            # What is not there, or no file, is not what was kept.
            with suppress(FileNotFoundError, IsADirectoryError):
                (path.parent / BODIES / name).unlink()
    except OSError as error:
        raise error_of(error, path) from error
