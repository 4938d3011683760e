"""Sessions: listed by what is known of them, and shown line by line."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from mtad.archive.archive import Archive, Method, Params, Result
from mtad.archive.conditions import Pattern, Value
from mtad.archive.search import Search
from mtad.archive.session_index import newest
from mtad.archive.stored import find
from mtad.archive.terms import text
from mtad.control.params import LATEST
from mtad.errors import CommandError
from mtad.log import printable
from mtad.model import ids
from mtad.model.envelope import SessionSummary
from mtad.store import reader

_NS = 1_000_000_000
# Octets of entries, as JSON, that go into one answer.
_MOST = 6_291_456
_ENTRY_OCTETS = 64


async def session_list(archive: Archive, params: Params) -> Result:
    """Answer with the newest sessions that match."""
    await archive.progress.current()
    keys = await archive.index.read(lambda index: newest(index, params["query"], params["limit"]))

    def rows(mail: sqlite3.Connection) -> list[Result]:
        found = (reader.session(mail, key) for key in keys)
        return [_row(summary) for summary in found if summary is not None]

    return {"sessions": await archive.mail(rows)}


async def session_show(archive: Archive, params: Params) -> Result:
    """Answer with all there is of a session, also of one that still goes on."""
    which = params["id"]
    key = await archive.mail(lambda mail: _latest(mail) if which == LATEST else ids.decode(which))
    return await _shown(archive, key)


async def message_transcript(archive: Archive, params: Params) -> Result:
    """Answer with the session that brought a message."""
    kept = await archive.mail(lambda mail: find(mail, params["id"]))
    if not kept.session:
        raise CommandError(f"message {ids.encode(kept.id)} was imported: there was no session")
    return await _shown(archive, kept.session)


def _latest(mail: sqlite3.Connection) -> int:
    ended_last = "SELECT key FROM session WHERE id <= ? ORDER BY id DESC LIMIT 1"
    row = mail.execute(ended_last, (ids.highest(),)).fetchone()
    if row is None:
        raise CommandError("no session is kept")
    return int(row[0])


async def _shown(archive: Archive, key: int) -> Result:
    await archive.progress.current()
    known, entries = await archive.mail(lambda mail: _read(mail, key))
    brought = Search(Value("session", Pattern((ids.encode(key),))))
    messages = await archive.index.read(brought.ids)
    if known is None and not entries and not messages:
        raise CommandError(
            f"there is no session {ids.encode(key)}",
            help="store.retention may have taken it; session list shows what there is",
        )
    return {
        "session": _all(known) if known else {"id": ids.encode(key), "began": key / _NS},
        "entries": entries,
        "messages": [ids.encode(number) for number in messages],
    }


def _read(mail: sqlite3.Connection, key: int) -> tuple[SessionSummary | None, list[Result]]:
    return reader.session(mail, key), list(_bounded(_entries(reader.transcript(mail, key))))


def _bounded(entries: Iterable[Result]) -> Iterator[Result]:
    """Yield what goes into one answer."""
    octets = 0
    for entry in entries:
        octets += _ENTRY_OCTETS + len(entry["line"].encode()) + entry["line"].count("\\")
        if octets > _MOST:
            yield {"at": entry["at"], "who": "-", "line": "(there is more than one answer holds)"}
            return
        yield entry


def _entries(entries: Iterable[reader.Entry]) -> Iterator[Result]:
    """Yield the entries of a transcript (mtad.smtp.record) as text, a line each.

    One that no CRLF ends is ``open``.
    """
    for microseconds, who, what in entries:
        if isinstance(what, bytes):
            lines: list[Result] = [{"line": line} for line in _lines(what)]
            if not what.endswith(b"\r\n") and who != "-":
                lines[-1]["open"] = True
        else:
            kind = "message" if what["message"] else "line"
            lines = [{"line": f"({kind} of {what['octets']} octets)", **what}]
        yield from ({"at": microseconds / 1_000_000, "who": who, **line} for line in lines)


def _lines(octets: bytes) -> list[str]:
    """Return lines without their CRLF; a CR or LF by itself is visible, as all controls are."""
    text = octets.removesuffix(b"\r\n").decode("utf-8", "backslashreplace")
    return [printable(line) for line in text.split("\r\n")]


def _row(summary: SessionSummary) -> Result:
    """Return a session as a list has it."""
    return {
        "id": ids.encode(summary.key),
        "began": summary.began_ns / _NS,
        "duration": (summary.ended_ns - summary.began_ns) / _NS,
        "listener": summary.listener,
        "peer": summary.peer,
        "helo": text(summary.helo),
        "tls": f"{summary.tls_version} {summary.tls_cipher}".strip() or None,
        "user": text(summary.user) or None,
        "messages": summary.messages,
        "replies": {str(code): count for code, count in summary.replies.items()},
        "ended": summary.ended,
        "failed": summary.failed,
    }


def _all(summary: SessionSummary) -> Result:
    return {
        **_row(summary),
        "worker": summary.worker,
        "protocol": summary.protocol,
        "sni": text(summary.sni) or None,
        "octets_in": summary.octets_in,
        "octets_out": summary.octets_out,
        "transcript": summary.transcript,
    }


METHODS: dict[str, Method] = {
    "session.list": session_list,
    "session.show": session_show,
    "message.transcript": message_transcript,
}
