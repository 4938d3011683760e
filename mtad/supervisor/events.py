"""What happens in the daemon, said once: to the log, and to whoever follows `mtactl events`."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from mtad.log import event

_log = logging.getLogger("mtad.supervisor")

_QUEUE = 1_000
"""How many events wait for a follower that does not read; more are counted as lost."""


class Events:
    """Publishes events to the log and to any number of followers."""

    def __init__(self) -> None:
        # A follower is held by its generator alone, and gone with it, begun or not.
        self._followers: weakref.WeakSet[_Follower] = weakref.WeakSet()

    def publish(self, name: str, level: int = logging.INFO, **fields: Any) -> None:
        """Tell of ``name`` (``listener.running``) with ``fields`` that JSON can hold."""
        event(_log, level, name, **fields)
        if self._followers:
            told = {"ts": time.time(), "event": name, **fields}
            for follower in self._followers:
                follower.put(told)

    def follow(self) -> AsyncGenerator[dict[str, Any], None]:
        """Return what happens from now on, until the caller closes it."""
        follower = _Follower()
        self._followers.add(follower)
        return self._told(follower)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once ``condition`` holds; whatever can make it so is an event."""
        async with aclosing(self.follow()) as events:
            while not condition():
                await anext(events)

    async def _told(self, follower: _Follower) -> AsyncGenerator[dict[str, Any], None]:
        while True:
            yield await follower.queue.get()
            if follower.lost:
                yield {"ts": time.time(), "event": "events.lost", "count": follower.lost}
                follower.lost = 0


class _Follower:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_QUEUE)
        self.lost = 0

    def put(self, told: dict[str, Any]) -> None:
        try:
            self.queue.put_nowait(told)
        except asyncio.QueueFull:
            self.lost += 1
