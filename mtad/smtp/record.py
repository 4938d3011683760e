"""What is written down of one session: its transcript, and what its summary counts.

A transcript is a list of entries ``[at, who, what]``: microseconds since the connection; ``C`` for
the client, ``S`` for us, ``-`` for an event; and the octets of a line, a reply or the event's text,
or ``{"octets": n, "message": bool}`` for what is only counted: a message, or a line that is too
long. Replies that leave together follow all the commands that they answer.
"""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

from msgspec import msgpack

from mtad.model.envelope import Store
from mtad.model.histogram import Histogram, bucket
from mtad.model.ids import Keys
from mtad.model.profile import Transcripts
from mtad.smtp.stage import Stage

# A part has so many octets of lines, or so many replies, and those of a turn: less than 64 KiB.
_LINES = 16_384
_REPLIES = 128
# Octets of all.
_MOST = 4_194_304
_THE_REST_IS_CUT = "the rest is cut"

_code = itemgetter(slice(3))
# A reply, or the beginning of one.
_REPLY = re.compile(rb"(?:...-[^\n]*\n)*(?:... [^\n]*\n)|.+", re.DOTALL)

# Takes anything, and keeps nothing.
_forget = deque[Any](maxlen=0).append

now = time.monotonic_ns


class Recording(NamedTuple):
    """What the records of a listener's sessions have in common.

    ``has_handler``: a handler may answer by halves; ``is_lmtp``: several replies may be one.
    """

    store: Store
    keys: Keys
    transcripts: Transcripts
    announces_pipelining: bool
    has_handler: bool
    is_lmtp: bool


class Record:
    """The record of one session, which begins now.

    ``heard_at`` is in microseconds since then. Of the replies that are about to go, ``others``
    answer no command, and ``noted`` are written down already. ``messages`` were accepted;
    ``gave_up``: a transaction has ended without one; ``follows_auth``: what comes next may be a
    secret. ``octets_in``, ``octets_out``, ``replies`` (by their codes) and ``phases`` are what
    SessionSummary has, the two in the middle after ``count``.
    """

    __slots__ = (
        "_counted",
        "_counts_from",
        "_due",
        "_ended_at",
        "_entries",
        "_held",
        "_is_cut",
        "_parts",
        "_said",
        "append",
        "began",
        "began_ns",
        "ended_by",
        "follows_auth",
        "gave_up",
        "heard_at",
        "key",
        "messages",
        "noted",
        "octets_in",
        "octets_out",
        "others",
        "phases",
        "recording",
        "replies",
        "then",
    )

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.key = recording.keys.next()
        self.began_ns = time.time_ns()
        self.began = now()  # nanoseconds
        self.heard_at = self._ended_at = 0
        self.octets_in = self.octets_out = self.others = self.messages = self.noted = 0
        self.gave_up = self.follows_auth = self._is_cut = False
        self.ended_by: Stage | None = None
        self.then: Callable[[Any], Any] | None = None  # what is called when a count has ended
        self.replies: Counter[bytes] = Counter()
        self.phases: dict[str, Histogram] = {"banner": {}, "command": {}, "data": {}}
        keeps = recording.transcripts is not Transcripts.NONE
        self._entries: list[Any] = []
        self.append = self._entries.append if keeps else _forget
        self._said: list[bytes] = []  # replies that are not counted yet
        self._counts_from = 0  # where in the input a message begins
        self._counted = 0  # octets of input that are only counted
        self._due = _LINES  # at so many octets of input the part ends
        self._parts = 0
        self._held: list[bytes] = []  # parts that are wanted only if the session fails

    # Input; lines are appended by the session

    def heard(self, octets: int) -> None:
        """Take note that the client is heard; what it says follows."""
        self.heard_at = (now() - self.began) // 1000
        self.octets_in += octets

    def begin_count(self, ahead: int) -> None:
        """Begin to count: ``ahead`` octets of what was heard belong to it, and what will be."""
        self._counts_from = self.octets_in - ahead

    def end_count(self, unread: int, *, message: bool) -> None:
        """Write down how much it was; ``unread`` octets of what was heard do not belong to it."""
        octets = self.octets_in - unread - self._counts_from
        self._counted += octets
        self._due += octets
        self._ended_at = self.heard_at
        self.append((self.heard_at, "C", {"octets": octets, "message": message}))

    def happened(self, text: str) -> None:
        """Write an event down."""
        at = (now() - self.began) // 1000
        self.append((at, "-", text.encode("utf-8", "surrogateescape")))

    # Output

    def greeted(self) -> None:
        """Take the reply that comes next for the banner."""
        self.others += 1
        _add(self.phases["banner"], (now() - self.began) // 1000, 1)

    def answered(self, *, accepted: bool) -> None:
        """Take the reply that comes next for that to the message that has ended last."""
        self.others += 1
        self.messages += accepted
        _add(self.phases["data"], (now() - self.began) // 1000 - self._ended_at, 1)

    def sent(self, replies: list[bytes]) -> int:
        """Write down the replies that go now; return how many of them are to commands."""
        at = (now() - self.began) // 1000
        commands = len(replies) - self.others
        if self.recording.has_handler:
            commands -= sum(map(_is_half, replies))
        if commands > 0:
            _add(self.phases["command"], at - self.heard_at, commands)
        self.others = 0
        if self.recording.is_lmtp or self.recording.has_handler:
            replies = _REPLY.findall(b"".join(replies))
        for reply in replies:
            self.append((at, "S", reply))
        self._said += replies
        if self.octets_in > self._due or len(self._said) > _REPLIES:
            self._end_part()
        return commands

    def count(self) -> None:
        """Count what has been said."""
        said = self._said
        self.octets_out += sum(map(len, said))
        if self.recording.has_handler:
            said = [reply for reply in said if not _is_half(reply)]
        # A rule may have said anything.
        self.replies.update(code for code in map(_code, said) if len(code) == 3 and code.isdigit())
        self._said = []

    # Parts

    def _end_part(self) -> None:
        self.count()
        self._due = self.octets_in + _LINES
        if self.octets_in - self._counted + self.octets_out > _MOST and not self._is_cut:
            self._is_cut = True
            self.happened(_THE_REST_IS_CUT)
            self.append = _forget
        if not self._entries:
            return
        part = self._entries.copy()
        self._entries.clear()  # and no other list: ``append`` is this one's
        if self.recording.transcripts is Transcripts.ALL:
            self._give(part)
        else:
            self._held.append(msgpack.encode(part))

    def _give(self, part: list[Any]) -> None:
        self.recording.store.transcript(self.key, self._parts, part)
        self._parts += 1

    def end(self, *, failed: bool) -> str:
        """Give what there is to the store; return what SessionSummary says of the transcript."""
        self._end_part()
        if failed:
            for part in self._held:
                self._give(msgpack.decode(part))
        if not self._parts:
            return "none"
        return "cut" if self._is_cut else "all"


def _is_half(reply: bytes) -> bool:
    """Whether lines of the same reply are still to come: a handler may say them one by one."""
    return reply.splitlines()[-1][3:4] == b"-"


def _add(histogram: Histogram, microseconds: int, count: int) -> None:
    number = bucket(max(microseconds, 0))  # what is said meanwhile makes it less than nothing
    histogram[number] = histogram.get(number, 0) + count
