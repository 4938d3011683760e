"""What has passed, in numbers: counters beside the index, which grow as rows are indexed.

A `Tally` is written in the transaction that indexes the rows it counts: so nothing is counted
twice, whoever is killed when, and what is pruned or deleted stays counted. An index that is built
again counts what is kept then.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mtad.model.envelope import Captured, SessionSummary
from mtad.model.histogram import percentile
from mtad.store.reader import used

if TYPE_CHECKING:
    from mtad.archive.archive import Archive, Method, Params, Result

TABLES = """
CREATE TABLE counter (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    octets INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE recent (
    second INTEGER PRIMARY KEY,  -- since the epoch
    messages INTEGER NOT NULL,
    octets INTEGER NOT NULL,
    sessions INTEGER NOT NULL
) STRICT;
"""
"""In index.db, for this module alone."""

MINUTES = (1, 5, 15)
PHASES = ("banner", "command", "data")
MOST_NAMES = 10_000
"""Of listeners, or domains; what comes with further ones is counted as one, ``*``."""

_TOP = 50
# Longer than any domain (RFC 1035 section 2.3.4): what a client makes up has an end.
_NAME_LENGTH = 255
_REST = "*"
_NS = 1_000_000_000

_ADD = (
    "INSERT INTO counter VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
    " SET number = number + excluded.number, octets = octets + excluded.octets"
)
_ADD_RECENT = (
    "INSERT INTO recent VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
    " SET messages = messages + excluded.messages, octets = octets + excluded.octets,"
    " sessions = sessions + excluded.sessions"
)
_SINCE = "INSERT INTO counter VALUES ('since', '', ?, 0) ON CONFLICT DO NOTHING"


class Tally:
    """Counts a batch of rows, to be written once."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], list[int]] = {}  # a number, and octets
        self._recent: dict[int, list[int]] = {}
        self._since = 0

    def message(self, known: Captured, size: int) -> None:
        """Count a message of ``size`` octets, for each domain that it is for."""
        self._add("message", "", 1, size)
        self._add("listener", known.listener, 1, size)
        self._add("sender", _domain(known.sender), 1, size)
        for domain in {_domain(recipient) for recipient in known.recipients}:
            self._add("recipient", domain, 1, size)
        self._when(known.received_ns, 1, size, 0)

    def session(self, summary: SessionSummary) -> None:
        """Count a session that has ended."""
        self._add("session", "", 1)
        if summary.failed:
            self._add("failed", "", 1)
        for code, count in summary.replies.items():
            self._add("reply", str(code), count)
        for phase in PHASES:
            for bucket, count in summary.phases.get(phase, {}).items():
                self._add(phase, str(bucket), count)
        self._when(summary.ended_ns, 0, 0, 1)

    def pruned(self, messages: int, sessions: int, octets: int) -> None:
        """Count what retention has taken away; octets are those of the messages."""
        self._add("pruned", "messages", messages, octets)
        self._add("pruned", "sessions", sessions)

    def write(self, index: sqlite3.Connection) -> None:
        """Add to what has been counted, within a transaction of the caller's."""
        names: dict[str, int] = {}
        for (kind, name), counts in self._counts.items():
            # What a client sends need not be UTF-8 (PEP 383).
            text = name.encode("utf-8", "replace").decode()
            counted = text if _has_room(index, kind, text, names) else _REST
            index.execute(_ADD, (kind, counted, *counts))
        for second, row in self._recent.items():
            index.execute(_ADD_RECENT, (second, *row))
        now = time.time_ns() // _NS
        # A clock that was set back leaves seconds that are still to come.
        outside = (now - 60 * MINUTES[-1], now + 60)
        index.execute("DELETE FROM recent WHERE second <= ? OR second > ?", outside)
        if self._since:
            index.execute(_SINCE, (self._since,))

    def _add(self, kind: str, name: str, number: int, octets: int = 0) -> None:
        counts = self._counts.setdefault((kind, name[:_NAME_LENGTH]), [0, 0])
        counts[0] += number
        counts[1] += octets

    def _when(self, instant: int, messages: int, octets: int, sessions: int) -> None:
        self._since = min(self._since or instant, instant)
        row = self._recent.setdefault(instant // _NS, [0, 0, 0])
        row[0] += messages
        row[1] += octets
        row[2] += sessions


def _has_room(index: sqlite3.Connection, kind: str, name: str, names: dict[str, int]) -> bool:
    """Whether a name is counted, or can be; ``names`` remembers how many there are of a kind."""
    known = "SELECT 1 FROM counter WHERE kind = ? AND name = ?"
    if index.execute(known, (kind, name)).fetchone() is not None:
        return True
    if kind not in names:
        (names[kind],) = index.execute(
            "SELECT count(*) FROM counter WHERE kind = ?", (kind,)
        ).fetchone()
    names[kind] += 1
    return names[kind] <= MOST_NAMES


def _domain(address: str) -> str:
    """Return the domain of an address in lower case; "" where there is none."""
    return address.rpartition("@")[2].lower() if "@" in address else ""


def reset(index: sqlite3.Connection) -> None:
    """Count from now on, within a transaction of the caller's."""
    index.execute("DELETE FROM counter")
    index.execute("DELETE FROM recent")
    index.execute(_SINCE, (time.time_ns(),))


def report(index: sqlite3.Connection) -> dict[str, Any]:
    """Return what has been counted, as the result of ``stats``; durations are in seconds."""
    counted = {kind: _counter(index, kind, "") for kind in ("message", "session", "failed")}
    since, _ = _counter(index, "since", "")
    pruned, octets = _counter(index, "pruned", "messages")
    return {
        "total": {
            "since": since / _NS or None,
            "messages": counted["message"][0],
            "octets": counted["message"][1],
            "sessions": counted["session"][0],
            "failed": counted["failed"][0],
        },
        "rates": [_rate(index, minutes) for minutes in MINUTES],
        "phases": [_phase(index, phase) for phase in PHASES],
        "replies": _replies(index),
        **{f"{kind}s": _most(index, kind) for kind in ("listener", "sender", "recipient")},
        "pruned": {
            "messages": pruned,
            "octets": octets,
            "sessions": _counter(index, "pruned", "sessions")[0],
        },
    }


def _counter(index: sqlite3.Connection, kind: str, name: str) -> tuple[int, int]:
    wanted = "SELECT number, octets FROM counter WHERE kind = ? AND name = ?"
    number, octets = index.execute(wanted, (kind, name)).fetchone() or (0, 0)
    return int(number), int(octets)


def _rate(index: sqlite3.Connection, minutes: int) -> dict[str, Any]:
    """Return what came each second, over the last so many minutes."""
    now, seconds = time.time_ns() // _NS, 60 * minutes
    row = index.execute(
        "SELECT total(messages), total(octets), total(sessions) FROM recent WHERE second > ?",
        (now - seconds,),
    ).fetchone()
    rates = [round(number / seconds, 3) for number in row]
    return dict(zip(("minutes", "messages", "octets", "sessions"), [minutes, *rates], strict=True))


def _phase(index: sqlite3.Connection, phase: str) -> dict[str, Any]:
    rows = index.execute("SELECT name, number FROM counter WHERE kind = ?", (phase,))
    histogram = {int(bucket): number for bucket, number in rows}
    marks = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    found = {name: percentile(histogram, percent) for name, percent in marks.items()}
    seconds = {name: None if us is None else us / 1_000_000 for name, us in found.items()}
    return {"phase": phase, "count": sum(histogram.values()), **seconds}


def _replies(index: sqlite3.Connection) -> list[dict[str, Any]]:
    rows = index.execute("SELECT name, number FROM counter WHERE kind = 'reply' ORDER BY name")
    return [{"code": int(code), "count": number} for code, number in rows]


def _most(index: sqlite3.Connection, kind: str) -> dict[str, Any]:
    """Return the names with most messages, and what all others have together."""
    wanted = (
        "SELECT name, number, octets FROM counter WHERE kind = ?"
        " ORDER BY name = ?, number DESC, name"
    )
    rows = index.execute(wanted, (kind, _REST)).fetchall()
    top, others = rows[:_TOP], rows[_TOP:]
    together = {
        "names": len(others),
        "messages": sum(row[1] for row in others),
        "octets": sum(row[2] for row in others),
    }
    return {
        "top": [
            {"name": name, "messages": number, "octets": octets} for name, number, octets in top
        ],
        "others": together if others else None,
    }


async def stats(archive: Archive, _: Params) -> Result:
    """Answer with what has been counted, and what is kept."""
    await archive.progress.current()
    kept = {**await archive.index.read(_kept), "octets": await archive.mail(used)}
    return {**await archive.index.read(report), "kept": kept}


async def stats_reset(archive: Archive, _: Params) -> Result:
    """Count from now on; what is kept stays."""
    await archive.progress.current()
    await asyncio.to_thread(archive.index.reset_statistics)
    return {"ok": True}


def _kept(index: sqlite3.Connection) -> dict[str, int]:
    counted = "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM session)"
    return dict(zip(("messages", "sessions"), index.execute(counted).fetchone(), strict=True))


METHODS: Mapping[str, Method] = {"stats": stats, "stats.reset": stats_reset}
