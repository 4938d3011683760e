"""What a rule has a session say instead of what it would have said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mtad.model.rules.values import Do
from mtad.smtp.reply import Reply, encode

_POSITIVE = (b"2", b"3")
# Raw octets up to so many are a reply like others; more of them are made as they are sent.
_AT_ONCE = 16_384


class Raw(NamedTuple):
    """Octets that are sent as they are, ``repeat`` times."""

    octets: bytes
    repeat: int = 1

    @property
    def size(self) -> int:
        """How many octets that makes."""
        return len(self.octets) * self.repeat

    @property
    def is_long(self) -> bool:
        """Whether they are too many to be held."""
        return self.size > _AT_ONCE

    def pieces(self) -> Iterator[bytes]:
        """Yield the octets in pieces of a bounded size."""
        octets, repeat = self.octets, self.repeat
        if len(octets) >= _AT_ONCE:
            for _ in range(repeat):
                yield from (octets[at : at + _AT_ONCE] for at in range(0, len(octets), _AT_ONCE))
            return
        several = _AT_ONCE // len(octets)
        block = octets * several
        for _ in range(repeat // several):
            yield block
        yield octets * (repeat % several)


Answer = bytes | Raw
"""A reply, or raw octets."""

Say = Callable[[bytes], Sequence[Answer]]
"""Makes of a reply what is said instead."""

NOTHING = Do()

REFUSAL = Reply(450, "4.0.0", "A rule refuses it")
"""Why something is not done; the rule's own words, or none, are said instead."""


def is_long(do: Do) -> bool:
    """Whether a rule says more than is held."""
    return do.raw is not None and Raw(do.raw, do.repeat).is_long


def ends(do: Do) -> bool:
    """Whether a rule ends the dialogue."""
    return do.close is not None or do.silent or do.deaf


def answer(do: Do) -> Sequence[Answer] | None:
    """Return what a rule says; None: it does not say what."""
    if do.reply is not None:
        return (encode(Reply(do.reply.code, do.reply.status, do.reply.text)),)
    if do.raw is not None:
        return (Raw(do.raw, do.repeat),) if do.raw and do.repeat else ()
    return () if do.mute else None


def is_positive(do: Do) -> bool:
    """Whether a rule lets happen what it is asked about."""
    if do.reply is not None:
        return 200 <= do.reply.code < 400
    if do.raw is not None:
        return do.raw.startswith(_POSITIVE)
    return not (do.mute or ends(do))


def whatever(do: Do) -> Say:
    """Return what says what the rule says."""

    def say(reply: bytes) -> Sequence[Answer]:
        said = answer(do)
        return (reply,) if said is None else said

    return say


def when_done(do: Do) -> Say:
    """Return what says what the rule says of what has been done; what could not be, stays so."""

    def say(reply: bytes) -> Sequence[Answer]:
        if not reply.startswith(_POSITIVE):
            return (reply,)
        said = answer(do)
        return (without(reply, do.hide) if do.hide else reply,) if said is None else said

    return say


def for_each(dos: Sequence[Do]) -> Say:
    """Return what answers a message for each recipient, as LMTP has it (RFC 2033 section 4.2)."""

    def say(replies: bytes) -> Sequence[Answer]:
        reply = replies[: len(replies) // len(dos)]
        return [
            one
            for do in dos
            for one in (when_done(do)(reply) if is_positive(do) else answer(do) or ())
        ]

    return say


def without(reply: bytes, keywords: Sequence[str]) -> bytes:
    """Return the reply to EHLO without the lines of these keywords; the first line stays."""
    hidden = {keyword.upper().encode() for keyword in keywords}
    first, *others = reply.splitlines(keepends=True)
    shown = [
        first,
        *(line for line in others if line[4:].split(maxsplit=1)[0].upper() not in hidden),
    ]
    *before, last = shown
    return b"".join([*(line[:3] + b"-" + line[4:] for line in before), last[:3] + b" " + last[4:]])
