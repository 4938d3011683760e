"""Whether what is kept is whole: the database, each message's content, and the files."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from mtad.model import ids
from mtad.store.bodies import each_orphan, open_content
from mtad.store.database import BODIES, FILE, error_of
from mtad.store.reader import open_reading
from mtad.store.removal import Kind

MOST_PROBLEMS = 20
"""So many are told in words; the others are counted."""

# Rows that are in memory at once, with their content.
_ROWS = 100
_STEPS = 1_000

_CONTENT = (
    "SELECT id, size, sha256, body, file FROM message WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
)
_NOBODYS = """
SELECT 'message', id FROM message WHERE id < 1 OR id > :highest
UNION ALL
SELECT 'session', id FROM session WHERE id < 1 OR id > :highest
"""
_UNFINISHED = (
    "SELECT count(*) FROM"
    " (SELECT session FROM message WHERE session > 0 EXCEPT SELECT key FROM session)"
)

Row = tuple[int, int, bytes, bytes | None, str | None]


@dataclass(slots=True)
class Findings:
    """What `check` has found; ``problems`` are for people, the first of them.

    ``corrupt``: SQLite finds the database damaged, or cannot read it. ``broken`` are the ids of
    messages whose content is missing or not what was kept; ``nobodys`` are rows with ids that
    nobody gives (mtad.model.ids), of which nothing else is looked at; ``unfinished`` is the number
    of sessions that have messages and no end: they still go on, or their worker was killed.
    """

    messages: int = 0
    octets: int = 0
    sessions: int = 0
    unfinished: int = 0
    orphans: int = 0
    broken: list[int] = field(default_factory=list)
    nobodys: list[tuple[Kind, int]] = field(default_factory=list)
    corrupt: bool = False
    problems: list[str] = field(default_factory=list)

    def tell(self, problem: str) -> None:
        """Add a problem in words."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)


def check(directory: Path, unwanted: Callable[[], bool] = lambda: False) -> Findings:
    """Look through the store in ``directory``, until ``unwanted``; blocks.

    Changes nothing, and holds the lock for no longer than a writer does. Raises StoreError: the
    database cannot be opened for a reason that is no damage.
    """
    findings = Findings()
    path = directory / FILE
    try:
        with closing(open_reading(path)) as mail:
            mail.set_progress_handler(unwanted, _STEPS)
            _check_database(mail, findings)
            highest = ids.highest()
            _check_ids(mail, highest, findings)
            for row in _rows(mail, highest):
                _check_content(directory, mail, row, findings)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise error_of(error, path) from error
        findings.corrupt = True
        findings.tell(str(error_of(error, path)))
    if not findings.corrupt:
        findings.orphans = each_orphan(
            directory, lambda file: findings.tell(f"{file}: belongs to no message")
        )
    return findings


def is_damage(error: sqlite3.Error) -> bool:
    """Whether ``error`` is that of a damaged file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )


def _check_database(mail: sqlite3.Connection, findings: Findings) -> None:
    for (line,) in mail.execute(f"PRAGMA integrity_check({MOST_PROBLEMS})"):
        if line != "ok":
            findings.corrupt = True
            findings.tell(f"{FILE}: {line}")
    (findings.sessions,) = mail.execute("SELECT count(*) FROM session").fetchone()
    (findings.unfinished,) = mail.execute(_UNFINISHED).fetchone()


def _check_ids(mail: sqlite3.Connection, highest: int, findings: Findings) -> None:
    findings.nobodys = mail.execute(_NOBODYS, {"highest": highest}).fetchall()
    for kind, number in findings.nobodys:
        years = ids.AHEAD_SECONDS // (365 * 86_400)
        reason = f"more than {years} years ahead of the clock" if number > 0 else "below 1"
        findings.tell(f"{kind} {number}: an id that nobody gives, {reason}")


def _rows(mail: sqlite3.Connection, highest: int) -> Iterator[Row]:
    """Yield every message; none keeps the WAL from being written back for long."""
    last = 0
    while rows := mail.execute(_CONTENT, (last, highest, _ROWS)).fetchall():
        yield from rows
        last = rows[-1][0]


def _check_content(directory: Path, mail: sqlite3.Connection, row: Row, findings: Findings) -> None:
    number, size, sha256, body, file = row
    findings.messages += 1
    findings.octets += size
    try:
        found, digest = _digest(body, directory / BODIES, file)
    except OSError as error:
        if not mail.execute("SELECT 1 FROM message WHERE id = ?", (number,)).fetchone():
            return  # deleted meanwhile
        reason = f"its content cannot be read: {error.strerror}"
    else:
        if (found, digest) == (size, sha256):
            return
        reason = f"its content has {found} octets of {size}"
        if found == size:
            reason = "its content is not what was kept (SHA-256)"
    findings.broken.append(number)
    findings.tell(f"message {ids.encode(number)}: {reason}")


def _digest(body: bytes | None, bodies: Path, name: str | None) -> tuple[int, bytes]:
    if body is not None:
        return len(body), hashlib.sha256(body).digest()
    with open(open_content(bodies, name), "rb") as content:  # noqa: PTH123 (a descriptor)
        digest = hashlib.file_digest(content, "sha256").digest()
        return content.tell(), digest
