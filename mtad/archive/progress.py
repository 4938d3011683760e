"""How far the index is: it follows what workers commit, and wakes whoever waits for mail.

Workers write to an eventfd(2) how many messages they have committed. One that was killed in
between, or has read what it should write, delays the news until somebody asks, or for a second.

Where nobody waits for mail, a burst of it passes first: what is indexed at once costs less, and
the processors are the workers' meanwhile. A question has to wait for what is behind then, so there
is a limit to that: two seconds of work.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from mtad.control.refusal import refusal
from mtad.errors import StoreError

# A burst has passed when nothing has come for so long; in seconds.
_QUIET = 0.2
# It is indexed before when it takes longer, or this many messages are behind.
_LONGEST = 2.0
_MOST = 16_000
_POLL = 1.0

Newest = Callable[[], Awaitable[int]]
"""Returns the newest id that is committed. Raises StoreError."""


class Advancing(Protocol):
    """What is brought forward: everything up to the id ``indexed`` is in it."""

    indexed: int

    def advance(self) -> tuple[int, bool]:
        """Index a batch of what was committed; return ``indexed``, and whether there is more.

        Blocks, in a thread that has nothing else to do. Raises StoreError.
        """


class Progress:
    """Has ``index`` advance. ``troubled`` is told what is in the way of that; "": nothing.

    ``heard`` is called when a worker has told of what it has committed.
    """

    def __init__(
        self,
        index: Advancing,
        newest: Newest,
        news: int,
        troubled: Callable[[str], None],
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        self._index = index
        self._newest = newest
        self._news = news
        self._troubled = troubled
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "index")
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._served: list[tuple[asyncio.Future[None], int]] = []  # by what is done now
        self._wake = asyncio.Event()  # there is something new, or somebody wants to know
        self._wake.set()
        self._wanted = asyncio.Event()  # somebody waits, or enough is behind
        self._behind = 0  # messages, as far as workers have told
        self._loop.add_reader(news, self._on_news)

    async def current(self) -> None:
        """Return once everything is in the index that was committed before the call.

        Raises:
            StoreError: it cannot be indexed.
        """
        await self._reach(await self._newest())

    async def past(self, cursor: int) -> int:
        """Return ``indexed`` of the index once it is greater than ``cursor``, whatever it takes."""
        while self._index.indexed <= cursor:
            with suppress(StoreError):
                await self._reach(cursor + 1)
        return self._index.indexed

    async def follow(self) -> None:
        """Have the index advance, for ever."""
        while True:
            await _within(_POLL, self._wake)
            if not self._waiting:
                await self._let_pass()
            self._wake.clear()
            self._behind = 0
            try:
                await self._catch_up()
            except StoreError as error:
                await self._fail(error)
            except Exception as error:
                await self._fail(StoreError(refusal(error).message))
            else:
                self._troubled("")

    async def _let_pass(self) -> None:
        """Return when no more comes for a moment, somebody waits, or it has been enough."""
        self._wanted.clear()
        end, known = self._loop.time() + _LONGEST, -1
        while known < self._behind < _MOST and self._loop.time() < end:
            known = self._behind
            if await _within(_QUIET, self._wanted):
                return

    async def _catch_up(self) -> None:
        more = True
        while more:
            self._served = list(self._waiting.items())  # who comes later wants to know of later
            indexed, more = await self._loop.run_in_executor(self._thread, self._index.advance)
            for reached, target in self._served:
                if indexed >= target and not reached.done():
                    reached.set_result(None)

    async def _fail(self, error: StoreError) -> None:
        self._troubled(str(error))
        for reached, _ in self._served:
            if not reached.done():
                reached.set_exception(error)
        await asyncio.sleep(_POLL)

    async def _reach(self, target: int) -> None:
        """Return once the index has advanced, to ``target`` at least.

        Raises:
            StoreError: it could not.
        """
        reached = self._loop.create_future()
        self._waiting[reached] = target
        self._wake.set()
        self._wanted.set()
        try:
            await reached
        finally:
            del self._waiting[reached]

    def _on_news(self) -> None:
        with suppress(BlockingIOError):
            self._behind += os.eventfd_read(self._news)
        self._wake.set()
        self._heard()
        if self._behind >= _MOST:
            self._wanted.set()


async def _within(seconds: float, happens: asyncio.Event) -> bool:
    """Return when ``happens`` is set, or the time is over: whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await happens.wait()
    return happens.is_set()
