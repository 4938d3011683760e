"""How far the index is: whoever waits is told in time, and nobody is told too early."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator

import pytest

from mtad.archive.progress import Progress
from mtad.errors import StoreError


class Numbers:
    """Stands for mail.db, ``committed``, and an index of it, of which one is indexed at a time."""

    def __init__(self) -> None:
        self.committed = self.indexed = 0
        self.advances = 0
        self.fault: Exception | None = None
        self.troubles: list[str] = []
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()
        self.news = os.eventfd(0, os.EFD_NONBLOCK)

    async def newest(self) -> int:
        return self.committed

    def advance(self) -> tuple[int, bool]:
        committed = self.committed
        self.advances += 1
        self.begun.set()
        assert self.may_go_on.wait(5)
        if self.fault:
            raise self.fault
        self.indexed = min(self.indexed + 1, committed)
        return self.indexed, self.indexed < committed

    def commit(self, count: int = 1) -> None:
        self.committed += count
        os.eventfd_write(self.news, count)


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
async def progress(numbers: Numbers) -> AsyncIterator[Progress]:
    progress = Progress(numbers, numbers.newest, numbers.news, numbers.troubles.append)
    following = asyncio.create_task(progress.follow())
    yield progress
    following.cancel()
    os.close(numbers.news)


async def test_current_is_all_of_it(numbers: Numbers, progress: Progress) -> None:
    numbers.commit(20)
    await progress.current()
    assert numbers.indexed == 20


async def test_current_looks_again_even_where_nothing_is_new(
    numbers: Numbers, progress: Progress
) -> None:
    """The file may be another one than was indexed."""
    await progress.current()
    before = numbers.advances
    await progress.current()
    assert numbers.advances > before


async def test_current_ends_while_more_and_more_comes(numbers: Numbers, progress: Progress) -> None:
    """It waits for what was there when it was asked for, not for a moment without news."""
    numbers.committed = 3
    begun = asyncio.ensure_future(progress.current())
    await asyncio.sleep(0)
    numbers.committed = 10**9
    async with asyncio.timeout(5):
        await begun


async def test_who_waits_is_told_of_news(
    numbers: Numbers, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtad.archive.progress._POLL", 60.0)
    waiting = asyncio.ensure_future(progress.past(0))
    await progress.current()
    assert not waiting.done()
    numbers.commit()
    async with asyncio.timeout(10):
        assert await waiting == 1
    assert await progress.past(0) == 1


async def test_news_that_nobody_told_of(numbers: Numbers, progress: Progress) -> None:
    """Its worker was killed between the commit and the word of it."""
    waiting = asyncio.ensure_future(progress.past(0))
    await progress.current()
    numbers.committed = 1
    async with asyncio.timeout(5):
        assert await waiting == 1


async def test_what_comes_during_an_advance_is_not_missed(
    numbers: Numbers, progress: Progress
) -> None:
    numbers.may_go_on.clear()
    first = asyncio.ensure_future(progress.current())
    assert await asyncio.to_thread(numbers.begun.wait, 5)
    numbers.committed = 1  # the advance under way has not seen it
    second = asyncio.ensure_future(progress.current())
    await asyncio.sleep(0)
    numbers.may_go_on.set()
    await first
    await second
    assert numbers.indexed == 1


@pytest.mark.parametrize(
    ("fault", "told"),
    [(StoreError("the disk is full"), "the disk is full"), (ZeroDivisionError(), "internal error")],
)
async def test_a_fault_is_told_and_passes(
    numbers: Numbers, progress: Progress, fault: Exception, told: str
) -> None:
    waiting = asyncio.ensure_future(progress.past(0))
    numbers.fault = fault
    with pytest.raises(StoreError, match=told):
        await progress.current()
    assert told in numbers.troubles[-1]
    assert not waiting.done()
    numbers.fault = None
    numbers.commit()
    async with asyncio.timeout(5):
        assert await waiting == 1
    await progress.current()
    assert numbers.troubles[-1] == ""


async def test_who_does_not_wait_any_more(numbers: Numbers, progress: Progress) -> None:
    waiting = asyncio.ensure_future(progress.past(0))
    await progress.current()
    waiting.cancel()
    numbers.commit()
    await progress.current()
    assert waiting.cancelled()


async def begins(numbers: Numbers, seconds: float) -> bool:
    """Whether the index advances, once more, within so many seconds."""
    numbers.begun.clear()
    return await asyncio.to_thread(numbers.begun.wait, seconds)


async def test_a_burst_passes_first_where_nobody_waits(
    numbers: Numbers, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    await progress.current()
    monkeypatch.setattr("mtad.archive.progress._QUIET", 60.0)
    numbers.commit()
    assert not await begins(numbers, 0.4)
    await progress.current()
    assert numbers.indexed == 1


async def test_what_is_behind_has_a_limit(
    numbers: Numbers, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    await progress.current()
    monkeypatch.setattr("mtad.archive.progress._QUIET", 60.0)
    numbers.commit()
    assert not await begins(numbers, 0.1)
    numbers.commit(16_000)
    assert await begins(numbers, 5)


async def test_a_burst_without_end_is_indexed(
    numbers: Numbers, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    await progress.current()
    monkeypatch.setattr("mtad.archive.progress._LONGEST", 0.5)
    begun = asyncio.ensure_future(begins(numbers, 5))
    while not begun.done():
        numbers.commit()
        await asyncio.sleep(0.01)
    assert begun.result()
