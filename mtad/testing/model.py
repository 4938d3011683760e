"""What a test sees of messages and sessions: plain, typed data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import msgspec


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a list has of each message, as the control socket tells it.

    ``received`` and ``date`` (of the header; None where it cannot be read) are in seconds since
    the epoch, ``size`` in octets, ``sha256`` in hexadecimal; ``sender`` is "" for the null
    reverse-path; ``sender`` and ``recipients`` are of the envelope, ``from_`` and ``to`` the
    addresses of the headers; ``lint`` says what a strict server would have minded; ``run`` is the
    tag of the test run, ``session`` the id of the session it came in; ``outgoing`` is what became
    where a rule wanted it sent: ``held``, ``waiting``, ``delivered``, ``failed``, ``unwanted``.
    """

    id: str
    received: float
    listener: str
    worker: int
    peer: str
    helo: str
    protocol: str
    tls: str | None
    user: str
    sender: str
    recipients: tuple[str, ...]
    size: int
    sha256: str
    lint: tuple[str, ...]
    run: str | None
    session: str
    subject: str | None
    from_: tuple[str, ...]
    to: tuple[str, ...]
    date: float | None
    message_id: str | None
    attachments: int
    outgoing: tuple[str, ...]

    def __str__(self) -> str:
        """One line for a person: in what way a message is not the one that was expected."""
        words = [
            self.id,
            f"from <{self.sender}>",
            f"to {' '.join(f'<{to}>' for to in self.recipients)}",
        ]
        words += [f"subject {self.subject!r}", f"at {self.listener}"]
        words += [f"run {self.run}"] * bool(self.run)
        return "  ".join([*words, *(f"lint {slug}" for slug in self.lint)])


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a list has of each session: ``failed`` if anything was refused or given up half way.

    ``began`` is in seconds since the epoch, ``duration`` in seconds; ``messages`` is how many were
    accepted; ``replies`` counts them by code; ``ended`` says how it ended.
    """

    id: str
    began: float
    duration: float
    listener: str
    peer: str
    helo: str
    tls: str | None
    user: str | None
    messages: int
    replies: Mapping[int, int]
    ended: str
    failed: bool


@dataclass(frozen=True, kw_only=True)
class RuleSummary:
    """A fault rule, as `mtactl rule list` has it.

    ``at``, ``where``, ``when`` and ``do`` are what it says, in words; ``seen`` is how often all was
    the case that it asks for, ``fired`` how often it acted, ``left`` the ``hits`` and ``seconds``
    that it has left, if they are limited; ``state`` is ``on``, or why it is not asked, ``source``
    where it is from.
    """

    name: str
    at: str
    where: str | None
    when: str | None
    do: str
    seen: int
    fired: int
    left: Mapping[str, float] | None
    state: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a message (RFC 2045); ``number`` counts from 1, ``size`` is its decoded octets.

    ``charset``, ``disposition`` and the file's ``name`` are None where the part does not say.
    """

    number: int
    type: str
    charset: str | None
    disposition: str | None
    name: str | None
    size: int


@dataclass(frozen=True, kw_only=True)
class Details:
    """What is in a message.

    ``headers`` are decoded (RFC 2047), in order; ``text`` is what a person would read; ``links``
    are those of the text and of the HTML, in order; ``sender_options`` and ``recipient_options``
    are ESMTP parameters as sent; ``terminator`` is what ended the content.
    """

    headers: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]
    text: str
    links: tuple[str, ...]
    sender_options: tuple[str, ...]
    recipient_options: tuple[tuple[str, ...], ...]
    terminator: str

    def header(self, name: str) -> str | None:
        """Return the first header ``name``, in any case; None where there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def summary_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the Summary that ``row`` is."""
    return values(msgspec.convert({**row, "from_": row.get("from")}, Summary))


def values(summary: Summary) -> dict[str, Any]:
    """Return the fields that any Summary has."""
    return {field.name: getattr(summary, field.name) for field in fields(Summary)}


def listing(summaries: Iterable[Summary]) -> str:
    """Return ``summaries`` as text, one a line, indented."""
    return "".join(f"\n    {summary}" for summary in summaries)
