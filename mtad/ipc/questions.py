"""What supervisor and archive say to each other: questions of clients, and their answers.

The supervisor looks into no answer: it is a whole result already, in the form that its client
wants, and has only to be bounded. Every question ends with one last Answer, or a Refusal; one that
was cancelled, too.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from mtad.ipc.messages import Hello, LogLevel, ReopenLog, Stop

PIECE = 98_304
"""Octets of an answer that go into one message; the channel takes 128 KiB."""

MAX_ANSWER = 8 * 2**20
"""Octets of a whole answer, or of one item of a stream."""

Form = Literal["json", "plain"]
"""A line of JSON without its end, or lines of plain text."""

Ticket = int
"""A question's number, used once."""

MAX_WORDS = 16_384
"""Characters of a text for people."""

Words = Annotated[str, msgspec.Meta(max_length=MAX_WORDS)]


# From the supervisor


class Retention(msgspec.Struct, frozen=True, tag=True):
    """How much is kept from now on: seconds, octets and messages; 0 is no limit."""

    age: float = 7 * 86_400.0
    size: int = 10 * 2**30
    messages: int = 0


class Setup(msgspec.Struct, frozen=True, tag=True):
    """The first message: what the archive needs to know. ``store`` is a directory."""

    store: str
    log_form: str
    log_level: str
    retention: Retention


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Carry out ``method`` (of the table of commands) with ``params``, a JSON object."""

    ticket: Ticket
    method: str
    params: bytes
    form: Form


class Taken(msgspec.Struct, frozen=True, tag=True):
    """The last item of a stream has been written: another one may come."""

    ticket: Ticket


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Nobody waits for this answer any more."""

    ticket: Ticket


# From the archive


class Answer(msgspec.Struct, frozen=True, tag=True):
    """A piece of the result; ``more``: another one follows. That of a stream begins it."""

    ticket: Ticket
    octets: bytes
    more: bool


class Item(msgspec.Struct, frozen=True, tag=True):
    """A piece of an item of a stream. After a whole one, the archive waits for Taken."""

    ticket: Ticket
    octets: bytes
    more: bool


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """There is no result, or no further item: what a CommandError says (mtad.errors)."""

    ticket: Ticket
    code: Annotated[int, msgspec.Meta(ge=-32768, le=-32000)]
    message: Words
    help: Words


class Health(msgspec.Struct, frozen=True, tag=True):
    """What is wrong with the archive now; none: it is well again."""

    problems: Annotated[tuple[Words, ...], msgspec.Meta(max_length=16)]


FromSupervisor = Setup | Retention | Ask | Taken | Cancel | LogLevel | ReopenLog | Stop
FromArchive = Hello | Answer | Item | Refusal | Health
