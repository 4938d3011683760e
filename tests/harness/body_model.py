"""A slow and obvious reader of DATA, and how the engine's is asked for the same."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import NamedTuple

from mtad.model.profile import TERMINATORS, Newlines
from mtad.smtp.body import DataReader, Flaw

END = b"\r\n.\r\n"
STRICT, LENIENT, EMULATE = Newlines.STRICT, Newlines.LENIENT, Newlines.EMULATE
POLICIES = [(STRICT, ""), (LENIENT, ""), *((EMULATE, name) for name in TERMINATORS)]


class Outcome(NamedTuple):
    """What became of a stream; ``content`` is None when the message is refused."""

    ended_by: str | None
    content: bytes | None
    flaws: Set[Flaw]
    rest: bytes


def expected(stream: bytes, newlines: Newlines, terminator: str = "", limit: int = 0) -> Outcome:
    """Read a whole stream the obvious way."""
    octets = b"\r\n" + stream  # of the command
    weak = TERMINATORS[terminator] if newlines is EMULATE and terminator else None
    ended_by, stop, position = None, len(octets), len(octets)
    for position in range(2, len(octets) + 1):
        seen, following = octets[:position], octets[position:]
        if seen.endswith(END):
            ended_by, stop = "", position - len(b".\r\n")
            break
        may_be_crlf = weak == b"\r\n.\r" and following[:1] in (b"", b"\n")
        if weak and seen.endswith(weak) and not may_be_crlf:
            ended_by, stop = terminator, position - len(weak) + weak.index(b".")
            break
    lines = octets[:stop].split(b"\r\n")[1:]
    lines = [line[1:] if line.startswith(b".") else line for line in lines]
    content = b"\r\n".join(lines)
    flaws: set[Flaw] = set()
    for at, octet in enumerate(content):
        if octet == 0:
            flaws.add(Flaw.NUL)
        if octet == 13 and content[at + 1 : at + 2] != b"\n":
            flaws.add(Flaw.BARE_CR)
        if octet == 10 and (at == 0 or content[at - 1] != 13):
            flaws.add(Flaw.BARE_LF)
    *whole_lines, last = lines
    if limit and (any(len(line) + 2 > limit for line in whole_lines) or len(last) > limit):
        flaws.add(Flaw.TOO_LONG_LINE)
    refused = flaws and (newlines is STRICT or Flaw.TOO_LONG_LINE in flaws)
    return Outcome(ended_by, None if refused else content, flaws, octets[position:])


def read(chunks: Iterable[bytes], newlines: Newlines, terminator: str, limit: int) -> Outcome:
    """Feed chunks until the end, each in a buffer with temptations around it."""
    reader = DataReader(newlines, terminator, limit)
    content, rest = b"", b""
    fed = 0
    for chunk in chunks:
        if reader.ended:
            rest += chunk
            continue
        buffer = bytearray(b".\r\n" + chunk + b"\n.\r\n.\r\n")
        was_refused = reader.refused
        piece = bytes(reader.feed(buffer, 3, 3 + len(chunk)))
        assert not (was_refused and piece)
        assert bytes(buffer) == b".\r\n" + chunk + b"\n.\r\n.\r\n"
        content += piece
        fed += len(chunk)
        if reader.ended:
            rest = chunk[len(chunk) - reader.unread :]
    ended_by = reader.ended_by if reader.ended else None
    return Outcome(ended_by, None if reader.refused else content, reader.flaws, rest)
