"""What sessions are found by: a table of index.db, and queries over it.

The language is that of mtad.archive.query, with the fields that a session has.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any

from mtad.archive.conditions import Has, Id, Pattern, Time, Value, Words
from mtad.archive.query import And, Not, Or, Tree, parse, show
from mtad.archive.terms import host, text
from mtad.errors import CommandError
from mtad.model import ids
from mtad.model.envelope import SessionSummary

TABLES = """
CREATE TABLE session (
    id INTEGER PRIMARY KEY,   -- as in mail.db
    key INTEGER NOT NULL,
    began INTEGER NOT NULL,   -- nanoseconds since the epoch
    failed INTEGER NOT NULL,
    listener TEXT NOT NULL,   -- texts are in lower case
    host TEXT NOT NULL,
    helo TEXT NOT NULL,
    user TEXT NOT NULL,
    version TEXT NOT NULL,    -- of TLS: tlsv1.3
    number TEXT NOT NULL,     -- 1.3
    cipher TEXT NOT NULL
) STRICT;
CREATE INDEX session_key ON session (key);
"""
"""In index.db, for this module alone."""

_INSERT = "INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

_COLUMNS = {
    "listener": ("listener",),
    "peer": ("host",),
    "helo": ("helo",),
    "auth": ("user",),
    "tls": ("version", "number", "cipher"),
}
_HAS = {"auth": "user != ''", "tls": "version != ''"}
_SPECIAL = re.compile(r"[*?\[]")
_FIELDS = "listener:, peer:, helo:, auth:, tls:, has:auth, has:tls, after:, before:, id:, failed"

Row = tuple[Any, ...]


def row_of(number: int, summary: SessionSummary) -> Row:
    """Return the row of a session with the id ``number``."""
    texts = (
        summary.listener,
        host(summary.peer),
        summary.helo,
        summary.user,
        summary.tls_version,
        summary.tls_version.removeprefix("TLSv"),
        summary.tls_cipher,
    )
    lower = (text(value).lower() for value in texts)
    return (number, summary.key, summary.began_ns, int(summary.failed), *lower)


def add(index: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Add sessions, within a transaction of the caller's."""
    index.executemany(_INSERT, rows)


def remove(index: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Remove sessions by their ids, within a transaction of the caller's."""
    index.executemany("DELETE FROM session WHERE id = ?", ((number,) for number in numbers))


def newest(index: sqlite3.Connection, query: str | None, limit: int) -> list[int]:
    """Return the keys of the newest sessions that ``query`` matches, the last first.

    Raises:
        QueryError, CommandError: it cannot be read, or sessions are not found by that.
    """
    parameters: list[Any] = []
    condition = _condition(parse(query or ""), parameters)
    wanted = f"SELECT key FROM session WHERE {condition} ORDER BY id DESC LIMIT ?"  # noqa: S608
    return [key for (key,) in index.execute(wanted, (*parameters, limit))]


def _condition(tree: Tree, parameters: list[Any]) -> str:
    """Return ``tree`` as an expression; its values are added to ``parameters``."""
    match tree:
        case And():
            return _joined(tree.parts, "AND", parameters) or "1"
        case Or():
            return _joined(tree.parts, "OR", parameters)
        case Not():
            return f"NOT ({_condition(tree.part, parameters)})"
        case Value(field, pattern) if field in _COLUMNS:
            columns = _COLUMNS[field]
            parameters.extend([_glob(pattern)] * len(columns))
            return " OR ".join(f"({column} != '' AND {column} GLOB ?)" for column in columns)
        case Value("session", pattern):
            return _condition(Id(ids.decode(pattern.text)), parameters)
        case Id(number):
            parameters.append(number)
            return "key = ?"
        case Has(what) if what in _HAS:
            return _HAS[what]
        case Time():
            number = time.time_ns() - tree.number if tree.ago else tree.number
            parameters.append(number + (tree.exclusive and tree.after))
            return "began >= ?" if tree.after else "began < ?"
        case Words("", Pattern(("failed",))):
            return "failed"
        case _:
            raise CommandError(
                f"sessions are not found by {show(tree)}, but by what they are themselves",
                code=-32602,
                help=f"there are: {_FIELDS}",
            )


def _joined(parts: Sequence[Tree], operator: str, parameters: list[Any]) -> str:
    return f" {operator} ".join(f"({_condition(part, parameters)})" for part in parts)


def _glob(pattern: Pattern) -> str:
    return "*".join(_SPECIAL.sub(r"[\g<0>]", piece) for piece in pattern.pieces)
