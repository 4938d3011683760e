"""What the index takes from the content of a message, whatever that is. Never raises.

The time it takes is bounded: ``OCTETS`` of a message are looked at, and in these what
mtad.archive.mime allows. ``Extract.problem`` says what was left out.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

from mtad.archive import hypertext
from mtad.archive.content import content
from mtad.archive.decoding import text_of, unfolded, words_of
from mtad.archive.mime import Field, Structure, structure_of

OCTETS = 1_048_576
HEADER_CHARACTERS = 65_536
TEXT_CHARACTERS = 32_768
MAILBOXES = 500
"""Of one of From, To and Cc."""

_VALUE_CHARACTERS = 4_096
_MAILBOX_OCTETS = 65_536
# Fields that are remembered: the same people write to each other again and again.
_SHORT, _FEW = 256, 512
_ODD_CHARACTERS = 16_384
_DATE_CHARACTERS = 200
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800


class Mailbox(NamedTuple):
    """An address as in a header field, with the name that goes with it, or ""."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Extract:
    """``date`` is in seconds since the epoch, None where there is none that can be understood.

    ``header`` has a line for each field, decoded; ``text`` is what people read.
    """

    subject: str = ""
    message_id: str = ""
    date: float | None = None
    from_: tuple[Mailbox, ...] = ()
    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    attachments: int = 0
    header: str = ""
    text: str = ""
    problem: str = ""


def extract(octets: bytes, size: int) -> Extract:
    """Return what the index takes from a message of ``size`` octets that begins with ``octets``."""
    try:
        return _extract(octets, size > len(octets))
    except Exception as error:  # it breaks the parser: it is indexed without
        return Extract(problem=f"unreadable: {type(error).__name__}: {error}"[:200])


def _extract(octets: bytes, is_cut: bool) -> Extract:
    structure = structure_of(octets)
    first: dict[bytes, bytes] = {}
    for name, value in structure.fields:
        first.setdefault(name.lower(), value)
    header = _header(structure.fields)
    return Extract(
        subject=_text_of(first.get(b"subject", b"")),
        message_id=_text_of(first.get(b"message-id", b"")).strip("<> "),
        date=_date(first.get(b"date", b"")),
        from_=mailboxes(first.get(b"from", b"")),
        to=mailboxes(first.get(b"to", b"")),
        cc=mailboxes(first.get(b"cc", b"")),
        attachments=sum(part.is_attachment for part in structure.parts),
        header=header[:HEADER_CHARACTERS],
        text=_text(octets, structure),
        problem=_problem(is_cut, structure.cut, len(header) > HEADER_CHARACTERS),
    )


def _problem(*left_out: bool) -> str:
    said = (
        f"only its first {OCTETS} octets are indexed",
        "not all of its fields and parts are indexed",
        f"only the first {HEADER_CHARACTERS} characters of its header are indexed",
    )
    return "; ".join(words for words, applies in zip(said, left_out, strict=True) if applies)


def _text_of(value: bytes) -> str:
    return words_of(value[:_VALUE_CHARACTERS]).replace("\0", " ")


def _header(fields: list[Field]) -> str:
    lines: list[str] = []
    length = 0
    for name, value in fields:
        line = f"{name.decode('latin-1')}: {words_of(value)}\n"
        lines.append(line)
        length += len(line)
        if length > HEADER_CHARACTERS:
            break
    return "".join(lines).replace("\0", " ")


def _text(octets: bytes, structure: Structure) -> str:
    """Return the plain text of a message, or else that of its HTML."""
    for kind, read in _READERS.items():
        texts: list[str] = []
        room = TEXT_CHARACTERS
        for part in structure.parts:
            if part.type == kind and not part.is_attachment and room > 0:
                # One block is decoded; that is more than there is room for.
                block = next(content(octets, part), b"")
                texts.append(read(text_of(block, part.charset))[:room].replace("\0", " "))
                room -= len(texts[-1])
        if texts:
            return "\n".join(texts)
    return ""


_READERS: dict[str, Callable[[str], str]] = {
    "text/plain": str,
    "text/html": lambda markup: hypertext.read(markup)[0],
}


def _date(value: bytes) -> float | None:
    try:
        parsed = email.utils.parsedate_tz(text_of(unfolded(value[:_DATE_CHARACTERS])))
        date = None if parsed is None else float(email.utils.mktime_tz(parsed))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return date if date is not None and _YEAR_1 <= date < _YEAR_10000 else None


# The usual: no quotes, comments, groups or source routes.
_PLAIN = re.compile(
    r'\s*+(?:(?P<name>[^<>@,;:"()\[\]\\]*+)<(?P<inside>[^\s<>@,;:"()\[\]\\]++@[^\s<>@,;:"()\[\]\\]++)>'
    r'|(?P<alone>[^\s<>@,;:"()\[\]\\]++@[^\s<>@,;:"()\[\]\\]++))\s*+(?:,|$)'
)
_getaddresses = (
    partial(email.utils.getaddresses, strict=False)
    if getattr(email.utils, "supports_strict_parsing", False)
    else email.utils.getaddresses
)


def mailboxes(value: bytes) -> tuple[Mailbox, ...]:
    """Return the addresses of a field (RFC 5322 section 3.4), read leniently."""
    return _known_mailboxes(value) if len(value) <= _SHORT else _mailboxes(value)


def _mailboxes(value: bytes) -> tuple[Mailbox, ...]:
    text = text_of(unfolded(value[:_MAILBOX_OCTETS])).replace("\0", " ")
    found: list[Mailbox] = []
    at = 0
    while at < len(text) and len(found) < MAILBOXES:
        mailbox = _PLAIN.match(text, at)
        if mailbox is None:
            return _odd_mailboxes(text)
        address = mailbox["inside"] or mailbox["alone"]
        found.append(_mailbox(mailbox["name"] or "", address))
        at = mailbox.end()
    return tuple(found)


_known_mailboxes = lru_cache(maxsize=_FEW)(_mailboxes)


def _odd_mailboxes(text: str) -> tuple[Mailbox, ...]:
    try:
        pairs = _getaddresses([text[:_ODD_CHARACTERS]])
    except (RecursionError, ValueError, IndexError):
        return ()
    return tuple(_mailbox(name, address) for name, address in pairs[:MAILBOXES] if name or address)


def _mailbox(name: str, address: str) -> Mailbox:
    name = name.strip()
    return Mailbox(words_of(name.encode()) if "=?" in name else name, address)
