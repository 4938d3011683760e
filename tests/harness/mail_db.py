"""What a store holds, read from its files by SQLite and nothing of mtad."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Kept:
    """A message: its id, its content, and what the store says about that."""

    id: int
    size: int
    sha256: bytes
    content: bytes
    envelope: dict[str, Any]


def connect(store: Path) -> sqlite3.Connection:
    """Open the database as any other program would; it is there."""
    return sqlite3.connect(f"file:{store}/mail.db?mode=rw", uri=True, timeout=10)


def kept(store: Path) -> Iterator[Kept]:
    """Yield every message, in the order of the ids; none where there is no database yet.

    One whose file is gone has no content, whatever its size.
    """
    if not (store / "mail.db").exists():
        return
    with closing(connect(store)) as database:
        if not database.execute("PRAGMA user_version").fetchone()[0]:
            return  # it is being made
        rows = database.execute(
            "SELECT id, size, sha256, body, file, envelope FROM message ORDER BY id"
        )
        for number, size, sha256, body, file, envelope in rows:
            content = body if file is None else _read(store / "bodies" / file)
            yield Kept(number, size, sha256, content, json.loads(envelope))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def received(store: Path) -> list[int]:
    """Return when the messages came, by their envelopes, in the order of the ids."""
    with closing(connect(store)) as database:
        rows = database.execute("SELECT envelope FROM message ORDER BY id")
        return [int(json.loads(envelope)["received_ns"]) for (envelope,) in rows]


def complaints(store: Path) -> list[str]:
    """Return what SQLite finds wrong with the database: nothing, if it is whole."""
    with closing(connect(store)) as database:
        found = [row[0] for row in database.execute("PRAGMA integrity_check")]
    return [] if found == ["ok"] else found


def orphans(store: Path) -> set[str]:
    """Return the files of bodies that no message names."""
    with closing(connect(store)) as database:
        rows = database.execute("SELECT file FROM message WHERE file IS NOT NULL")
        named = {row[0] for row in rows}
    bodies = store / "bodies"
    return {str(path.relative_to(bodies)) for path in bodies.rglob("*") if path.is_file()} - named
