"""The fields of a query: what the value of each may be, and which condition that is.

``FIELDS`` is the table; ``leaf`` reads a condition, ``show_leaf`` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from mtad.archive.conditions import (
    MAX_ID,
    Address,
    Has,
    Header,
    Id,
    Leaf,
    Pattern,
    Size,
    Time,
    Value,
    Words,
)
from mtad.archive.terms import HAS, LINT, UNIX
from mtad.model import ids
from mtad.store.deliveries import State

_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SIZE = re.compile(r"([0-9]{1,15})(?:([kmg])(?:i?b)?|b?)", re.IGNORECASE)
_AGO = re.compile(r"([0-9]{1,10})([smhdw])", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_NANOSECONDS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _words(column: str, pattern: Pattern) -> Words:
    *first, last = pattern.pieces
    if len(first) > 1 or (first and last):
        raise ValueError("a star among words stands at the end of one: invoice*")
    if not any(character.isalnum() for character in pattern.pieces[0]):
        raise ValueError("there is no letter and no digit to look for")
    return Words(column, pattern)


def _lower(pattern: Pattern, brackets: str = "") -> Pattern:
    """Return ``pattern`` in lower case, and without the brackets that may be around it."""
    pieces = [piece.lower() for piece in pattern.pieces]
    if brackets and pieces[0].startswith(brackets[0]) and pieces[-1].endswith(brackets[1]):
        pieces[0] = pieces[0][1:]
        pieces[-1] = pieces[-1][:-1]
    return Pattern(tuple(pieces))


def _address(field: str, pattern: Pattern) -> Address:
    if pattern.pieces == ("",):
        raise ValueError(f"an address, a domain or a name is missing; {field}:<> is the empty one")
    return Address(field, _lower(pattern, "<>"))


def _value(field: str, pattern: Pattern) -> Value:
    if pattern.pieces == ("",):
        raise ValueError("a value is missing")
    return Value(field, _lower(pattern, "[]" if field == "peer" else ""))


def _peer(field: str, pattern: Pattern) -> Value:
    value = _value(field, pattern)
    if pattern.plain and not _is_peer(value.pattern.text):
        raise ValueError(
            "a peer is an IP address, without a port, unix, or a path: peer:192.0.2.1, peer:10.*"
        )
    return value


def _is_peer(text: str) -> bool:
    if text == UNIX or text.startswith("/"):
        return True
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _lint(field: str, pattern: Pattern) -> Value:
    value = _value(field, pattern)
    if pattern.plain and value.pattern.text not in LINT:
        raise ValueError(f"what a strict server would have minded is {', '.join(LINT)}")
    return value


def _outgoing(field: str, pattern: Pattern) -> Value:
    value = _value(field, pattern)
    if pattern.plain and value.pattern.text not in set(State):
        raise ValueError(f"what is sent on is {', '.join(State)}")
    return value


def _session(field: str, pattern: Pattern) -> Value:
    return Value(field, Pattern((ids.encode(ids.decode(pattern.text)),)))


def _id(_field: str, pattern: Pattern) -> Id:
    return Id(ids.decode(pattern.text))


def _has(_field: str, pattern: Pattern) -> Has:
    what = pattern.text.lower()
    if what not in HAS:
        raise ValueError(f"what a message may have is {', '.join(HAS)}")
    return Has(what)


def _octets(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("a size is a number with k, M, G or nothing behind it: >1M, <=10k, 1k..2k")
    return min(int(match[1]) * _UNITS[(match[2] or "").lower()], MAX_ID)


def _size(_field: str, pattern: Pattern) -> Size:
    text = pattern.text
    low, between, high = text.partition("..")
    if between:
        return Size(_octets(low), _octets(high))
    for sign, bounds in _BOUNDS.items():
        if text.startswith(sign):
            return bounds(_octets(text[len(sign) :]))
    return Size(_octets(text), _octets(text))


_BOUNDS: dict[str, Callable[[int], Size]] = {
    ">=": lambda octets: Size(octets, None),
    "<=": lambda octets: Size(None, octets),
    ">": lambda octets: Size(min(octets + 1, MAX_ID), None),
    "<": lambda octets: Size(None, octets - 1),
}


def time_of(field: str, pattern: Pattern) -> Time:
    """Return the condition ``after`` or ``before`` a time. Raises ValueError."""
    text, after = pattern.text, field == "after"
    relative = _AGO.fullmatch(text)
    if relative:
        seconds = int(relative[1]) * _SECONDS[relative[2].lower()]
        return Time(after, min(seconds, MAX_ID // _NANOSECONDS) * _NANOSECONDS, ago=True)
    try:
        return Time(after, ids.decode(text), exclusive=True)
    except ValueError:
        return Time(after, _instant(text))


def _instant(text: str) -> int:
    reason = (
        "a time is 2026-05-04, 2026-05-04T12:30:00 (UTC, or with +02:00 behind it), 10m (ago: s, "
        "m, h, d, w), or the id of a message"
    )
    try:
        parsed = datetime.fromisoformat(text)
        since = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise ValueError(f"{reason}, not {text!r}") from None
    number = since // timedelta(microseconds=1) * 1000
    if not 0 <= number <= MAX_ID:
        raise ValueError("a time is from 1970 to 2262")
    return number


FIELDS: dict[str, Callable[[str, Pattern], Leaf]] = {
    "from": _address,
    "to": _address,
    "cc": _address,
    "sender": _address,
    "rcpt": _address,
    "subject": _words,
    "text": _words,
    "listener": _value,
    "peer": _peer,
    "helo": _value,
    "auth": _value,
    "tls": _value,
    "lint": _lint,
    "run": _value,
    "outgoing": _outgoing,
    "session": _session,
    "id": _id,
    "size": _size,
    "after": time_of,
    "before": time_of,
    "has": _has,
}
"""What reads the value of each field; it raises ValueError with the reason."""

HEADER = "header."
_HEADER_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,200}")


def leaf(field: str, pattern: Pattern) -> Leaf:
    """Return the condition ``field:pattern``; field "" is for words without one.

    Raises:
        KeyError: there is no such field.
        ValueError: the field does not take this value.
    """
    name = field.lower()
    if name.startswith(HEADER):
        header = name.removeprefix(HEADER)
        if not _HEADER_NAME.fullmatch(header):
            raise ValueError("a header is named as in header.X-Test:abc")
        if pattern.plain and not pattern.text:
            raise ValueError(f"a value is missing; {name}:* is any")
        return Header(header, pattern)
    return FIELDS[name](name, pattern) if name else _words("", pattern)


_BARE = re.compile(r"[\w@.+/=<>\[\]!#$%&'^`{|}~,;?-]+")
_QUOTED = {"AND", "OR", "NOT", ""}


def show_leaf(condition: Leaf) -> str:
    """Return the text of a condition."""
    match condition:
        case Words(column, pattern):
            return f"{column}:{_quoted(pattern)}" if column else _quoted(pattern)
        case Address(field, pattern):
            return f"{field}:{_quoted(_inside(pattern, '<>'))}"
        case Value(field, pattern):
            return f"{field}:{_quoted(_inside(pattern, '[]') if field == 'peer' else pattern)}"
        case Header(name, pattern):
            return f"{HEADER}{name}:{_quoted(pattern)}"
        case Has(what):
            return f"has:{what}"
        case Id(number):
            return f"id:{ids.encode(number)}"
        case Size():
            return f"size:{_show_size(condition)}"
        case Time():
            return f"{'after' if condition.after else 'before'}:{_show_time(condition)}"


def _inside(pattern: Pattern, brackets: str) -> Pattern:
    """Return ``pattern`` so that ``_lower``, which takes brackets off, leaves it as it is."""
    pieces = list(pattern.pieces)
    if (pieces[0][:1] == brackets[0] and pieces[-1][-1:] == brackets[1]) or pieces == [""]:
        pieces[0] = brackets[0] + pieces[0]
        pieces[-1] += brackets[1]
    return Pattern(tuple(pieces))


def _show_size(size: Size) -> str:
    if size.low is None:
        return f"<={size.high}" if size.high is None or size.high >= 0 else "<0"
    return f">={size.low}" if size.high is None else f"{size.low}..{size.high}"


def _show_time(time: Time) -> str:
    if time.ago:
        return f"{time.number // _NANOSECONDS}s"
    if time.exclusive:
        return ids.encode(time.number)
    return (_EPOCH + timedelta(microseconds=time.number // 1000)).isoformat()


def _quoted(pattern: Pattern) -> str:
    if pattern.plain and pattern.text in _QUOTED:
        return f'"{pattern.text}"'
    return "*".join(map(_quoted_piece, pattern.pieces))


def _quoted_piece(piece: str) -> str:
    if not piece or (_BARE.fullmatch(piece) and piece[0] != "-"):
        return piece
    escaped = piece.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
