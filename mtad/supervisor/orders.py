"""What the workers are told to do, and who has said that it is done."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

_ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """An order that was given to ``workers``."""

    ticket: int
    workers: frozenset[int]


class Orders:
    """The orders there were. ``broadcast`` sends to all that serve, and returns their ids.

    A worker does what it is told in the order in which it is told: of each, one number is enough.
    """

    def __init__(self, broadcast: Callable[[msgspec.Struct], set[int]]) -> None:
        self._broadcast = broadcast
        self._serial = itertools.count(1)
        self._done: dict[int, int] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    def give(self, message: Callable[[int], msgspec.Struct]) -> Order:
        """Send every serving worker the message that is made of a new ticket."""
        ticket = next(self._serial)
        workers = self._broadcast(message(ticket))
        for worker in workers:
            self._done.setdefault(worker, 0)
        return Order(ticket, frozenset(workers))

    def done(self, worker: int, ticket: int) -> None:
        """Note that a worker has done so: one that was taken over can say so for itself alone."""
        if worker in self._done:
            self._done[worker] = max(self._done[worker], ticket)
            self._tell()

    def forget(self, worker: int) -> None:
        """Wait no more for a worker: it is gone."""
        self._done.pop(worker, None)
        self._tell()

    async def late(self, *orders: Order) -> Sequence[int]:
        """Return who has not carried out all of ``orders``, once everybody has or 2 s are over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                while self._late(orders):
                    heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting.add(heard)
                    await heard
        return self._late(orders)

    def _late(self, orders: Sequence[Order]) -> Sequence[int]:
        return sorted(
            {
                worker
                for order in orders
                for worker in order.workers
                if self._done.get(worker, order.ticket) < order.ticket
            }
        )

    def _tell(self) -> None:
        while self._waiting:
            waiting = self._waiting.pop()
            if not waiting.done():
                waiting.set_result(None)
