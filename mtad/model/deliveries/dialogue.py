"""A transcript as a dialogue: each thing that the client said, with what it was answered.

Replies are in the order of the commands, but replies that leave together follow all the commands
that they answer (RFC 2920). So the oldest command without a reply is the one that is answered.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

BANNER = "(banner)"
CONTENT = "(content)"
UNASKED = "(unasked)"
"""Instead of a command: what the greeting, the reply to a message, and any other one answer."""

_RULE = re.compile(r"rule: [^,]*, ([^:]*): (.*)", re.DOTALL)
_SAYS = re.compile("(?:^|, )[2-5][0-9]{2}(?:[ ,]|$)")
_CODE = re.compile(r"[2-5][0-9]{2}(?= |\Z)")


class Entry(msgspec.Struct, frozen=True):
    """A line of a transcript, as `session show` has it; ``at`` is in seconds since it began.

    ``who`` is C, S, or - for an event; ``octets`` is how much it is where it is only counted, and
    ``open`` says that no CRLF ends it.
    """

    at: float
    who: str
    line: str
    octets: int | None = None
    message: bool = False
    open: bool = False


class Reply(msgspec.Struct, frozen=True):
    """A reply as it was sent; of what is none, the ``code`` is None; ``open``: without CRLF."""

    at: float
    lines: tuple[str, ...]
    open: bool = False

    @property
    def code(self) -> int | None:
        """The code of its last line."""
        found = _CODE.match(self.lines[-1])
        return int(found[0]) if found else None

    @property
    def text(self) -> str:
        """All of it in one line."""
        if len(self.lines) == 1:
            return self.lines[0]
        return self.lines[-1][:4] + " ".join(line[4:] for line in self.lines)

    def is_positive(self) -> bool:
        """Whether the client may go on."""
        return self.code is not None and self.code < 400


@dataclass(slots=True)
class Act:
    """What a rule did, in the words of mtad.model.rules.words: at which moment, and what.

    ``replies`` are those that answer no command.
    """

    at: float
    moment: str
    words: str
    replies: list[Reply] = field(default_factory=list)

    @property
    def is_mute(self) -> bool:
        """Whether there is no reply."""
        return "no reply" in self.words.split(", ")

    @property
    def is_raw(self) -> bool:
        """Whether the reply is octets that may be anything."""
        return "raw octets" in self.words

    @property
    def is_before(self) -> bool:
        """Whether it is before the banner."""
        return self.moment == "connect"

    @property
    def is_within(self) -> bool:
        """Whether it is in the content of a message."""
        return self.moment.partition(" ")[0] in ("body", "byte", "line")

    @property
    def has_reply(self) -> bool:
        """Whether it says something."""
        return self.is_raw or _SAYS.search(self.words) is not None

    @property
    def is_afterwards(self) -> bool:
        """Whether the command was answered before."""
        return self.moment in ("answered", "tls")


@dataclass(slots=True)
class Exchange:
    """A command, or what stands for one, and its replies: none when the session ended before.

    ``line`` is without its CRLF; ``octets`` came after it that are not shown; ``acts`` are those
    of rules that were asked about it.
    """

    at: float
    line: str
    octets: int = 0
    replies: list[Reply] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)

    @property
    def verb(self) -> str:
        """The first word, in upper case."""
        return self.line.partition(" ")[0].upper()

    @property
    def reply(self) -> Reply | None:
        """The first reply."""
        return self.replies[0] if self.replies else None

    def ends_message(self) -> bool:
        """Whether the reply is that to a message."""
        words = self.line.upper().split()
        return self.line == CONTENT or (words[:1] == ["BDAT"] and words[2:] == ["LAST"])


def exchanges(entries: Iterable[Entry]) -> list[Exchange]:
    """Return what was said in a session, in the order of the commands."""
    dialogue = _Dialogue()
    for said in _whole(entries):
        if isinstance(said, Reply):
            dialogue.answer(said)
        elif said.who == "C":
            dialogue.hear(said)
        elif found := _RULE.fullmatch(said.line):
            dialogue.act(Act(said.at, found[1], found[2]))
    return dialogue.exchanges


def _whole(entries: Iterable[Entry]) -> Iterator[Entry | Reply]:
    """Yield entries, with the lines of each reply put together."""
    begun: list[Entry] = []
    for entry in entries:
        if begun and (entry.who != "S" or entry.at != begun[0].at):
            yield _reply(begun)
            begun = []
        if entry.who != "S":
            yield entry
            continue
        begun.append(entry)
        if entry.line[3:4] != "-":
            yield _reply(begun)
            begun = []
    if begun:
        yield _reply(begun)


def _reply(entries: list[Entry]) -> Reply:
    return Reply(entries[0].at, tuple(entry.line for entry in entries), entries[-1].open)


class _Dialogue:
    """Puts commands and replies together.

    ``_accepted`` counts the recipients of the transaction: LMTP answers a message for each.
    ``_early`` are acts in the content of DATA, which is told when it has ended.
    """

    def __init__(self) -> None:
        banner = Exchange(0.0, BANNER)
        self.exchanges = [banner]
        self._waiting = deque([banner])
        self._is_lmtp = False
        self._accepted = 0
        self._answered = banner
        self._early: list[Act] = []
        self._latest: Act | None = None

    def hear(self, entry: Entry) -> None:
        self._latest = None
        last = self.exchanges[-1]
        if entry.message and last.verb == "BDAT":
            last.octets = entry.octets or 0
            return
        line = CONTENT if entry.message else entry.line
        exchange = Exchange(entry.at, line, entry.octets or 0)
        if entry.message:
            exchange.acts, self._early = self._early, []
        self._is_lmtp |= exchange.verb == "LHLO"
        self.exchanges.append(exchange)
        if any(act.replies for act in exchange.acts):
            self._answered = exchange  # before its end, and that is its answer
        else:
            self._waiting.append(exchange)

    def answer(self, reply: Reply) -> None:
        if self._latest is not None and self._latest.is_raw and self._latest.is_before:
            self._latest.replies.append(reply)
            self._latest = None
            return
        if not self._waiting:
            self.exchanges.append(Exchange(reply.at, UNASKED, replies=[reply]))
            if self._latest is not None:
                self._latest.replies.append(reply)
            return
        exchange = self._waiting[0]
        exchange.replies.append(reply)
        if len(exchange.replies) == self._due(exchange):
            self._answered = self._waiting.popleft()
            self._count(exchange)

    def act(self, act: Act) -> None:
        self._latest = act
        if self._waiting and not act.is_afterwards:
            self._waiting[0].acts.append(act)
            if act.is_mute:
                self._waiting.popleft()
        elif act.is_within and self._answered.verb == "DATA":
            self._early.append(act)
        else:
            self._answered.acts.append(act)

    def _due(self, exchange: Exchange) -> int:
        """Return how many replies there will be."""
        return (self._is_lmtp and exchange.ends_message() and self._accepted) or 1

    def _count(self, answered: Exchange) -> None:
        if answered.verb in ("MAIL", "RSET") or answered.ends_message():
            self._accepted = 0
        elif answered.verb == "RCPT" and answered.replies[0].is_positive():
            self._accepted += 1
