"""Orders to the workers: who has yet to say that one is carried out, and how long that counts."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec
import pytest

from mtad.ipc.messages import Retire
from mtad.supervisor import orders as module
from mtad.supervisor.orders import Order, Orders


class Given(Orders):
    """Orders to ``workers``, and what was sent."""

    def __init__(self) -> None:
        self.workers = {1, 2}
        self.sent: list[msgspec.Struct] = []
        super().__init__(self._send)

    def _send(self, message: msgspec.Struct) -> set[int]:
        self.sent.append(message)
        return set(self.workers)

    def order(self) -> Order:
        return self.give(partial(Retire, openings=(7,)))


async def is_waited_for(given: Given, *orders: Order) -> bool:
    """Whether somebody has not said yet, whom it is worth waiting for."""
    late = asyncio.ensure_future(given.late(*orders))
    await asyncio.sleep(0.01)
    if late.done():
        assert late.result() == []
        return False
    late.cancel()
    return True


async def test_each_worker_says_so_for_itself() -> None:
    given = Given()
    order = given.order()
    assert given.sent == [Retire(order.ticket, (7,))]
    given.done(1, order.ticket)
    given.done(3, order.ticket)  # one that nobody has told anything
    assert await is_waited_for(given, order)
    given.done(2, order.ticket - 1)
    assert await is_waited_for(given, order)
    given.done(2, order.ticket)
    assert not await is_waited_for(given, order)


async def test_whoever_waits_hears_of_the_last() -> None:
    given = Given()
    first, second = given.order(), given.order()
    waiting = asyncio.ensure_future(given.late(first, second))
    for worker, ticket in ((1, second.ticket), (2, first.ticket), (2, second.ticket)):
        await asyncio.sleep(0)
        assert not waiting.done()
        given.done(worker, ticket)
    async with asyncio.timeout(5):
        assert await waiting == []


async def test_of_later_orders_earlier_ones_are_done() -> None:
    given = Given()
    first, second = given.order(), given.order()
    for worker in (1, 2):
        given.done(worker, second.ticket)
        given.done(worker, 0)
    assert not await is_waited_for(given, first, second)


async def test_a_worker_that_is_gone_or_that_came_later_is_not_waited_for() -> None:
    given = Given()
    order = given.order()
    given.done(1, order.ticket)
    given.workers = {1, 3}
    given.order()
    assert await is_waited_for(given, order)
    given.forget(2)
    assert not await is_waited_for(given, order)


async def test_without_workers_there_is_nobody_to_wait_for() -> None:
    given = Given()
    given.workers = set()
    assert not await is_waited_for(given, given.order())
    assert await given.late() == []


async def test_whoever_says_nothing_is_named_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.05)
    given = Given()
    first, second = given.order(), given.order()
    given.done(1, first.ticket)
    assert await given.late(first, second) == [1, 2]
    given.done(2, second.ticket)
    assert await given.late(first, second) == [1]
