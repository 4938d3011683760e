"""Which of the hits of a key fire: the state of the key in, the decision and the new state out.

What is drawn is no chance: it is a hash of the rule's seed and name, the key, and the number of
the hit, so the same attempt is decided alike, whatever comes before it or in between.
"""

from __future__ import annotations

import math
from hashlib import blake2b

import msgspec

from mtad.model.rules.values import (
    After,
    Chance,
    Every,
    First,
    Greylist,
    Nth,
    Quota,
    Rate,
    Rule,
)

_NEARLY = 1e-9  # what sums of fractions may lack of a token


class State(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a key: how many ``hits`` it had, and when, in the seconds of ``now``.

    ``since`` is what a gate counts time from, ``last`` the last hit. ``amount`` is what is left in
    the bucket of a Rate, or was used of a period that grows; of a Quota, the octets that it has
    taken; of a Greylist, 1 where the key has passed.
    """

    hits: int = 0
    since: float = 0.0
    last: float = 0.0
    amount: float = 0.0


def weigh(
    rule: Rule, state: State, key: bytes, octets: int, now: float
) -> tuple[bool, float, State]:
    """Count a hit: return whether the rule fires, a number in [0, 1), and the new state.

    ``octets`` is the size of the message, ``now`` any clock's seconds. A clock that is set back
    costs no time: what has passed before stays passed.
    """
    number = state.hits + 1
    if not state.hits:
        state = State(0, now, now)
    elif state.last > now:
        state = State(state.hits, state.since - (state.last - now), now, state.amount)
    since, amount = state.since, state.amount
    match rule.when.gate:
        case Greylist() as gate:
            fires, since, amount = _greylist(gate, state, now)
        case Rate() as gate:
            fires, amount = (_bucket if gate.growth == 1 else _warm_up)(gate, state, now)
        case Quota(octets=most):
            fires = amount + octets > most
            amount += 0 if fires else octets
        case gate:
            fires = _by_number(gate, rule, key, number)
    draw = _drawn(b"do", rule, key, number) if fires else 0.0
    return fires, draw, State(number, since, now, amount)


def _by_number(
    gate: Nth | Every | First | After | Chance | None, rule: Rule, key: bytes, number: int
) -> bool:
    match gate:
        case None:
            return True
        case Nth(number=wanted):
            return number == wanted
        case Every(number=wanted):
            return number % wanted == 0
        case First(number=wanted):
            return number <= wanted
        case After(number=wanted):
            return number > wanted
        case Chance(probability=probability):
            return _drawn(b"chance", rule, key, number) < probability


def _drawn(what: bytes, rule: Rule, key: bytes, number: int) -> float:
    """Return a number in [0, 1): the same for the same hit, another for another or for else."""
    text = f"{rule.when.seed} {number} {rule.name}\0".encode() + key
    return (int.from_bytes(blake2b(text, digest_size=8, person=what).digest()) >> 11) * 2.0**-53


def _greylist(gate: Greylist, state: State, now: float) -> tuple[bool, float, float]:
    """Return whether the key has to come again, since when it is known, and whether it passed."""
    passed, waited = state.amount, now - state.since
    forgotten = now - state.last > gate.remember if passed else waited > gate.window
    if forgotten:
        return True, now, 0.0
    fires = not passed and waited < gate.delay
    return fires, state.since, 0.0 if fires else 1.0


def _bucket(gate: Rate, state: State, now: float) -> tuple[bool, float]:
    """Take a token, if there is one, of what was left and has come since: return what is left.

    A bucket holds at least one, so that a limit below 1 lets one by in a longer time.
    """
    holds = max(gate.burst or gate.limit, 1.0) if gate.limit > 0 else gate.burst
    come = (now - state.last) * gate.limit / gate.seconds
    left = min(state.amount + come, holds) if state.hits else holds
    if left < 1 - _NEARLY:
        return True, left
    return False, max(left - 1, 0.0)


def _warm_up(gate: Rate, state: State, now: float) -> tuple[bool, float]:
    """Return whether the limit of this period is used up, and how much of it is used now."""
    period = (now - state.since) // gate.seconds
    used = state.amount if period == (state.last - state.since) // gate.seconds else 0.0
    try:
        limit = gate.limit * gate.growth**period
    except OverflowError:
        limit = math.inf
    if used + 1 > limit + _NEARLY:
        return True, used
    return False, used + 1
