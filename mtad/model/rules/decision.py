"""What the supervisor remembers of the rules, and what it decides with that."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from mtad.model.rules.gates import State, weigh
from mtad.model.rules.values import Choice, Do, Rule, Source

KEYS = 100_000
"""Keys that are remembered of a rule; who has not come for longest is forgotten first."""

KEYS_OF_ALL = 1_000_000
"""Keys that are remembered of all rules, at 230 octets each; beyond, a new key of a rule takes the
place of another of the same rule."""


class Hit(Protocol):
    """A rule of which all is the case, but for what only the ledger knows."""

    @property
    def rule(self) -> str:
        """Its name."""

    @property
    def key(self) -> bytes:
        """What has a count of its own."""

    @property
    def octets(self) -> int:
        """The size of the message; 0 where there is none."""


class Counts(NamedTuple):
    """How often a rule was asked since it was made or reset, how often it fired, and its keys."""

    seen: int = 0
    fired: int = 0
    keys: int = 0


@dataclass(slots=True)
class _Tally:
    rule: Rule
    seen: int = 0
    fired: int = 0
    states: OrderedDict[bytes, State] = field(default_factory=OrderedDict)

    @property
    def is_spent(self) -> bool:
        return 0 < self.rule.hits <= self.fired


_NEW = State()


class Ledger:
    """The counts and states of all rules."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._keys = 0
        self.replace(rules)

    def replace(self, rules: Sequence[Rule]) -> None:
        """Have these rules from now on; those that say what they said keep their counts.

        Neither ``enabled`` nor ``source`` is part of what a rule says.
        """
        old, self._tallies = self._tallies, {}
        for rule in rules:
            known = old.get(rule.name)
            if known is None or not _says_the_same(known.rule, rule):
                known = _Tally(rule)
            known.rule = rule
            self._tallies[rule.name] = known
        self._keys = sum(len(tally.states) for tally in self._tallies.values())

    def decide(self, hits: Iterable[Hit], now: float) -> tuple[str, float]:
        """Ask rules in turn until one fires: return its name ("": none) and a number in [0, 1).

        Each that is asked counts a hit, whether it fires or not. Rules that are unknown, disabled
        or spent are not asked. ``now`` is any clock's seconds.
        """
        for hit in hits:
            tally = self._tallies.get(hit.rule)
            if tally is None or not tally.rule.enabled or tally.is_spent:
                continue
            known = tally.states.get(hit.key)
            fires, draw, state = weigh(tally.rule, known or _NEW, hit.key, hit.octets, now)
            tally.states[hit.key] = state
            if known is None:
                self._bound(tally)
            else:
                tally.states.move_to_end(hit.key)
            tally.seen += 1
            if fires:
                tally.fired += 1
                return hit.rule, draw
        return "", 0.0

    def _bound(self, tally: _Tally) -> None:
        """Forget a key of a rule that has got a new one, where there is no room for both."""
        self._keys += 1
        keys = len(tally.states)
        if keys > KEYS or (self._keys > KEYS_OF_ALL and keys > 1):
            tally.states.popitem(last=False)
            self._keys -= 1

    def fired(self, name: str, number: int) -> None:
        """Count what a rule has done without a question; of an unknown one, nothing."""
        if (tally := self._tallies.get(name)) is not None:
            tally.seen += number
            tally.fired += number

    def counts(self, name: str) -> Counts:
        """Return what was counted of a rule; of an unknown one, nothing was."""
        if (tally := self._tallies.get(name)) is None:
            return Counts()
        return Counts(tally.seen, tally.fired, len(tally.states))

    def is_spent(self, name: str) -> bool:
        """Whether a rule has fired as often as it may."""
        return name in self._tallies and self._tallies[name].is_spent

    def state(self, name: str, key: bytes) -> State:
        """Return what is remembered of a rule's key; nothing is changed by looking."""
        tally = self._tallies.get(name)
        return _NEW if tally is None else tally.states.get(key, _NEW)

    def reset(self, name: str | None = None) -> None:
        """Forget what was counted of a rule, or of all, as if none had been hit yet."""
        for known in self._tallies if name is None else {name} & self._tallies.keys():
            tally = self._tallies[known]
            self._keys -= len(tally.states)
            self._tallies[known] = _Tally(tally.rule)


def _says_the_same(one: Rule, other: Rule) -> bool:
    return one is other or _content(one) == _content(other)


def _content(rule: Rule) -> Rule:
    return replace(rule, enabled=True, source=Source.FILE)


def choose(do: Do, draw: float) -> Do:
    """Return what is done where ``draw``, in [0, 1), was drawn: without ``one_of`` and ``jitter``.

    What the draw has not been used for, it is used for within what was chosen.
    """
    while do.one_of:
        do, draw = _chosen(do.one_of, draw)
    if do.jitter:
        return replace(do, delay=do.delay + do.jitter * draw, jitter=0.0)
    return do


def _chosen(choices: tuple[Choice, ...], draw: float) -> tuple[Do, float]:
    """Return one of the choices, and what it leaves of the draw, as a number in [0, 1)."""
    point = draw * sum(choice.weight for choice in choices)
    chosen = choices[-1]
    for chosen in choices:
        if point < chosen.weight:
            break
        point -= chosen.weight
    rest = point / chosen.weight if chosen.weight else 0.0
    return chosen.do, min(max(rest, 0.0), math.nextafter(1.0, 0.0))
