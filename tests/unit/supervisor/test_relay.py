"""Questions and answers between the supervisor and an archive that is in the test's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from mtad.control.calls import Relayed
from mtad.control.commands import COMMANDS
from mtad.errors import ChannelError, CommandError
from mtad.ipc.questions import (
    MAX_ANSWER,
    PIECE,
    Answer,
    Ask,
    Cancel,
    Form,
    FromArchive,
    FromSupervisor,
    Item,
    Refusal,
    Taken,
)
from mtad.supervisor.relay import MAX_GIVEN_UP, Outcome, Relay

COUNT, FOLLOW = COMMANDS["message.count"], COMMANDS["message.follow"]


class Asked:
    """A relay, and what it has told the archive so far."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.relay = Relay(self._send)

    def _send(self, message: msgspec.Struct) -> None:
        octets = msgspec.msgpack.encode(message)
        self.told.append(msgspec.msgpack.decode(octets, type=FromSupervisor))

    def hear(self, message: msgspec.Struct) -> None:
        """Have the archive say something, as it arrives from the channel."""
        octets = msgspec.msgpack.encode(message)
        heard = msgspec.msgpack.decode(octets, type=FromArchive)
        assert isinstance(heard, Answer | Item | Refusal)
        self.relay.hear(heard)

    async def begin(self, form: Form = "json", **params: Any) -> asyncio.Task[Outcome]:
        """Ask, and return once the question is on its way."""
        task = asyncio.create_task(self.relay.ask(COUNT, params, form))
        await asyncio.sleep(0)
        return task

    async def follow(self) -> AsyncGenerator[Relayed, None]:
        """Have a stream begin."""
        task = asyncio.create_task(self.relay.ask(FOLLOW, {}, "json"))
        await asyncio.sleep(0)
        self.hear(Answer(self.told[-1].ticket, b'{"ok":true}', False))
        items = await task
        assert isinstance(items, AsyncGenerator)
        return items


@pytest.fixture
def asked() -> Asked:
    return Asked()


async def test_a_question_and_its_answer_in_pieces(asked: Asked) -> None:
    task = await asked.begin(query="from:a")
    assert asked.told == [Ask(0, "message.count", b'{"query":"from:a"}', "json")]
    asked.hear(Answer(0, b'{"count"', True))
    await asyncio.sleep(0)
    assert not task.done()
    asked.hear(Answer(0, b":3}", False))
    assert await task == Relayed(b'{"count":3}')


async def test_answers_find_their_questions(asked: Asked) -> None:
    first, second = await asked.begin(), await asked.begin()
    asked.hear(Answer(1, b"2", False))
    asked.hear(Answer(0, b"1", False))
    assert (await first, await second) == (Relayed(b"1"), Relayed(b"2"))


async def test_a_refusal(asked: Asked) -> None:
    task = await asked.begin()
    asked.hear(Refusal(0, -32602, "no such field", "see the manual"))
    with pytest.raises(CommandError, match="no such field") as raised:
        await task
    assert (raised.value.code, raised.value.help) == (-32602, "see the manual")


async def test_who_goes_away_is_not_waited_for(asked: Asked) -> None:
    task = await asked.begin()
    task.cancel()
    await asyncio.wait([task])
    assert asked.told[-1] == Cancel(0)
    asked.hear(Answer(0, b"what was on its way", True))
    asked.hear(Answer(0, b"all the same", False))
    with pytest.raises(ChannelError):  # that was all there could be
        asked.hear(Answer(0, b"and again", False))


@pytest.mark.parametrize("begun", [True, False])
async def test_who_leaves_a_stream_is_not_waited_for(asked: Asked, begun: bool) -> None:
    """Until the refusal, whatever it says: an answer that was on its way is not the last word."""
    if begun:
        items = await asked.follow()
        asked.hear(Item(0, b"1", False))
        assert await anext(items) == Relayed(b"1")
        await items.aclose()
    else:
        task = asyncio.create_task(asked.relay.ask(FOLLOW, {}, "json"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        asked.hear(Answer(0, b"{}", False))
    assert asked.told[-1] == Cancel(0)
    asked.hear(Item(0, b"2", False))
    asked.hear(Refusal(0, -32000, "cancelled", ""))
    with pytest.raises(ChannelError):
        asked.hear(Refusal(0, -32000, "cancelled", ""))


async def test_an_item_is_asked_for_when_the_last_is_written(asked: Asked) -> None:
    items = await asked.follow()
    asked.hear(Item(0, b"1", False))
    assert await anext(items) == Relayed(b"1")
    assert Taken(0) not in asked.told
    second = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    assert asked.told[-1] == Taken(0)
    asked.hear(Item(0, b"2", False))
    assert await second == Relayed(b"2")
    asked.hear(Refusal(0, -32000, "the end", ""))  # between two items
    with pytest.raises(CommandError, match="the end"):
        await anext(items)
    assert Cancel(0) not in asked.told


async def test_the_end_of_the_archive_is_told_to_everyone(asked: Asked) -> None:
    items, task = await asked.follow(), await asked.begin()
    asked.relay.end(CommandError("gone"), CommandError("ended"))
    for waiting, told in ((task, "gone"), (anext(items), "ended")):
        with pytest.raises(CommandError, match=told):
            await waiting


LIES = {
    "nobody asked": [Answer(7, b"{}", False)],
    "an item of what is no stream": [Item(0, b"{}", False)],
    "a newline": [Answer(0, b'{"a":1}\n{"b":2}', False)],
    "a carriage return": [Answer(0, b"{}\r", False)],
    "a newline in a later piece": [Answer(0, b"{", True), Answer(0, b"\n}", False)],
    "twice": [Answer(0, b"{}", False), Answer(0, b"{}", False)],
    "too much": [Answer(0, b" " * MAX_ANSWER, True), Answer(0, b" ", True)],
    "a refusal of nothing": [Refusal(7, -32000, "x", "")],
}


@pytest.mark.parametrize("lies", LIES.values(), ids=LIES)
async def test_lies(asked: Asked, lies: list[msgspec.Struct]) -> None:
    task = await asked.begin()
    for lie in lies[:-1]:
        asked.hear(lie)
    with pytest.raises(ChannelError):
        asked.hear(lies[-1])
    task.cancel()


@pytest.mark.parametrize(
    "lies",
    [[Answer(0, b"{}", False)], [Item(0, b"{}", False)] * 2, [Item(0, b"\n", False)]],
    ids=["another answer", "an item before the last is taken", "a newline"],
)
async def test_lies_of_a_stream(asked: Asked, lies: list[msgspec.Struct]) -> None:
    items = await asked.follow()
    for lie in lies[:-1]:
        asked.hear(lie)
    with pytest.raises(ChannelError):
        asked.hear(lies[-1])
    await items.aclose()


@pytest.mark.parametrize("octets", [b'"\n"', b'"\x1b"', b'"\x7f"', '"\x9b"'.encode()])
async def test_json_has_no_control_character(asked: Asked, octets: bytes) -> None:
    task = await asked.begin("json")
    with pytest.raises(ChannelError, match="control character"):
        asked.hear(Answer(0, octets, False))
    task.cancel()


@pytest.mark.parametrize(
    ("octets", "passes"),
    [
        (b"two lines\nof text\n", True),
        ("Grüße\n".encode(), True),
        (b"\x1b[2J\n", False),
        (b"back\rspace\x08\n", False),
        (b"\x7f", False),
        ("\x9b2J\n".encode(), False),
    ],
)
async def test_plain_text_moves_no_cursor(asked: Asked, octets: bytes, passes: bool) -> None:
    task = await asked.begin("plain")
    if passes:
        asked.hear(Answer(0, octets, False))
        assert await task == Relayed(octets)
    else:
        with pytest.raises(ChannelError, match="control character"):
            asked.hear(Answer(0, octets, False))
        task.cancel()


async def test_the_largest_answer_is_one(asked: Asked) -> None:
    task = await asked.begin()
    for left in range(MAX_ANSWER, 0, -PIECE):
        asked.hear(Answer(0, b" " * min(PIECE, left), left > PIECE))
    assert await task == Relayed(b" " * MAX_ANSWER)


async def test_an_archive_that_ends_nothing_is_stuck(asked: Asked) -> None:
    for _ in range(MAX_GIVEN_UP):
        (await asked.begin()).cancel()
    await asyncio.sleep(0)
    assert not asked.relay.is_stuck
    (await asked.begin()).cancel()
    await asyncio.sleep(0)
    assert asked.relay.is_stuck
