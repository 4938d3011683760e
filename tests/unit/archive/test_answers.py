"""Questions in the archive: every one ends with an answer or a refusal, in a form of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from harness.complaints import complaints

from mtad.archive.answers import Answers
from mtad.archive.archive import Archive, Method
from mtad.errors import StoreError
from mtad.ipc.questions import MAX_ANSWER, PIECE, Answer, Ask, Form, Item, Refusal, Retention

Params = dict[str, Any]


class Desk:
    """Asks, and keeps what is said, in order."""

    def __init__(self, archive: Archive) -> None:
        self.said: list[Any] = []
        self._news = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self.answers = Answers(archive, self._hear, self._has_room, METHODS)

    def _hear(self, message: msgspec.Struct) -> None:
        self.said.append(message)
        self._news.set()

    async def _has_room(self) -> None:
        await self.room.wait()

    def ask(self, method: str, form: Form = "json", ticket: int = 1, **params: Any) -> None:
        """Begin a question."""
        self.answers.begin(Ask(ticket, method, msgspec.json.encode(params), form))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when what has been said makes it true."""
        async with asyncio.timeout(5):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def ended(self) -> list[Any]:
        """Return everything that is said up to the end of a question that is no stream."""
        await self.until(lambda: bool(self.said) and not getattr(self.said[-1], "more", False))
        return self.said


ended: list[str] = []
made: list[int] = []


async def count(_: Archive, params: Params) -> Params:
    return {"count": params["count"]}


async def listing(_: Archive, params: Params) -> Params:
    made.append(params["size"])
    return {"messages": [], "filling": "x" * params["size"]}


async def cursor(_: Archive, __: Params) -> Params:
    raise StoreError("the disk is full", help="make room")


async def show(_: Archive, __: Params) -> Params:
    raise ZeroDivisionError("the secret cause")


async def wait(_: Archive, __: Params) -> Params:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("wait")
    return {}


async def follow(_: Archive, __: Params) -> AsyncGenerator[Params, None]:
    return _numbers()


async def _numbers() -> AsyncGenerator[Params, None]:
    try:
        for number in range(3):
            yield {"id": str(number)}
    finally:
        ended.append("follow")


async def expect_none(_: Archive, __: Params) -> Params:
    return {"ok": False, "messages": []}


async def extract(_: Archive, __: Params) -> Params:
    return {"value": "\udcff\x1b[2J\n"}


METHODS: dict[str, Method] = {
    "message.count": count,
    "message.list": listing,
    "message.cursor": cursor,
    "message.show": show,
    "message.wait": wait,
    "message.follow": follow,
    "message.expect-none": expect_none,
    "message.extract": extract,
}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    ended.clear()
    news = os.eventfd(0, os.EFD_NONBLOCK)
    archive = Archive(tmp_path, Retention(), news, lambda _: None)
    yield Desk(archive)
    archive.close()
    asyncio.get_running_loop().remove_reader(news)
    os.close(news)


async def test_an_answer_in_each_form(desk: Desk) -> None:
    desk.ask("message.count", count=3)
    assert await desk.ended() == [Answer(1, b'{"count":3}', False)]
    desk.said.clear()
    desk.ask("message.count", "plain", count=3)
    assert await desk.ended() == [Answer(1, b"3\n", False)]


async def test_what_failed_begins_as_an_error_in_plain(desk: Desk) -> None:
    desk.ask("message.expect-none", "plain")
    (answer,) = await desk.ended()
    assert answer.octets.startswith(b"error: message expect-none: failed\n")


async def test_octets_that_are_no_text_do_no_harm(desk: Desk) -> None:
    desk.ask("message.extract", "plain")
    (answer,) = await desk.ended()
    assert answer.octets.decode().replace("\n", "").isprintable()
    desk.said.clear()
    desk.ask("message.extract")
    (answer,) = await desk.ended()
    assert msgspec.json.decode(answer.octets) == {"value": "?\x1b[2J\n"}
    assert min(answer.octets) >= 0x20


@pytest.mark.parametrize("size", [PIECE - 29, PIECE - 28, 3 * PIECE])
async def test_pieces(desk: Desk, size: int) -> None:
    desk.ask("message.list", size=size)
    said = await desk.ended()
    assert all(len(each.octets) <= PIECE for each in said)
    assert [each.more for each in said] == [True] * (len(said) - 1) + [False]
    whole = b"".join(each.octets for each in said)
    assert len(msgspec.json.decode(whole)["filling"]) == size
    assert len(said) == -(-len(whole) // PIECE)


async def test_what_is_too_much_is_refused(desk: Desk) -> None:
    desk.ask("message.list", size=MAX_ANSWER)
    (refusal,) = await desk.ended()
    assert isinstance(refusal, Refusal)
    assert "ask for less" in refusal.help


async def test_refusals(desk: Desk) -> None:
    desk.ask("message.cursor")
    assert await desk.ended() == [Refusal(1, -32000, "the disk is full", "make room")]
    desk.said.clear()
    with complaints() as texts:
        desk.ask("message.show")
        (refusal,) = await desk.ended()
    assert (refusal.code, "secret" in refusal.message) == (-32603, False)
    assert "the secret cause" in texts[0]


async def test_who_goes_away_ends_the_question(desk: Desk) -> None:
    desk.ask("message.wait")
    await asyncio.sleep(0)
    desk.answers.cancel(1)
    assert await desk.ended() == [Refusal(1, -32000, "cancelled", "")]
    assert ended == ["wait"]
    desk.answers.cancel(1)  # it may come too late
    desk.answers.taken(1)


async def test_a_stream_waits_until_its_item_is_taken(desk: Desk) -> None:
    desk.ask("message.follow")
    await desk.until(lambda: len(desk.said) == 2)
    await asyncio.sleep(0)
    assert desk.said == [Answer(1, b'{"ok":true}', False), Item(1, b'{"id":"0"}', False)]
    desk.answers.taken(1)
    await desk.until(lambda: len(desk.said) == 3)
    assert desk.said[-1] == Item(1, b'{"id":"1"}', False)
    desk.answers.cancel(1)
    await desk.until(lambda: len(desk.said) == 4)
    assert isinstance(desk.said[-1], Refusal)
    assert ended == ["follow"]


async def test_what_waits_for_its_turn(desk: Desk) -> None:
    """Few long answers are made at once; short ones and those who wait for mail pass them."""
    made.clear()
    desk.room.clear()
    for ticket in range(100):
        desk.ask("message.list", ticket=ticket, size=10)
    desk.ask("message.count", ticket=100, count=3)
    waiters = range(200, 500)
    for ticket in waiters:
        desk.ask("message.wait", ticket=ticket)
    desk.answers.cancel(50)
    await desk.until(lambda: bool(desk.said))
    assert desk.said == [Refusal(50, -32000, "cancelled", "")]
    assert len(made) == 8

    desk.room.set()
    await desk.until(lambda: len(desk.said) == 101)
    for ticket in waiters:
        desk.answers.cancel(ticket)
    await desk.until(lambda: len(desk.said) == 401)
    assert len(ended) == len(waiters)
    answered = [each.ticket for each in desk.said if isinstance(each, Answer)]
    assert answered.index(100) < 20
    assert sorted(answered) == [each for each in range(101) if each != 50]
