"""The reader of DATA (RFC 5321 sections 4.1.1.4 and 4.5.2): octets in, the message's content out.

Content is what comes up to and with the CRLF before the final dot, without the dots that were put
before others at the beginning of lines. The CRLF of the DATA command begins the first line, so
that an empty message is b"". Only CRLF ends a line, and only CRLF.CRLF a message, unless a weak
server is emulated, which knows one more end.

::

    reader = DataReader(profile.newlines, profile.terminator, profile.limits.line_length)
    content = reader.feed(buffer, start, end)    # for each chunk, until reader.ended
    commands = buffer[end - reader.unread : end]  # what follows the message
    if reader.refused:                            # the flaw that it is refused for

The time goes into searches in C, a fixed number of them for a chunk, whatever it holds.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from io import IncrementalNewlineDecoder
from typing import NamedTuple

from mtad.model.profile import TERMINATORS, Newlines

_CRLF = b"\r\n"
_DOTTED = b"\r\n."
_END = b"\r\n.\r\n"
# So many dots are looked at one by one.
_FEW = 16


class Flaw(StrEnum):
    """What a message should not have.

    A line is long over 998 octets, and too long where the profile has a limit of its own; the
    last two are noted of BDAT, and of what is not declared (RFC 6152, RFC 6531).
    """

    BARE_CR = "bare-cr"
    BARE_LF = "bare-lf"
    NUL = "nul"
    LONG_LINE = "long-line"
    TOO_LONG_LINE = "too-long-line"
    NO_FINAL_CRLF = "no-final-crlf"
    EIGHT_BIT = "8bit"


_NONE: frozenset[Flaw] = frozenset()
_BARE = {"\r": Flaw.BARE_CR, "\n": Flaw.BARE_LF}
_NEVER_TAKEN = frozenset({Flaw.TOO_LONG_LINE})
_STRICTLY_NOT_TAKEN = _NEVER_TAKEN | {Flaw.BARE_CR, Flaw.BARE_LF, Flaw.NUL}
# RFC 5321 section 4.5.3.1.6, with CRLF.
_LONG = 1000

Limits = tuple[tuple[int, Flaw], ...]
"""Octets of a line, CRLF included, and what a longer one is."""


class Lint:
    """What there is to say of a content, as it arrives in pieces that cut no CRLF in two.

    ``flaws`` are those seen so far.
    """

    flaws: frozenset[Flaw] = _NONE
    _line = 0  # octets of the line that has not ended yet
    _newlines: IncrementalNewlineDecoder

    def _inspect(self, content: bytes | memoryview, limits: Limits, *, notes: bool) -> None:
        text = str(content, "latin-1")
        if "\0" in text:
            self.flaws |= {Flaw.NUL}
        self._newlines.decode(text, final=True)
        kinds = self._newlines.newlines
        if kinds != "\r\n" and kinds is not None:
            self.flaws |= {_BARE[kind] for kind in kinds if kind in _BARE}
        if limits:
            self._measure_lines(text, limits)
        if notes and not text.isascii():
            self.flaws |= {Flaw.EIGHT_BIT}

    def _measure_lines(self, text: str, limits: Limits) -> None:
        for limit, flaw in limits:
            if flaw not in self.flaws and self._has_longer(text, limit):
                self.flaws |= {flaw}
        line_end = text.rfind("\r\n")
        self._line = self._line + len(text) if line_end < 0 else len(text) - line_end - 2

    def _has_longer(self, text: str, limit: int) -> bool:
        """Jump from the beginning of a line to the last one that begins within the limit."""
        start = -self._line
        while len(text) - start > limit:
            line_end = text.rfind("\r\n", max(start, 0), start + limit)
            if line_end < 0:
                return True
            start = line_end + 2
        return False


class ChunkLint(Lint):
    """What there is to say of a content that comes in chunks, cut anywhere."""

    def __init__(self) -> None:
        self._newlines = IncrementalNewlineDecoder(None, translate=False)
        self._tail = b""  # the last two octets; of these a CR is still to be inspected

    def see(self, octets: bytes | memoryview) -> None:
        """Inspect what comes next."""
        held = b"\r" if self._tail.endswith(b"\r") else b""
        content = held + bytes(octets)
        self._tail = (self._tail + content[len(held) :])[-2:]
        self._inspect(content.removesuffix(b"\r"), _NOTED, notes=True)

    def end(self) -> None:
        """Inspect what is left; a last line without CRLF is measured as if it had one."""
        if self._tail and self._tail != _CRLF:
            self.flaws |= {Flaw.NO_FINAL_CRLF}
            if self._tail.endswith(b"\r"):
                self._inspect(b"\r", _NOTED, notes=True)
            self._measure_lines("\r\n", _NOTED)


class DataReader(Lint):
    """Reads one message.

    ``terminator`` is a name of TERMINATORS, for ``Newlines.EMULATE``. ``line_limit`` is in octets
    of a line, its CRLF counted and a dot put before another not (RFC 5321 section 4.5.3.1.6); 0 is
    no limit. ``notes``: what makes no difference to whether it is taken is looked for, too.

    ``ended``: the end has come; ``ended_by``: the name of the terminator, "" for CRLF.CRLF;
    ``unread``: how many octets of the last chunk follow it; ``flaws``: those seen so far.
    """

    def __init__(
        self,
        newlines: Newlines,
        terminator: str = "",
        line_limit: int = 0,
        *,
        notes: bool = False,
    ) -> None:
        self.ended = False
        self.ended_by = ""
        self.unread = 0
        self._policy = _policy(newlines, terminator, line_limit, notes)
        # One pass in C tells which line ends there are: nothing else at hand is near as fast.
        self._newlines = IncrementalNewlineDecoder(None, translate=False)
        self._held = b""  # the last octets, where they may be the beginning of an end
        self._begun = False
        self._skip = 0  # octets of content to come that are not the message's

    @property
    def refused(self) -> Flaw | None:
        """Why the message cannot be taken; its content is then no longer handed out."""
        return min(self.flaws & self._policy.not_taken, default=None)

    def feed(
        self, buffer: bytes | bytearray, start: int = 0, end: int | None = None
    ) -> bytes | memoryview:
        """Read the chunk ``buffer[start:end]`` and return the content that is certain by now.

        A memoryview looks into ``buffer``: whoever keeps it copies it before the buffer changes.
        At most four octets are held back until the next chunk. Not to be called after the end.
        """
        end = len(buffer) if end is None else end
        if not self._begun and start < end:
            self._begun = True
            if buffer.startswith(b".", start, end):
                self._held, self._skip = _CRLF, len(_CRLF)
        if self._held:
            buffer = self._held + memoryview(buffer)[start:end]
            start, end = 0, len(buffer)
        dotted = _find_dotted(buffer, start, end)
        stop = self._find_end(buffer, start, dotted, end)
        content: bytes | memoryview = memoryview(buffer)[start:stop]
        if 0 <= dotted < stop - len(_CRLF):
            content = bytes(content).replace(_DOTTED, _CRLF)
        if self._skip and content:
            content, self._skip = content[self._skip :], 0
        self._inspect(content, self._policy.limits, notes=self._policy.notes)
        return b"" if self.flaws and self.refused else content

    def _find_end(self, buffer: bytes | bytearray, start: int, dotted: int, end: int) -> int:
        """Look for the end, and return where the content stops."""
        at = dotted
        if dotted >= 0 and not buffer.startswith(_END, dotted, end):
            at = buffer.find(_END, dotted, end)
        if self._policy.weak_end:
            at = self._find_weak_end(buffer, start, at, end)
        if at >= 0:
            self.ended = True
            terminator = self._policy.weak_end if self.ended_by else _END
            self.unread = end - at - len(terminator)
            return at + terminator.index(b".")
        parts = self._policy.partial_ends
        self._held = b""
        if buffer.endswith(parts, start, end):
            self._held = next(part for part in parts if buffer.endswith(part, start, end))
        return end - len(self._held)

    def _find_weak_end(self, buffer: bytes | bytearray, start: int, at: int, end: int) -> int:
        """Return where the message ends, when it may end before CRLF.CRLF at ``at`` (-1: none)."""
        weak_end = self._policy.weak_end
        weak = buffer.find(weak_end, start, end)
        # CRLF.CR at the end of a chunk may still become CRLF.CRLF.
        is_open = _END.startswith(weak_end) and weak + len(weak_end) == end
        if weak < 0 or is_open or 0 <= at <= weak:
            return at
        self.ended_by = self._policy.terminator
        return weak


class _Policy(NamedTuple):
    """What a profile says, in the form in which it is needed."""

    not_taken: frozenset[Flaw]
    terminator: str
    weak_end: bytes
    partial_ends: tuple[bytes, ...]  # what an end may begin with, the longest first
    limits: Limits
    notes: bool


_NOTED: Limits = ((_LONG, Flaw.LONG_LINE),)


@cache
def _policy(newlines: Newlines, terminator: str, line_limit: int, notes: bool) -> _Policy:
    name = terminator if newlines is Newlines.EMULATE else ""
    weak_end = TERMINATORS[name] if name else b""
    parts = {end[:size] for end in (_END, weak_end) for size in range(1, len(end))}
    longest_first = tuple(sorted(parts, key=len, reverse=True))
    not_taken = _STRICTLY_NOT_TAKEN if newlines is Newlines.STRICT else _NEVER_TAKEN
    limits = _NOTED * notes + ((line_limit, Flaw.TOO_LONG_LINE),) * bool(line_limit)
    return _Policy(not_taken, name, weak_end, longest_first, limits, notes)


def _find_dotted(buffer: bytes | bytearray, start: int, end: int) -> int:
    """Return where CRLF and a dot are for the first time, -1 for nowhere.

    Looking for one octet is ten times as fast as looking for three, if there are few of it.
    """
    dot = buffer.find(b".", start, end)
    for _ in range(_FEW):
        if dot < 0:
            return -1
        if buffer.startswith(_CRLF, dot - 2) and dot - 2 >= start:
            return dot - 2
        dot = buffer.find(b".", dot + 1, end)
    return -1 if dot < 0 else buffer.find(_DOTTED, max(start, dot - 2), end)
