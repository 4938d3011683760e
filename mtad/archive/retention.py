"""What is over ``store.retention`` goes: the oldest first, messages and sessions alike.

Ids are given at the commit: the age of a row is that of its id, and "up to an id" is in the order
of time. Nothing goes that is not in the index, so that it has been counted and offered to whoever
waited for it.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mtad.ipc.questions import Retention
from mtad.log import event
from mtad.store.database import Database
from mtad.store.reader import used
from mtad.store.removal import HOLD_SECONDS, PAUSE_SECONDS, Kind, write_back

_log = logging.getLogger("mtad.archive")

_NS = 1_000_000_000
_BATCH = 256
_STEP_PAGES = 64
_SPARE_PAGES = 1_024
_LONG_WAL = 64 * 2**20

# A clock that goes forward by more than this at once is not believed for as long.
_JUMP_SECONDS = 3_600
# Nor is it, at a start, when the newest that is kept seems to be older than this.
_GAP_SECONDS = 30 * 86_400

_OLDEST = """
SELECT * FROM (SELECT id, 'message' AS kind, size FROM message ORDER BY id LIMIT :batch)
UNION ALL
SELECT * FROM (
    SELECT id, 'session', (
        SELECT ifnull(sum(length(entries)), 0) FROM transcript WHERE session = session.key
    ) FROM session ORDER BY id LIMIT :batch
)
ORDER BY 1 LIMIT :batch
"""
# Of a worker that was killed, or of a session that still goes on: then its beginning goes.
_WITHOUT_SESSION = (
    "SELECT DISTINCT session FROM transcript WHERE session < ?"
    " AND NOT EXISTS (SELECT 1 FROM session WHERE key = transcript.session) LIMIT ?"
)


@dataclass(slots=True)
class Excess:
    """By how much a store is over its limits: up to an id, in messages, in octets."""

    before: int
    messages: int
    octets: int

    @classmethod
    def of(cls, mail: sqlite3.Connection, limits: Retention, now_ns: int) -> Excess:
        """Measure ``mail``; ``now_ns`` is 0 when the clock does not count."""
        messages = 0
        if limits.messages:
            (count,) = mail.execute("SELECT count(*) FROM message").fetchone()
            messages = count - limits.messages
        return cls(
            max(0, now_ns - int(limits.age * _NS)) if limits.age and now_ns else 0,
            messages,
            used(mail) - limits.size if limits.size else 0,
        )

    def covers(self, number: int) -> bool:
        """Whether the oldest row, with the id ``number``, is too much."""
        return number < self.before or self.messages > 0 or self.octets > 0


def doomed(mail: sqlite3.Connection, excess: Excess, indexed: int) -> list[tuple[Kind, int]]:
    """Return some of what has to go, in order; nothing is newer than ``indexed``."""
    found: list[tuple[Kind, int]] = []
    up_to = excess.before
    for number, kind, octets in mail.execute(_OLDEST, {"batch": _BATCH}):
        if number > indexed or not excess.covers(number):
            break
        found.append((kind, number))
        up_to = max(up_to, number)
        excess.messages -= kind == "message"
        excess.octets -= octets
    left = mail.execute(_WITHOUT_SESSION, (up_to, _BATCH))
    return [*found, *(("transcript", key) for (key,) in left)]


class Clock:
    """The time of day, as far as it can be believed: what it says may delete everything.

    A clock that was set forward is believed an hour later, which is said in the log; one that was
    set back makes nothing old. ``read`` returns the time of day, and one that nobody sets and that
    no suspend stops, in nanoseconds.
    """

    def __init__(self, newest_ns: int, read: Callable[[], tuple[int, int]] | None = None) -> None:
        self._read = read or _read
        now, steady = self._read()
        self._offset = now - steady
        self._doubtful_until = 0
        gap = now // _NS - newest_ns // _NS
        if newest_ns and gap > _GAP_SECONDS:
            self._doubt(steady, gap)

    def now(self) -> int:
        """Return nanoseconds since the epoch, or 0 while that is doubtful."""
        now, steady = self._read()
        jump, self._offset = (now - steady - self._offset) // _NS, now - steady
        if jump > _JUMP_SECONDS:
            self._doubt(steady, jump)
        elif jump < -_JUMP_SECONDS:
            self._doubtful_until = 0
        return now if steady >= self._doubtful_until else 0

    def _doubt(self, steady: int, seconds: int) -> None:
        self._doubtful_until = steady + _JUMP_SECONDS * _NS
        event(_log, logging.WARNING, "store.clock", ahead=seconds, waits=_JUMP_SECONDS)


def _read() -> tuple[int, int]:
    return time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def give_back(database: Database, spare: int = _SPARE_PAGES) -> None:
    """Give free pages back to the file system, in steps as short as those of `remove`.

    Some are left for what comes next, ``spare``. Raises StoreError, sqlite3.Error.
    """
    mail = database.connection
    few = max(spare, _pragma(mail, "page_count") // 20) if spare else 0
    if _pragma(mail, "freelist_count") <= few:
        return
    while _pragma(mail, "freelist_count") > spare:
        with database.transaction():
            until = time.monotonic() + HOLD_SECONDS
            while time.monotonic() < until:
                mail.execute(f"PRAGMA incremental_vacuum({_STEP_PAGES})").fetchall()
        write_back(database)  # only then is the file shorter
        time.sleep(PAUSE_SECONDS)


def cut(database: Database, length: int = _LONG_WAL) -> None:
    """Cut a WAL longer than ``length``, if nobody reads from it. Raises StoreError."""
    with suppress(FileNotFoundError):
        if Path(f"{database.path}-wal").stat().st_size > length:
            write_back(database, "TRUNCATE")


def _pragma(mail: sqlite3.Connection, name: str) -> int:
    (value,) = mail.execute(f"PRAGMA {name}").fetchone()
    return int(value)
