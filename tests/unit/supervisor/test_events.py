"""Events: to every follower, in order, bounded, and to nobody who has gone."""

from __future__ import annotations

import asyncio
import gc
import itertools
from contextlib import aclosing

from mtad.supervisor.events import Events


async def test_every_follower_hears_what_happens_from_now_on() -> None:
    events = Events()
    events.publish("too.early")
    async with aclosing(events.follow()) as one, aclosing(events.follow()) as two:
        events.publish("listener.running", listener="mx")
        events.publish("listener.stopped", listener="mx")
        for follower in (one, two):
            heard = [await anext(follower), await anext(follower)]
            assert [item["event"] for item in heard] == ["listener.running", "listener.stopped"]
            assert heard[0]["listener"] == "mx"
            assert heard[0]["ts"] <= heard[1]["ts"]


async def test_a_follower_waits_for_the_next_event() -> None:
    events = Events()
    async with aclosing(events.follow()) as follower:
        waiting = asyncio.ensure_future(anext(follower))
        await asyncio.sleep(0)
        assert not waiting.done()
        events.publish("now")
        assert (await waiting)["event"] == "now"


async def test_one_that_does_not_read_loses_events_and_is_told_how_many() -> None:
    events = Events()
    async with aclosing(events.follow()) as follower:
        for number in range(1_500):
            events.publish("flood", number=number)
        first = await anext(follower)
        lost = await anext(follower)
        assert (first["number"], lost["event"], lost["count"]) == (0, "events.lost", 500)
        rest = [(await anext(follower))["number"] for _ in range(999)]
        assert rest == list(range(1, 1_000))
        events.publish("flood", number=1_500)
        assert (await anext(follower))["number"] == 1_500


async def test_who_has_gone_costs_nothing() -> None:
    """Closed, dropped, or never begun: no queue is kept for it."""
    events = Events()
    begun = events.follow()
    events.publish("a")
    await anext(begun)
    await begun.aclose()
    dropped = [events.follow() for _ in range(3)]
    dropped.clear()
    del begun
    gc.collect()
    for number in itertools.islice(itertools.count(), 10):
        events.publish("flood", number=number)
    assert len(events._followers) == 0
