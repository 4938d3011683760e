"""What a rule asks of a session, one thing at a time: pure predicates, compiled once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from mtad.model.rules.facts import Facts
from mtad.model.rules.patterns import UNIX, Matches, address, compile_pattern, network
from mtad.model.rules.values import Between, Cycle, Patterns, When, Where, Window

Holds = Callable[[Facts], bool]

TEXTS = ("helo", "user", "sender")
"""The facts that are one text, or unknown."""

_DAY = 86_400


class Condition(NamedTuple):
    """``fact`` is the word for what is looked at; what is not known yet, no condition holds of."""

    fact: str
    holds: Holds


def conditions(where: Where) -> list[Condition]:
    """Return what has to hold of a session, what is quickly told first, but for the listener."""
    found = []
    if where.tls is not None:
        found.append(Condition("tls", _tls(where.tls)))
    if where.run:
        found.append(Condition("run", _run(where.run)))
    if where.size is not None:
        found.append(Condition("size", _size(where.size)))
    found += [
        Condition(fact, _text(attrgetter(fact), any_of(patterns)))
        for fact in TEXTS
        if (patterns := getattr(where, fact))
    ]
    if where.recipient:
        found.append(Condition("recipient", _recipient(any_of(where.recipient))))
    if where.peer:
        found.append(Condition("peer", _peer(where.peer)))
    if where.header:
        found.append(Condition("header", _header(where.header)))
    return found


@lru_cache(maxsize=1024)  # a thousand listeners ask for those of each rule
def any_of(patterns: Patterns) -> Matches:
    """Return what tells whether one of these matches a text."""
    matches = [compile_pattern(pattern) for pattern in patterns]
    if len(matches) == 1:
        return matches[0]
    return lambda text: any(match(text) for match in matches)


def _tls(wanted: bool) -> Holds:
    return lambda facts: facts.tls is wanted


def _run(wanted: str) -> Holds:
    return lambda facts: wanted in facts.runs


def _size(size: Between) -> Holds:
    least, most = size.least, size.most

    def holds(facts: Facts) -> bool:
        return (
            facts.size is not None and least <= facts.size and (most is None or facts.size <= most)
        )

    return holds


def _text(get: Callable[[Facts], str | None], match: Matches) -> Holds:
    def holds(facts: Facts) -> bool:
        text = get(facts)
        return text is not None and match(text)

    return holds


def _recipient(match: Matches) -> Holds:
    return lambda facts: any(map(match, facts.recipients))


def _peer(wanted: Sequence[str]) -> Holds:
    unix = UNIX in wanted
    networks = [network(text) for text in wanted if text != UNIX]

    def holds(facts: Facts) -> bool:
        version, number, text = address(facts.peer)
        if not version:
            return unix and text == UNIX
        return any(of == version and number >> rest == prefix for of, rest, prefix in networks)

    return holds


def _header(wanted: Mapping[str, Patterns]) -> Holds:
    fields = [(name.lower(), any_of(patterns)) for name, patterns in wanted.items()]

    def holds(facts: Facts) -> bool:
        header = facts.header
        return all(any(map(match, header.get(name, ()))) for name, match in fields)

    return holds


def is_time(when: When, now: float) -> bool:
    """Whether the clock lets a rule act; ``now`` is in seconds since the epoch (UTC).

    The first of all cycles began at the epoch, with its ``on`` part.
    """
    return _in_day(when.daily, now) and _in_cycle(when.cycle, now)


def _in_day(daily: Sequence[Window], now: float) -> bool:
    second = now % _DAY
    return not daily or any(
        window.begin <= second < window.end
        if window.begin <= window.end
        else not window.end <= second < window.begin
        for window in daily
    )


def _in_cycle(cycle: Cycle | None, now: float) -> bool:
    return cycle is None or now % (cycle.on + cycle.off) < cycle.on
