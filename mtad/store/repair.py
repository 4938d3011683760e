"""A damaged ``mail.db``: what can be read of it goes into a new one, and the old is kept beside it.

Reading goes around what is damaged: forward up to it, backward down to it, and, within what is
left between, from the middle again.
"""

from __future__ import annotations

import heapq
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtad.model import ids
from mtad.store.bodies import each_orphan
from mtad.store.database import FILE, error_of, locked, migrate, sync

# How often reading may fail without a row, for each table.
_PATIENCE = 1_000

# The column that rows are in the order of; it is the first one.
_TABLES = {"message": "id", "session": "id", "transcript": "session", "delivery": "message"}

_COUNTED = "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM session)"
_FLOOR = "INSERT INTO state VALUES ('floor', ?)"


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What is in the new database, and where the old one is."""

    messages: int
    sessions: int
    old: Path


def salvage(directory: Path, floor: int) -> Salvaged:
    """Put a new ``mail.db`` into the place of a damaged one, with all of it that can be read.

    The old one becomes ``mail.db.corrupt-TIME``; content in files whose messages are lost is moved
    into ``mail.db.corrupt-TIME.bodies``. No id up to ``floor`` is given again. Those who write wait
    meanwhile, and go on with the new file. Blocks. Raises StoreError; then all is as it was.
    """
    path = directory / FILE
    old = path.with_name(f"{FILE}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    new = path.with_name(f"{FILE}.new")
    try:
        with locked(directory):
            _forget(new)
            messages, sessions = _copy(path, new, floor)
            _exchange(path, new, old)
        bodies = old.with_name(f"{old.name}.bodies")
        bodies.mkdir(mode=0o750)
        each_orphan(directory, lambda file: file.rename(bodies / file.name))
        with suppress(OSError):
            bodies.rmdir()  # none is lost
    except (sqlite3.Error, OSError) as error:
        raise error_of(error, path) from error
    return Salvaged(messages, sessions, old)


def _copy(path: Path, new: Path, floor: int) -> tuple[int, int]:
    """Copy what can be read; return how many messages and sessions."""
    uri = path.absolute().as_uri()
    with closing(sqlite3.connect(new, isolation_level=None)) as target:
        new.chmod(0o640)
        target.execute("PRAGMA auto_vacuum = INCREMENTAL")
        migrate(target)
        target.execute("BEGIN")
        messages = sessions = 0
        # A WAL may be that of another file, and hides what is in this one: then without it.
        for how in ("mode=ro", "immutable=1"):
            with closing(sqlite3.connect(f"{uri}?{how}", uri=True, isolation_level=None)) as source:
                _copy_rows(source, target)
            messages, sessions = target.execute(_COUNTED).fetchone()
            if messages or sessions:
                break
        # Who looks at changes begins anew with a new file.
        target.execute("UPDATE delivery SET changed = 0")
        target.execute(_FLOOR, (max(floor, time.time_ns()),))
        target.execute("COMMIT")
        return messages, sessions


def _copy_rows(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    for table, key in _TABLES.items():
        for row in _readable(source, table, key):
            marks = ", ".join("?" * len(row))
            with suppress(sqlite3.IntegrityError):  # garbled
                target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608


def _readable(source: sqlite3.Connection, table: str, key: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of ``table`` that can be read; of a transcript maybe not all parts.

    What is numbered as nobody's (mtad.model.ids) is left out.
    """
    highest = ids.highest()
    spans = [(1 - highest, 1, highest)]  # a heap: the widest first
    failures = 0
    while spans and failures < _PATIENCE:
        _, low, high = heapq.heappop(spans)
        try:
            for row in _span(source, table, key, low, high, "ASC"):
                yield row
                low = row[0] + 1
            continue
        except sqlite3.DatabaseError:
            failures += 1
        with suppress(sqlite3.DatabaseError):
            for row in _span(source, table, key, low, high, "DESC"):
                yield row
                high = row[0] - 1
            continue
        middle = (low + high) // 2
        halves = ((low, middle), (middle + 1, high)) if low < high else ()
        for begin, end in halves:
            heapq.heappush(spans, (begin - end, begin, end))


def _span(
    source: sqlite3.Connection, table: str, key: str, low: int, high: int, order: str
) -> Iterator[tuple[Any, ...]]:
    return source.execute(
        f"SELECT * FROM {table} WHERE {key} BETWEEN ? AND ? ORDER BY {key} {order}",  # noqa: S608
        (low, high),
    )


def _exchange(path: Path, new: Path, old: Path) -> None:
    """Put ``new`` where ``path`` is, which becomes ``old``, each with its own WAL."""
    os.link(path, old)
    for suffix in ("-wal", "-shm"):
        # Those of the old file must not be found beside the new one.
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{old}{suffix}")
    new.replace(path)
    sync(path.parent)


def _forget(new: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{new}{suffix}").unlink(missing_ok=True)
