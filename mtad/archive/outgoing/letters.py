"""A message, or its bounce, as one transaction of SMTP carries it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtad.archive.mime import HEADER_OCTETS, read_fields
from mtad.archive.outgoing import loops, report
from mtad.store import reader
from mtad.store.deliveries import Delivery, Job, State
from mtad.store.reader import Kept

PIECE_OCTETS = 262_144
"""So much of a content is in memory at once."""


@dataclass(frozen=True, slots=True)
class Letter:
    """An envelope, and its content of ``size`` octets, which ``pieces()`` reads.

    ``name`` is said in EHLO; ``options`` are the parameters of MAIL, ``recipients`` addresses and
    the parameters of RCPT, all as they came.
    """

    name: str
    sender: str
    options: Sequence[str]
    recipients: Sequence[tuple[str, Sequence[str]]]
    size: int
    pieces: Callable[[], AsyncIterator[bytes]]


class UnsentError(Exception):
    """What is not to be sent at all, and in which state that leaves it."""

    def __init__(self, state: State, reason: str) -> None:
        super().__init__(reason)
        self.state = state


def letter_of(
    directory: Path, mail: sqlite3.Connection, job: Job, rows: Sequence[Delivery], host: str
) -> Letter:
    """Return what ``job`` sends to whom ``rows`` say; ``directory`` is the store's; blocks.

    Raises:
        UnsentError: it is not to be sent.
        sqlite3.Error, OSError, ValueError: the message cannot be read.
    """
    kept = reader.message(mail, job.message)
    if kept is None:
        raise UnsentError(State.FAILED, "the message is gone")
    fields, _, _ = read_fields(reader.octets(directory, kept, 0, HEADER_OCTETS), 0, HEADER_OCTETS)
    if fault := loops.fault(kept.envelope.helo, fields):
        raise UnsentError(State.FAILED, fault)
    name = loops.name_of(kept.envelope.helo, host)
    return (_bounce if job.is_bounce else _message)(directory, kept, rows, name, host)


def _message(
    directory: Path, kept: Kept, rows: Sequence[Delivery], name: str, _host: str
) -> Letter:
    """Return the message itself, to some of its recipients."""
    envelope = kept.envelope
    recipients = list(zip(envelope.recipients, envelope.recipient_options, strict=False))
    if rows[-1].recipient >= len(recipients):
        raise UnsentError(State.FAILED, "the message has no such recipient")

    async def pieces() -> AsyncIterator[bytes]:
        for offset in range(0, kept.size, PIECE_OCTETS):
            yield await asyncio.to_thread(reader.octets, directory, kept, offset, PIECE_OCTETS)

    return Letter(
        name,
        envelope.sender,
        envelope.sender_options,
        [recipients[row.recipient] for row in rows],
        kept.size,
        pieces,
    )


def _bounce(directory: Path, kept: Kept, _rows: Sequence[Delivery], name: str, host: str) -> Letter:
    """Return the notification of its sender."""
    envelope = kept.envelope
    if envelope.mail is None or envelope.mail.bounce is None:
        raise UnsentError(State.FAILED, "no rule has said what a bounce is to say")
    if reason := report.unwanted(envelope):
        raise UnsentError(State.UNWANTED, reason)
    returned = reader.octets(directory, kept, 0, max(HEADER_OCTETS, report.MOST_RETURNED))
    if not report.returns_all(kept):
        _, end, _ = read_fields(returned, 0, HEADER_OCTETS)
        returned = returned[:end]
    octets = report.report(kept, envelope.mail.bounce, returned, loops.host_name(host))
    options = ["BODY=8BITMIME"] if not octets.isascii() else []
    options += ["SMTPUTF8"] if not envelope.sender.isascii() else []

    async def pieces() -> AsyncIterator[bytes]:
        yield octets

    return Letter(name, "", options, [(envelope.sender, ())], len(octets), pieces)
