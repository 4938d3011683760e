"""What is kept, read: rows of ``mail.db``, and the content of messages.

A connection is made by ``open_reading`` and changes nothing. All functions here raise sqlite3.Error
and OSError as these come; ``mtad.store.database.error_of`` makes a StoreError of them.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

import msgspec

from mtad.errors import StoreError
from mtad.log import event
from mtad.model import ids
from mtad.model.envelope import Captured, SessionSummary
from mtad.store.bodies import IN_ROW, open_content
from mtad.store.database import BODIES
from mtad.store.envelopes import decode
from mtad.store.schema import APPLICATION_ID, NEWEST, VERSION

_log = logging.getLogger("mtad.store")

T = TypeVar("T")

_BUSY_SECONDS = 5.0
# What no writer has written may be of any length: so much is read.
_KNOWN_OCTETS = 16_777_216
_ENVELOPE = f"iif(length(envelope) <= {_KNOWN_OCTETS}, envelope, x'')"
_BODY = f"iif(length(body) <= {IN_ROW}, body, NULL)"
_MESSAGE = f"SELECT id, session, size, sha256, {_ENVELOPE}, {_BODY}, file FROM message"  # noqa: S608
_SUMMARY = f"SELECT id, iif(length(summary) <= {_KNOWN_OCTETS}, summary, x'') FROM session"  # noqa: S608
_MOST_OCTETS = 2**48
# All parts of a transcript together have about so much.
_PART_OCTETS = 4_194_304
_TRANSCRIPT = (
    f"SELECT part, iif(length(entries) <= {_PART_OCTETS}, entries, x'') FROM transcript"  # noqa: S608
    " WHERE session = ? ORDER BY part"
)


class Counted(TypedDict):
    """What a transcript has in the place of a message, or of a line that is too long."""

    octets: int
    message: bool


Entry = tuple[int, Literal["C", "S", "-"], bytes | Counted]
"""Of a transcript: microseconds since the session began, who, and what."""

_entries_of = msgspec.msgpack.Decoder(list[Entry]).decode


@dataclass(frozen=True, slots=True)
class Kept:
    """A message: its content is ``body``, or that of ``file`` in ``bodies/``."""

    id: int
    session: int
    size: int
    sha256: bytes
    envelope: Captured
    body: bytes | None
    file: str | None


def open_reading(path: Path) -> sqlite3.Connection:
    """Return a connection to the ``mail.db`` at ``path``, for any one thread at a time.

    Raises:
        sqlite3.Error: it is missing, locked, or no database.
        StoreError: it is not ours, or of another version.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (application, version) != (APPLICATION_ID, VERSION):
            raise StoreError(
                f"{path}: it has version {version} (application {application:#x}), and this mtad "
                f"reads {VERSION} ({APPLICATION_ID:#x})",
                help="run the mtad that has written it, or move it away",
            )
    except BaseException:
        connection.close()
        raise
    return connection


def newest(mail: sqlite3.Connection) -> int:
    """Return the newest id that was given: everything that comes is greater."""
    (number,) = mail.execute(NEWEST, {"highest": ids.highest()}).fetchone()
    return int(number)


def messages(mail: sqlite3.Connection, after: int, up_to: int) -> Iterator[Kept]:
    """Yield the messages with ids above ``after``, up to one, in the order of ids.

    One whose envelope cannot be understood is left out, which is said in the log.
    """
    rows = mail.execute(f"{_MESSAGE} WHERE id > ? AND id <= ? ORDER BY id", (after, up_to))
    return _understood(rows, _kept)


def message(mail: sqlite3.Connection, number: int) -> Kept | None:
    """Return the message with the id ``number``, if it is there."""
    row = mail.execute(f"{_MESSAGE} WHERE id = ?", (number,)).fetchone()
    return row and _kept(row)


def octets(directory: Path, kept: Kept, offset: int, length: int) -> bytes:
    """Return up to ``length`` octets of a message's content; ``directory`` is the store's.

    Raises OSError: its file cannot be read.
    """
    if kept.body is not None:
        return kept.body[offset : offset + length]
    descriptor = open_content(directory / BODIES, kept.file)
    try:
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)


def session(mail: sqlite3.Connection, key: int) -> SessionSummary | None:
    """Return what is known of the session ``key``; None before its end, or if it is not kept."""
    return next(
        _understood(mail.execute(f"{_SUMMARY} WHERE key = ?", (key,)), _session), (0, None)
    )[1]


def sessions_after(
    mail: sqlite3.Connection, after: int, up_to: int
) -> Iterator[tuple[int, SessionSummary]]:
    """Yield the sessions with ids above ``after``, up to one, and these, as `messages` does."""
    rows = mail.execute(f"{_SUMMARY} WHERE id > ? AND id <= ? ORDER BY id", (after, up_to))
    return _understood(rows, _session)


def sessions(
    mail: sqlite3.Connection, before: int = 2**63 - 1
) -> Iterator[tuple[int, SessionSummary]]:
    """Yield sessions and their ids, below ``before``, the newest first."""
    rows = mail.execute(f"{_SUMMARY} WHERE id < ? ORDER BY id DESC", (before,))
    return _understood(rows, _session)


def transcript(mail: sqlite3.Connection, key: int) -> Iterator[Entry]:
    """Yield the entries of the transcript of session ``key`` (mtad.store.schema), in order.

    In the place of a part that cannot be understood is an event that says so.
    """
    at = 0
    for part, octets in mail.execute(_TRANSCRIPT, (key,)):
        try:
            entries = _entries_of(octets)
        except ValueError as error:
            entries = [
                (at, "-", f"(part {part} of the transcript cannot be read: {error})".encode())
            ]
        yield from entries
        at = entries[-1][0] if entries else at


def used(mail: sqlite3.Connection) -> int:
    """Return the octets that what is kept takes on the disk: pages in use, and ``bodies/``."""
    (octets,) = mail.execute(
        "SELECT (page_count - freelist_count) * page_size"
        " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
    ).fetchone()
    # total() has no overflow, whatever somebody has put there.
    (files,) = mail.execute("SELECT total(size) FROM message WHERE file IS NOT NULL").fetchone()
    return int(octets + files)


def _understood(rows: Iterable[Any], read: Callable[[Any], T]) -> Iterator[T]:
    for row in rows:
        try:
            found = read(row)
        except ValueError as error:
            event(_log, logging.ERROR, "store.unreadable", id=ids.encode(row[0]), reason=str(error))
        else:
            yield found


def _session(row: tuple[int, bytes]) -> tuple[int, SessionSummary]:
    return row[0], decode(row[1], SessionSummary)


def _kept(row: tuple[int, int, int, bytes, bytes, bytes | None, str | None]) -> Kept:
    number, key, size, sha256, envelope, body, file = row
    if not 0 <= size <= _MOST_OCTETS:
        raise ValueError(f"a message has no {size} octets")
    return Kept(number, key, size, sha256, decode(envelope, Captured), body, file)
