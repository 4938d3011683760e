"""Sessions as they are shown, written by hand: ``0.25 C MAIL FROM:<a@b>``, a line each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mtad.model.deliveries.attempts import Kept, Session
from mtad.model.deliveries.dialogue import Entry

_COUNTED = re.compile(r"\((message|line) of ([0-9]+) octets\)")

BEGAN = 1_000.0


def entries(text: str) -> tuple[Entry, ...]:
    """Return the entries of a transcript."""
    return tuple(_entry(line.strip()) for line in text.splitlines() if line.strip())


def _entry(line: str) -> Entry:
    at, who, said = line.split(" ", 2)
    counted = _COUNTED.fullmatch(said)
    if counted is None:
        return Entry(float(at), who, said)
    return Entry(float(at), who, said, int(counted[2]), message=counted[1] == "message")


def session(name: str, text: str, *, at: float = 0.0, ended: str = "quit") -> Session:
    """Return a session that began ``at`` so many seconds after BEGAN."""
    return Session(name, BEGAN + at, "192.0.2.1:4711", ended, entries(text))


def kept(
    number: str, of: str, at: float, recipients: Iterable[str] = ("one@x.example",), **known: Any
) -> Kept:
    """Return the message with this id that the session ``of`` brought."""
    values: dict[str, Any] = {
        "sender": "a@example.org",
        "size": 10,
        "sha256": "00",
        "message_id": "<m@x>",
        **known,
    }
    return Kept(id=number, session=of, received=BEGAN + at, recipients=tuple(recipients), **values)
