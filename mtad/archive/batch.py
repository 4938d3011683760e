"""What the index takes from mail.db at once: rows, made of a few hundred messages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from mtad.archive import session_index
from mtad.archive.headers import OCTETS, Extract, extract
from mtad.archive.statistics import Tally
from mtad.archive.summaries import summary
from mtad.archive.terms import terms_of, text
from mtad.store import deliveries, reader
from mtad.store.reader import Kept

MESSAGES = 500
SESSIONS = 500
CHANGES = 500

_OCTETS = 8_388_608

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Batch:
    """Rows of the tables ``message``, ``term``, ``words``, ``session``, and what is to be counted.

    With them everything up to the id ``indexed`` is in the index; ``more``: there is more.
    ``outgoing`` are the states that messages have since the change ``changed`` and those before it
    (mtad.store.deliveries).
    """

    indexed: int
    more: bool = False
    messages: list[tuple[Any, ...]] = field(default_factory=list)
    terms: list[tuple[int, str, int]] = field(default_factory=list)
    words: list[tuple[Any, ...]] = field(default_factory=list)
    sessions: list[session_index.Row] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    changed: int = 0
    outgoing: dict[int, list[str]] = field(default_factory=dict)

    def add(self, kept: Kept, found: Extract, outgoing: Sequence[str]) -> None:
        """Add a message; ``outgoing`` are the states of what is sent of it."""
        known = summary(kept, found, outgoing)
        people = {"from": found.from_, "to": found.to, "cc": found.cc}
        self.messages.append((kept.id, kept.size, _json(known), _json(people), found.problem))
        self.terms += terms_of(kept.id, known, people)
        read = dict.fromkeys((known["sender"], *known["recipients"]))
        read |= dict.fromkeys(one for pairs in people.values() for pair in pairs for one in pair)
        self.words.append((kept.id, found.subject, text("\n".join(read)), found.header, found.text))
        self.tally.message(kept.envelope, kept.size)


def next_batch(directory: Path, mail: sqlite3.Connection, after: int, changed: int) -> Batch:
    """Return what comes after the id ``after``, and after the change ``changed``.

    Raises sqlite3.Error, StoreError.
    """
    mail.execute("BEGIN")  # one state of it
    try:
        batch = Batch(reader.newest(mail))
        sessions = list(islice(reader.sessions_after(mail, after, batch.indexed), SESSIONS))
        if len(sessions) == SESSIONS:
            batch.indexed, batch.more = sessions[-1][0], True
        octets = 0
        for count, kept in enumerate(reader.messages(mail, after, batch.indexed), 1):
            outgoing = deliveries.states(mail, kept.id) if kept.envelope.mail else ()
            batch.add(kept, _extract(directory, kept), outgoing)
            octets += min(kept.size, OCTETS)
            if count == MESSAGES or octets > _OCTETS:
                batch.indexed, batch.more = kept.id, True
                break
        for number, summary_of_session in sessions:
            if number <= batch.indexed:
                batch.tally.session(summary_of_session)
                batch.sessions.append(session_index.row_of(number, summary_of_session))
        batch.changed, batch.outgoing, more = deliveries.changes(mail, changed, CHANGES)
        batch.more |= more
    finally:
        mail.execute("COMMIT")
    return batch


def _extract(directory: Path, kept: Kept) -> Extract:
    try:
        return extract(reader.octets(directory, kept, 0, OCTETS), kept.size)
    except OSError as error:
        return Extract(problem=f"its content cannot be read: {error.strerror}")


def _json(value: object) -> str:
    try:
        return _encode(value).decode()
    except UnicodeEncodeError:  # of octets that are no UTF-8 (PEP 383)
        return json.dumps(value)
