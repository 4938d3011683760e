"""Waiting for mail: nothing is missed or found twice, whatever comes and goes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from harness.mailroom import Mailroom, archive_of, ask, content

from mtad.archive.archive import Archive
from mtad.errors import CommandError, QueryError
from mtad.model import ids
from mtad.store.reader import newest
from mtad.store.removal import remove

NEVER = 0.0
LONG = 20.0


class Room(Mailroom):
    """A store with an archive of its own."""

    archive: Archive
    news: Callable[[], None]

    async def ask(self, method: str, **params: Any) -> Any:
        return await ask(self.archive, method, **params)

    def begin(self, method: str, **params: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(self.ask(method, **params))

    async def waiting(self, count: int = 1) -> None:
        """Return when so many wait, and have looked at all there is."""
        wanted = newest(self.database.connection)
        async with asyncio.timeout(LONG):
            while len(self.archive.watches) < count or self.archive.watches.seen() < wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.001)  # there is nothing that tells

    def letter(self, subject: str, **known: Any) -> int:
        """Keep a message, and tell the archive, as a worker does."""
        number = self.keep(content(Subject=subject), **known)
        self.news()
        return number


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    room = Room(tmp_path)
    with archive_of(tmp_path) as (room.archive, room.news):
        yield room
    room.database.close()


def of(answer: Any) -> list[int]:
    return [ids.decode(message["id"]) for message in answer["messages"]]


async def test_list_count_and_cursor(room: Room) -> None:
    numbers = [room.letter(f"n{number}", listener=f"l{number % 2}") for number in range(5)]
    listed = await room.ask("message.list", limit=3)
    assert of(listed) == numbers[:1:-1]
    assert listed["more"]
    assert listed["cursor"] == ids.encode(numbers[-1])
    assert not (await room.ask("message.list", limit=5))["more"]
    since = await room.ask("message.list", since=ids.encode(numbers[3]))
    assert of(since) == [numbers[4]]
    assert of(await room.ask("message.list", since="1h", query="listener:l1")) == [
        numbers[3],
        numbers[1],
    ]
    assert await room.ask("message.count", query="listener:l0") == {"count": 3}
    assert await room.ask("message.cursor") == {"cursor": ids.encode(numbers[-1])}


async def test_a_run_is_apart(room: Room) -> None:
    one = room.letter("a", recipients=("x+One@a.example",), runs=("plus-address",))
    room.letter("a", recipients=("x+two@a.example",), runs=("plus-address",))
    assert of(await room.ask("message.list", run="one")) == [one]
    assert of(await room.ask("message.list", run="one", query="b OR a")) == [one]
    assert (await room.ask("message.count", run="two")) == {"count": 1}
    assert of(await room.ask("message.wait", run="one", timeout=NEVER)) == [one]
    assert await room.ask("message.delete", run="one") == {"deleted": 1, "unindexed": None}
    assert await room.ask("message.count") == {"count": 1}


@pytest.mark.parametrize("method", ["message.list", "message.count", "message.wait"])
async def test_a_query_that_cannot_be_read_is_refused(room: Room, method: str) -> None:
    with pytest.raises(QueryError, match="no field 'form'"):
        await room.ask(method, query="form:x")


async def test_since_that_is_no_time_is_refused(room: Room) -> None:
    with pytest.raises(CommandError, match="since: a time is"):
        await room.ask("message.list", since="yore")


async def test_what_is_there_already_counts(room: Room) -> None:
    number = room.letter("a")
    answer = await room.ask("message.wait", timeout=NEVER)
    assert answer["ok"]
    assert of(answer) == [number]
    assert "waited" not in answer


async def test_after_a_cursor_it_does_not(room: Room) -> None:
    old = room.letter("old")
    cursor = (await room.ask("message.cursor"))["cursor"]
    waiting = room.begin("message.wait", after=cursor, timeout=LONG)
    await room.waiting()
    new = room.letter("new")
    assert of(await waiting) == [new]
    vain = await room.ask("message.wait", after=ids.encode(new), timeout=NEVER)
    assert not vain["ok"]
    assert vain["waited"]
    assert vain["count"] == 0
    assert old < new


async def test_in_vain_tells_what_came_instead(room: Room) -> None:
    room.letter("before")
    cursor = (await room.ask("message.cursor"))["cursor"]
    numbers = [room.letter(f"n{number}") for number in range(12)]
    answer = await room.ask("message.wait", query="subject:n3", count=2, after=cursor, timeout=0.05)
    assert (answer["ok"], answer["waited"], answer["count"]) == (False, True, 1)
    assert of(answer) == [numbers[3]]
    others = [number for number in numbers[:1:-1] if number != numbers[3]]
    assert [ids.decode(one["id"]) for one in answer["instead"]] == others
    assert answer["cursor"] == ids.encode(numbers[-1])


async def test_so_many(room: Room) -> None:
    first = room.letter("a")
    waiting = room.begin("message.wait", query="subject:a", count=3, timeout=LONG)
    await room.waiting()
    room.letter("b")
    second = room.letter("a")
    await room.waiting()
    assert not waiting.done()
    third, fourth = room.letter("a"), room.letter("a")
    answer = await waiting
    assert of(answer) == [first, second, third]
    assert answer["count"] == 3
    # From its cursor on the next match comes next.
    following = await room.ask("message.wait", after=answer["cursor"], timeout=NEVER)
    assert of(following) == [fourth]


async def test_a_chain_of_cursors_meets_each_once(room: Room) -> None:
    """Writers in a thread of their own, and two chains of waits that race with them."""
    count = 150

    def write() -> list[int]:
        return [room.letter("n", listener=f"l{number % 2}") for number in range(count)]

    async def chain(query: str) -> list[int]:
        met: list[int] = []
        after = ids.encode(0)
        while len(met) < count // 2:
            answer = await room.ask("message.wait", query=query, after=after, timeout=LONG)
            assert answer["ok"]
            met += of(answer)
            after = answer["cursor"]
        return met

    written, even, odd = await asyncio.gather(
        asyncio.to_thread(write), chain("listener:l0"), chain("listener:l1")
    )
    assert even == written[::2]
    assert odd == written[1::2]


async def test_what_matched_counts_though_it_is_gone(room: Room) -> None:
    waiting = room.begin("message.wait", query="subject:a", count=2, timeout=LONG)
    await room.waiting()
    first = room.letter("a")
    await room.waiting()
    assert await room.ask("message.delete", ids=[ids.encode(first)]) == {
        "deleted": 1,
        "unindexed": None,
    }
    assert await room.ask("message.count") == {"count": 0}
    second = room.letter("a")
    assert of(await waiting) == [first, second]


async def test_what_has_not_been_looked_at_is_not_to_be_pruned(room: Room) -> None:
    watches = room.archive.watches
    assert watches.seen() == 2**63 - 1
    old = room.letter("a")
    waiting = room.begin("message.wait", query="subject:b", timeout=LONG)
    await room.waiting()
    assert watches.seen() >= old
    with watches.begun(7):
        assert watches.seen() == 7
    room.letter("b")
    assert (await waiting)["ok"]
    assert watches.seen() == 2**63 - 1


async def test_who_gives_up_waits_no_more(room: Room) -> None:
    waiting = room.begin("message.wait", timeout=LONG)
    await room.waiting()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(room.archive.watches) == 0


async def test_none_is_expected(room: Room) -> None:
    room.letter("old")
    assert (await room.ask("message.expect-none", **{"for": 0.05})) == {"ok": True, "messages": []}
    waiting = room.begin("message.expect-none", query="subject:a", **{"for": LONG})
    await room.waiting()
    room.letter("b")
    await room.waiting()
    assert not waiting.done()
    number = room.letter("a")
    answer = await waiting
    assert (answer["ok"], of(answer)) == (False, [number])
    cursor = ids.encode(number - 1)
    again = await room.ask("message.expect-none", query="subject:a", after=cursor, **{"for": NEVER})
    assert not again["ok"]


async def test_what_follows(room: Room) -> None:
    room.letter("old")
    items = await room.ask("message.follow", query="subject:a")
    numbers = [room.letter("a") for _ in range(120)]
    room.letter("b")
    numbers.append(room.letter("a"))
    async with asyncio.timeout(LONG), aclosing(items):
        met = [ids.decode((await anext(items))["id"]) for _ in numbers]
    assert met == numbers


async def test_delete(room: Room) -> None:
    numbers = [room.letter(f"n{number}") for number in range(4)]
    gone = await room.ask("message.delete", ids=[ids.encode(numbers[0]), "latest", ids.encode(1)])
    assert gone == {"deleted": 2, "unindexed": None}
    assert of(await room.ask("message.list")) == [numbers[2], numbers[1]]
    assert await room.ask("message.delete", query="subject:n1") == {"deleted": 1, "unindexed": None}
    assert await room.ask("message.delete", all=True) == {"deleted": 1, "unindexed": None}
    assert await room.ask("message.count") == {"count": 0}
    assert room.letter("next") > numbers[-1]


async def test_a_waiter_meets_what_comes_after_the_newest_was_deleted(room: Room) -> None:
    number = room.letter("a")
    cursor = (await room.ask("message.cursor"))["cursor"]
    list(remove(room.database, [("message", number)]))
    waiting = room.begin("message.wait", after=cursor, timeout=LONG)
    await asyncio.sleep(0)
    new = room.letter("b")
    assert of(await waiting) == [new]
