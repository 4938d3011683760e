"""What is drawn is drawn again, whichever worker is asked, and in whatever order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest
from harness.crowd import crowd
from harness.daemon import Daemon

pytestmark = [pytest.mark.integration, pytest.mark.root]

Start = Callable[..., Daemon]

CHAOS = """
rules:
  beginning:
    at: [connect, banner]
    when: {chance: 0.05, seed: 5}
    do: {one_of: [{close: fin}, {close: rst}, {delay: 0.005, jitter: 0.01}]}
  chaos:
    at: [command, message, kept]
    when: {chance: 0.1, seed: 5}
    do:
      one_of:
        - {weight: 4, reply: 451 4.3.0 Try again}
        - {weight: 2, delay: 0.005, jitter: 0.01}
        - {close: fin}
        - {close: rst}
"""
AT_ONCE = 100
WELL = ("220", "250", "250", "250", "354", "250", "221")
"""The answers where no rule fires."""


@pytest.mark.parametrize(
    "sessions",
    [500, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_chaos_repeats_itself(started: Start, sessions: int) -> None:
    """Twice as many sessions over two workers, in another order: each meets what it met."""
    daemon = started(workers=2, extra=CHAOS)
    numbers = list(range(sessions))
    first = meet(daemon, numbers)
    assert {answers[-1] for answers in first.values()} == {"221", "451", "fin", "rst"}
    assert sessions // 4 < list(first.values()).count(WELL) < 3 * sessions // 4

    few = numbers[:200]
    assert meet(daemon, few) != {number: first[number] for number in few}, "second attempts"

    daemon.call("rule.reset", all=True)
    random.Random(1).shuffle(numbers)
    assert meet(daemon, numbers) == first
    assert {envelope["worker"] for envelope in daemon.envelopes()} == {1, 2}


def meet(daemon: Daemon, numbers: Sequence[int]) -> dict[int, tuple[str, ...]]:
    return asyncio.run(crowd(daemon.port(), numbers, AT_ONCE))
