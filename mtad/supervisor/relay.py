"""Questions on their way to the archive, and answers on their way back, which nobody reads here.

What comes is bounded, and must be what was asked for; of its octets it is only checked that none
is a control character: so a line of JSON stays one line, and plain text moves no cursor.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import msgspec

from mtad.control.calls import Relayed
from mtad.control.grammar import Command
from mtad.errors import ChannelError, CommandError
from mtad.ipc.questions import MAX_ANSWER, Answer, Ask, Cancel, Form, Item, Refusal, Taken, Ticket

MAX_GIVEN_UP = 10_000
"""How many answers that nobody waits for any more may be missing."""

# JSON escapes what is below 0x20 (RFC 8259 section 7), and ours the rest (mtad.control.wire). C1
# controls are two octets in UTF-8.
_CONTROL = {
    "json": re.compile(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]"),
    "plain": re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]"),
}

Outcome = Relayed | AsyncGenerator[Relayed, None]


class _Question:
    """One that is under way: the pieces of its answer, or of the next item of its stream."""

    def __init__(self, form: Form, stream: bool) -> None:
        self.stream = stream
        self._control = _CONTROL[form]
        self._loop = asyncio.get_running_loop()
        self._error: CommandError | None = None
        self.expect(Answer)

    def expect(self, kind: type[Answer | Item]) -> None:
        """Begin a new ``whole`` answer or item; where there will be none, it fails."""
        self._kind = kind
        self._pieces: list[bytes] = []
        self._size = 0
        self.whole: asyncio.Future[Relayed] = self._loop.create_future()
        if self._error is not None:
            self.whole.set_exception(self._error)

    def add(self, message: Answer | Item) -> None:
        """Take a piece. Raises ChannelError for one that may not come."""
        self._size += len(message.octets)
        if type(message) is not self._kind or self.whole.done():
            raise ChannelError("an answer that nobody waits for")
        if self._size > MAX_ANSWER:
            raise ChannelError(f"an answer of more than {MAX_ANSWER} octets")
        if self._control.search(message.octets):
            raise ChannelError("an answer with a control character")
        self._pieces.append(message.octets)
        if not message.more:
            self.whole.set_result(Relayed(b"".join(self._pieces)))

    def fail(self, error: CommandError) -> None:
        """There will be no answer, or no further item."""
        self._error = error
        if not self.whole.done():
            self.whole.set_exception(error)


class Relay:
    """The questions to one archive process; ``send`` brings it messages."""

    def __init__(self, send: Callable[[msgspec.Struct], None]) -> None:
        self._send = send
        self._serial = itertools.count()
        self._asked: dict[Ticket, _Question] = {}
        self._given_up: dict[Ticket, _Question] = {}

    @property
    def is_stuck(self) -> bool:
        """Whether answers are missing that must have come, even if nobody waits for them."""
        return len(self._given_up) > MAX_GIVEN_UP

    async def ask(self, command: Command, params: Mapping[str, Any], form: Form) -> Outcome:
        """Return the archive's answer; for a stream its items, from now on.

        Raises:
            CommandError: the archive refuses, or has ended.
        """
        ticket = next(self._serial)
        question = self._asked[ticket] = _Question(form, command.stream)
        self._send(Ask(ticket, command.method, msgspec.json.encode(params), form))
        try:
            answer = await question.whole
        except BaseException:
            self._give_up(ticket)
            raise
        if command.stream:
            question.expect(Item)
            return self._items(ticket, question)
        del self._asked[ticket]
        return answer

    def hear(self, message: Answer | Item | Refusal) -> None:
        """Take what the archive says.

        Raises:
            ChannelError: it may not say so.
        """
        if given_up := self._given_up.get(message.ticket):
            if isinstance(message, Refusal) or not (given_up.stream or message.more):
                del self._given_up[message.ticket]
            return
        question = self._asked.get(message.ticket)
        if question is None:
            raise ChannelError("an answer to what nobody asked")
        if isinstance(message, Refusal):
            del self._asked[message.ticket]
            question.fail(CommandError(message.message, code=message.code, help=message.help))
        else:
            question.add(message)

    def end(self, error: CommandError, of_streams: CommandError) -> None:
        """Tell everyone who waits that the archive is gone."""
        while self._asked:
            question = self._asked.popitem()[1]
            question.fail(of_streams if question.stream else error)

    async def _items(self, ticket: Ticket, question: _Question) -> AsyncGenerator[Relayed, None]:
        try:
            while True:
                yield await question.whole
                question.expect(Item)
                self._send(Taken(ticket))
        finally:
            self._give_up(ticket)

    def _give_up(self, ticket: Ticket) -> None:
        """Forget a question; whatever the archive still says to it does not count."""
        if question := self._asked.pop(ticket, None):
            self._given_up[ticket] = question
            self._send(Cancel(ticket))
