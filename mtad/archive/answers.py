"""Questions that are under way in the archive: each a task, whose answer goes back in pieces.

However many ask, only so many long answers are made and on their way at once; the others wait, in
the order in which they came. What is short passes them; mail can be waited for by any number.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, nullcontext
from typing import Any

import msgspec

from mtad.archive.archive import Archive, Method
from mtad.archive.methods import METHODS
from mtad.control import wire
from mtad.control.calls import plain_item, plain_result
from mtad.control.commands import by_method
from mtad.control.grammar import Command
from mtad.control.refusal import refusal
from mtad.errors import CommandError
from mtad.ipc.questions import MAX_ANSWER, MAX_WORDS, PIECE, Answer, Ask, Item, Refusal, Ticket

# Of these, which may have megabytes, so many are under way at once.
_MOST_LONG = 8
_LONG = frozenset(
    {
        "message.extract",
        "message.list",
        "message.part",
        "message.raw",
        "message.show",
        "message.transcript",
        "session.list",
        "session.show",
    }
)


class Answers:
    """Has the questions to ``archive`` answered; ``send`` brings what is said to the supervisor.

    ``room()`` returns when it takes more.
    """

    def __init__(
        self,
        archive: Archive,
        send: Callable[[msgspec.Struct], None],
        room: Callable[[], Awaitable[None]],
        methods: Mapping[str, Method] = METHODS,
    ) -> None:
        self._archive = archive
        self._send = send
        self._room = room
        self._turn = asyncio.Semaphore(_MOST_LONG)
        self._methods = methods
        self._tasks: dict[Ticket, asyncio.Task[None]] = {}
        self._taken: dict[Ticket, asyncio.Event] = {}

    def begin(self, ask: Ask) -> None:
        """Have a question answered."""
        task = asyncio.get_running_loop().create_task(self._answer(ask))
        self._tasks[ask.ticket] = task
        task.add_done_callback(lambda done: self._ended(ask.ticket, done))

    def taken(self, ticket: Ticket) -> None:
        """Let a stream go on."""
        if ticket in self._taken:
            self._taken[ticket].set()

    def cancel(self, ticket: Ticket) -> None:
        """End a question that nobody waits for any more."""
        if ticket in self._tasks:
            self._tasks[ticket].cancel()

    async def _answer(self, ask: Ask) -> None:
        try:
            command = by_method(ask.method)
            method = self._methods.get(ask.method)
            if method is None:
                raise CommandError(f"{command.name} is not there yet")
            async with self._turn if ask.method in _LONG else nullcontext():
                result = await method(self._archive, msgspec.json.decode(ask.params))
                if isinstance(result, AsyncGenerator):
                    await self._stream(ask, command, result)
                else:
                    await self._whole(Answer, ask, command, result)
        except Exception as error:
            self._refuse(ask.ticket, refusal(error))

    def _ended(self, ticket: Ticket, task: asyncio.Task[None]) -> None:
        del self._tasks[ticket]
        if task.cancelled():  # even if it had not begun: there is an end to each question
            self._refuse(ticket, CommandError("cancelled"))

    async def _stream(
        self, ask: Ask, command: Command, items: AsyncGenerator[dict[str, Any], None]
    ) -> None:
        taken = self._taken[ask.ticket] = asyncio.Event()
        try:
            async with aclosing(items):
                begun = b'{"ok":true}' if ask.form == "json" else b""
                await self._send_pieces(Answer, ask.ticket, begun)
                async for item in items:
                    taken.clear()
                    await self._whole(Item, ask, command, item)
                    await taken.wait()
        finally:
            del self._taken[ask.ticket]
        raise CommandError(f"{command.name} has come to its end")

    async def _whole(
        self,
        kind: type[Answer | Item],
        ask: Ask,
        command: Command,
        result: Mapping[str, Any],
    ) -> None:
        octets = await asyncio.to_thread(_drawn, kind, ask, command, result)
        if len(octets) > MAX_ANSWER:
            raise CommandError(
                f"the answer has {len(octets)} octets, more than {MAX_ANSWER}",
                help="ask for less at once",
            )
        await self._send_pieces(kind, ask.ticket, octets)

    async def _send_pieces(self, kind: type[Answer | Item], ticket: Ticket, octets: bytes) -> None:
        for start in range(0, len(octets) or 1, PIECE):
            await self._room()
            end = start + PIECE
            self._send(kind(ticket, octets[start:end], end < len(octets)))

    def _refuse(self, ticket: Ticket, error: CommandError) -> None:
        self._send(
            Refusal(ticket, int(error.code), error.message[:MAX_WORDS], error.help[:MAX_WORDS])
        )


def _drawn(
    kind: type[Answer | Item], ask: Ask, command: Command, result: Mapping[str, Any]
) -> bytes:
    """Return a result, or an item of a stream, in the form of its question."""
    if ask.form == "json":
        try:
            return wire.encoded(result)
        except UnicodeEncodeError:  # a surrogate stands for an octet that is no UTF-8 (PEP 383)
            text = json.dumps(result, ensure_ascii=False)
            return wire.escaped(text.encode("utf-8", "replace"))
    return (plain_result if kind is Answer else plain_item)(command, result)
