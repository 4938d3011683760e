"""Rows of a store, made without sessions: as many and as old as a test needs them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import msgspec

from mtad.model import ids
from mtad.model.envelope import Captured, SessionSummary
from mtad.store import deliveries
from mtad.store.database import BODIES, Database
from mtad.store.envelopes import encode

IN_ROW = 65_536

CAPTURED = Captured(
    received_ns=1,
    listener="mx",
    worker=0,
    peer="192.0.2.1:4711",
    helo="client.example",
    protocol="ESMTP",
    tls_version="",
    tls_cipher="",
    sni="",
    user="",
    sender="alice@example.com",
    sender_options=(),
    recipients=("bob@example.org",),
    recipient_options=((),),
    terminator="CRLF.CRLF",
    notes=(),
    runs=(),
    session=1,
)
SUMMARY = SessionSummary(
    key=1,
    listener="mx",
    worker=0,
    peer="192.0.2.1:4711",
    helo="client.example",
    protocol="ESMTP",
    tls_version="",
    tls_cipher="",
    sni="",
    user="",
    began_ns=1,
    ended_ns=2_000_000_001,
    messages=1,
    octets_in=100,
    octets_out=200,
    replies={220: 1, 250: 4, 354: 1, 221: 1},
    phases={"banner": {10: 1}, "command": {20: 5}, "data": {30: 1}},
    ended="quit",
    failed=False,
    transcript="all",
)


def keep_message(database: Database, content: bytes = b"x", number: int = 0, **changes: Any) -> int:
    """Keep a message as a writer does, with the id ``number`` or the next one; return the id."""
    with database.transaction() as mail:
        number = number or database.next_id()
        known = replace(CAPTURED, **{"received_ns": number, **changes})
        name = ids.encode(number) if len(content) > IN_ROW else None
        if name is not None:
            (database.path.parent / BODIES / name).write_bytes(content)
        row = (
            number,
            known.session,
            len(content),
            hashlib.sha256(content).digest(),
            encode(known),
            content if name is None else None,
            name,
        )
        mail.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        deliveries.insert(mail, number, deliveries.intended(known))
    return number


def keep_session(
    database: Database, key: int, number: int = 0, transcript: tuple[Any, ...] = (), **changes: Any
) -> int:
    """Keep a session that has ended, with one part of a transcript; return its id."""
    with database.transaction() as mail:
        number = number or database.next_id()
        known = replace(SUMMARY, key=key, **changes)
        mail.execute("INSERT INTO session VALUES (?, ?, ?)", (number, key, encode(known)))
        if transcript:
            keep = "INSERT INTO transcript VALUES (?, 0, ?)"
            mail.execute(keep, (key, msgspec.msgpack.encode(transcript)))
    return number
