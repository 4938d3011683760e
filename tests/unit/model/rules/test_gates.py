"""Gates against plain models of them: which hits fire, whatever the times and the order."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

import pytest
from harness.rule_attempts import counted, rule
from hypothesis import given
from hypothesis import strategies as st

from mtad.model.rules.gates import State, weigh
from mtad.model.rules.values import (
    After,
    AnyGate,
    Chance,
    Every,
    First,
    Greylist,
    Nth,
    Quota,
    Rate,
    Rule,
    When,
)

BEGAN = 1_800_000_000.0


class Hit(NamedTuple):
    now: float
    octets: int = 0


def fired(asked: Rule, hits: Sequence[Hit], key: bytes = b"k") -> list[bool]:
    state = State()
    found = []
    for hit in hits:
        fires, draw, state = weigh(asked, state, key, hit.octets, hit.now)
        assert 0 <= draw < 1
        found.append(fires)
    return found


def at(*seconds: float) -> list[Hit]:
    return [Hit(BEGAN + second) for second in seconds]


def fires_at(gate: AnyGate, *seconds: float) -> list[float]:
    """At which of these seconds the gate fires."""
    found = fired(counted(gate), at(*seconds))
    return [second for second, fires in zip(seconds, found, strict=True) if fires]


@pytest.mark.parametrize(
    ("gate", "numbers"),
    [
        (None, [1, 2, 3, 4, 5, 6, 7]),
        (Nth(3), [3]),
        (Every(3), [3, 6]),
        (Every(1), [1, 2, 3, 4, 5, 6, 7]),
        (First(3), [1, 2, 3]),
        (After(3), [4, 5, 6, 7]),
        (Chance(0.0), []),
        (Chance(1.0), [1, 2, 3, 4, 5, 6, 7]),
        (Quota(0), []),
    ],
)
def test_which_of_seven_hits_fire(gate: AnyGate | None, numbers: list[int]) -> None:
    found = fired(counted(gate), at(*range(7)))
    assert [number for number, fires in enumerate(found, 1) if fires] == numbers


# Time: multiples of a quarter of a second, which floats have exactly

steps = st.lists(st.integers(0, 400).map(lambda quarter: quarter / 4), max_size=40)
gates = st.one_of(
    st.builds(Greylist, st.integers(1, 60), st.integers(61, 200), st.integers(0, 300)),
    st.builds(
        Rate, st.integers(0, 8), st.integers(1, 60), st.integers(0, 12), st.sampled_from([1.0, 2.0])
    ),
)


@given(gates, steps, st.data())
def test_a_clock_that_is_set_back_is_one_that_stood_still(
    gate: AnyGate, ahead: list[float], data: st.DataObject
) -> None:
    back = [data.draw(st.sampled_from([0, 0, 0, 0.25, 3, 86_400])) for _ in ahead]
    jumps = [-behind or step for step, behind in zip(ahead, back, strict=True)]
    steady = at(*accumulate(max(jump, 0) for jump in jumps))
    jumping = at(*accumulate(jumps))
    assert fired(counted(gate), jumping) == fired(counted(gate), steady)


def bucket(gate: Rate, times: Sequence[Fraction]) -> list[bool]:
    limit, burst = Fraction(gate.limit), Fraction(gate.burst)
    size = burst or limit
    if limit:
        size = max(size, Fraction(1))
    tokens, last, found = size, None, []
    for time in times:
        if last is not None:
            tokens = min(size, tokens + (time - last) * limit / Fraction(gate.seconds))
        last = time
        found.append(tokens < 1)
        if tokens >= 1:
            tokens -= 1
    return found


rates = st.builds(Rate, st.integers(0, 8), st.integers(1, 60), st.integers(0, 12))


@given(rates, steps)
def test_a_rate_is_a_token_bucket(gate: Rate, ahead: list[float]) -> None:
    times = list(accumulate(ahead))
    assert fired(counted(gate), at(*times)) == bucket(gate, [Fraction(time) for time in times])


@given(rates, steps)
def test_no_more_pass_in_any_time_than_the_bucket_lets_by(gate: Rate, ahead: list[float]) -> None:
    times = list(accumulate(ahead))
    fires = fired(counted(gate), at(*times))
    passed = [time for time, stopped in zip(times, fires, strict=True) if not stopped]
    for number, begin in enumerate(passed):
        for more, end in enumerate(passed[number:], 1):
            fills = (end - begin) * gate.limit / gate.seconds
            assert more <= max(gate.burst or gate.limit, 1) + fills + 1e-6


def test_a_rate_lets_by_its_limit_and_what_time_adds() -> None:
    gate = Rate(3, 60)
    assert fires_at(gate, 0, 0, 0, 0, 19, 20, 20, 41, 200, 200, 200, 200) == [0, 19, 20, 200]
    assert fires_at(Rate(3, 60, burst=1), 0, 0, 20, 39, 40) == [0, 39]
    assert fires_at(Rate(0.5, 60), 0, 60, 119, 120) == [60, 119]
    assert fires_at(Rate(0, 60), 0, 60) == [0, 60]
    assert fires_at(Rate(0, 60, burst=2), 0, 60, 6000) == [6000]


def test_thirds_of_a_token_make_one() -> None:
    assert fires_at(Rate(1, 3), 0, *range(1, 3001)) == [t for t in range(3001) if t % 3]


def warmed(gate: Rate, times: Sequence[float]) -> list[bool]:
    used: dict[int, int] = {}
    found = []
    for time in times:
        period = int((time - times[0]) // gate.seconds)
        passes = used.get(period, 0) + 1 <= gate.limit * gate.growth**period
        used[period] = used.get(period, 0) + passes
        found.append(not passes)
    return found


@given(
    st.builds(Rate, st.integers(0, 4), st.integers(1, 60), growth=st.sampled_from([0.5, 2.0, 3.0])),
    steps,
)
def test_a_growing_rate_has_a_limit_for_each_period(gate: Rate, ahead: list[float]) -> None:
    times = list(accumulate(ahead))
    assert fired(counted(gate), at(*times)) == warmed(gate, times)


def test_a_warm_up_takes_one_then_two_then_four_a_minute() -> None:
    seconds = [minute * 60 + second for minute in range(4) for second in range(10)]
    fires = fires_at(Rate(1, growth=2.0), *seconds)
    passed = [second for second in seconds if second not in fires]
    assert [sum(at // 60 == minute for at in passed) for minute in range(4)] == [1, 2, 4, 8]


def test_a_warm_up_grows_without_end() -> None:
    century = 100 * 365 * 86_400.0
    assert fires_at(Rate(1, growth=2.0), 0, century, century, century) == []


# Greylisting


def greylisted(gate: Greylist, times: Sequence[float]) -> list[bool]:
    """What an implementation answers that knows all attempts."""
    found: list[bool] = []
    first = passed = None
    for time in times:
        if passed is not None and time - passed <= gate.remember:
            passed = time
        elif passed is None and first is not None and time - first <= gate.window:
            passed = time if time - first >= gate.delay else None
        else:
            first, passed = time, None
        found.append(passed is None)
    return found


@given(
    st.builds(Greylist, st.integers(1, 60), st.integers(61, 200), st.integers(0, 300)),
    steps,
)
def test_greylisting_is_that_of_one_who_knows_all(gate: Greylist, ahead: list[float]) -> None:
    times = list(accumulate(ahead))
    assert fired(counted(gate), at(*times)) == greylisted(gate, times)


GREYLIST = Greylist(delay=60, window=600, remember=3600)


@pytest.mark.parametrize(
    ("seconds", "fires"),
    [
        ((0, 59.75, 60), [0, 59.75]),
        ((0, 600, 601), [0]),
        ((0, 600.25, 660, 660.25), [0, 600.25, 660]),
        ((0, 60, 3660, 7260), [0]),
        ((0, 60, 3660.25, 3720, 3720.25), [0, 3660.25, 3720]),
    ],
)
def test_who_is_told_to_come_again(seconds: tuple[float, ...], fires: list[float]) -> None:
    assert fires_at(GREYLIST, *seconds) == fires


def test_greylisting_goes_on_where_a_clock_was_set_back() -> None:
    """A day back: who has waited 50 seconds waits 10 more, and no day."""
    day = 86_400
    assert fires_at(GREYLIST, 0, 50, 50 - day, 59.75 - day, 60 - day) == [
        0,
        50,
        50 - day,
        59.75 - day,
    ]
    assert fires_at(GREYLIST, 0, 60, -day, 3600 - day) == [0]


# Quotas


@given(st.integers(0, 100), st.lists(st.integers(0, 60), max_size=20))
def test_a_quota_refuses_what_makes_it_too_much(most: int, sizes: list[int]) -> None:
    kept = 0
    wanted = []
    for size in sizes:
        wanted.append(kept + size > most)
        kept += 0 if wanted[-1] else size
    hits = [Hit(BEGAN, size) for size in sizes]
    assert fired(counted(Quota(most)), hits) == wanted


def test_what_a_quota_refuses_does_not_fill_it() -> None:
    hits = [Hit(BEGAN, size) for size in (60, 50, 40, 1)]
    assert fired(counted(Quota(100)), hits) == [False, True, False, True]


# What is drawn


def drawn(asked: Rule, key: bytes, number: int) -> tuple[bool, float]:
    """The decision of the ``number``-th hit of a key."""
    fires, draw, _ = weigh(asked, State(number - 1), key, 0, BEGAN)
    return fires, draw


KEYS = [number.to_bytes(16) for number in range(4000)]


@pytest.mark.parametrize("probability", [0.01, 0.3, 0.9])
def test_chance_fires_as_often_as_it_says(probability: float) -> None:
    by_key = [drawn(counted(Chance(probability)), key, 1)[0] for key in KEYS]
    by_hit = [drawn(counted(Chance(probability)), b"", number)[0] for number in range(1, 4001)]
    for found in (by_key, by_hit):
        assert abs(sum(found) / 4000 - probability) < 0.025


def test_what_is_drawn_for_the_action_does_not_depend_on_the_chance() -> None:
    """A chance of a tenth that were used again would draw nothing above a tenth."""
    draws = [draw for fires, draw in (drawn(counted(Chance(0.1)), key, 1) for key in KEYS) if fires]
    assert abs(sum(draws) / len(draws) - 0.5) < 0.05
    assert max(draws) > 0.95


@pytest.mark.parametrize(
    "other",
    [
        (counted(None, seed=8), b"k", 1),
        (counted(None, "other", seed=7), b"k", 1),
        (counted(None, seed=7), b"l", 1),
        (counted(None, seed=7), b"k", 2),
        (counted(None, seed=71), b"k", 1),
        (counted(None, "", seed=7), b"rk", 1),
    ],
)
def test_what_is_drawn_depends_on_seed_name_key_and_number(other: tuple[Rule, bytes, int]) -> None:
    assert drawn(*other)[1] != drawn(counted(None, seed=7), b"k", 1)[1]


def test_what_is_drawn_depends_on_nothing_else() -> None:
    one = rule(when=When(gate=Chance(1.0), seed=7), hits=9)
    found = weigh(one, State(4, 1.0, 2.0, 3.0), b"k", 5, 6.0)[:2]
    assert found == drawn(counted(Chance(0.999999), seed=7, per=("peer",)), b"k", 5)


def test_a_seed_draws_the_same_in_every_release() -> None:
    """These are promised: a seed that was logged repeats its run."""
    found = [drawn(counted(None, "flaky/chaos", seed=42), b"k" * 16, n)[1] for n in (1, 2)]
    assert found == [0.2049722018751441, 0.8826025477193565]
    fires = [drawn(counted(Chance(0.5), seed=42), b"k" * 16, number)[0] for number in range(1, 9)]
    assert fires == [True, True, True, False, True, True, True, True]
