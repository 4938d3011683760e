"""Where a thousand rules do not match, that is known after a few lookups.

A rule cannot hold of a session unless each of its conditions does. Of each rule, one condition is
looked up: what a fact is, or begins or ends with, in a dictionary that leads to the rules that ask
for it. What is found is then asked for all of its conditions. Rules without a condition of that
kind (regular expressions, sizes, ``*word*``) are asked each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from mtad.model.rules.conditions import TEXTS, Holds, conditions, is_time
from mtad.model.rules.facts import Facts
from mtad.model.rules.patterns import UNIX, address, is_literal, literal_ends, network
from mtad.model.rules.values import Patterns, Rule, Where


class Compiled:
    """A rule, its place among all, and its conditions, which are compiled when they are needed."""

    __slots__ = ("_tests", "_timed", "is_counted", "number", "rule")

    _tests: tuple[Holds, ...] | None

    def __init__(self, number: int, rule: Rule) -> None:
        self.number = number
        self.rule = rule
        self.is_counted = rule.is_counted
        self._tests = None
        self._timed = bool(rule.when.daily or rule.when.cycle)

    def holds(self, facts: Facts, now: float) -> bool:
        """Whether all that the rule asks for is the case, but for what is counted."""
        tests = self._tests
        if tests is None:
            tests = self._tests = tuple(one.holds for one in conditions(self.rule.where))
        for test in tests:  # all() takes twice as long
            if not test(facts):
                return False
        return not self._timed or is_time(self.rule.when, now)


class Anchor(NamedTuple):
    """What a fact is, once it has been ``cut``, where a condition holds of it.

    Of a text, a positive cut leaves so many characters of its beginning, a negative one of its
    end, 0 all of it. Of an address of an IP ``version``, a cut takes so many bits off its end.
    """

    fact: str
    version: int
    cut: int
    value: str | int


Table = dict[str | int, list[Compiled]]
Probe = Callable[[Facts, list[Compiled]], None]


class Index:
    """The rules of one moment."""

    def __init__(self, rules: Sequence[Compiled]) -> None:
        options = [(one, _options(one.rule.where)) for one in rules]
        common = Counter(chain.from_iterable(chain.from_iterable(sets) for _, sets in options))
        tables: dict[tuple[str, int, int], Table] = {}
        self._rest: list[Compiled] = []
        for one, sets in options:
            if not sets:
                self._rest.append(one)
                continue
            rarest = min(sets, key=lambda anchors: max(common[anchor] for anchor in anchors))
            for fact, version, cut, value in rarest:
                tables.setdefault((fact, version, cut), {}).setdefault(value, []).append(one)
        self._probes = _probes(tables)

    def find(self, facts: Facts) -> Sequence[Compiled]:
        """Return all rules that hold, in their order, and few that do not."""
        found: list[Compiled] = []
        for probe in self._probes:
            probe(facts, found)
        if not found:
            return self._rest
        return sorted({*self._rest, *found}, key=_number)


_number = attrgetter("number")


def _options(where: Where) -> list[set[Anchor]]:
    """Return the conditions that can be looked up: of each, the anchors, one of which is true."""
    options = []
    if where.run:
        options.append({Anchor("run", 0, 0, where.run)})
    if where.peer:
        options.append({_of_peer(text) for text in where.peer})
    for fact in (*TEXTS, "recipient"):
        if patterns := getattr(where, fact):
            options += _of_patterns(fact, patterns)
    return options


def _of_patterns(fact: str, patterns: Patterns) -> list[set[Anchor]]:
    """Return what a text that matches can be; or what it can begin, and what it can end with."""
    if all(map(is_literal, patterns)):
        return [{Anchor(fact, 0, 0, pattern.lower()) for pattern in patterns}]
    found = []
    for end, sign in enumerate((1, -1)):
        texts = [literal_ends(pattern)[end] for pattern in patterns]
        if all(texts):
            found.append({Anchor(fact, 0, sign * len(text), text) for text in texts})
    return found


def _of_peer(text: str) -> Anchor:
    return Anchor("peer", 0, 0, text) if text == UNIX else Anchor("peer", *network(text))


def _probes(tables: dict[tuple[str, int, int], Table]) -> list[Probe]:
    """Return what looks into the tables, a fact at a time."""
    by_fact: dict[str, list[tuple[int, int, Table]]] = {}
    for (fact, version, cut), table in tables.items():
        by_fact.setdefault(fact, []).append((version, cut, table))
    return [_PROBES[fact](found) for fact, found in by_fact.items()]


Found = Sequence[tuple[int, int, Table]]


def _runs(found: Found) -> Probe:
    table = found[0][2]

    def probe(facts: Facts, into: list[Compiled]) -> None:
        for run in facts.runs:
            into += table.get(run, ())

    return probe


def _peers(found: Found) -> Probe:
    def probe(facts: Facts, into: list[Compiled]) -> None:
        version, number, text = address(facts.peer)
        for of, cut, table in found:
            if of == version:
                into += table.get(number >> cut if version else text, ())

    return probe


def _recipients(found: Found) -> Probe:
    parts = [(_part(cut), table) for _, cut, table in found]

    def probe(facts: Facts, into: list[Compiled]) -> None:
        for recipient in facts.recipients:
            text = recipient.lower()
            for part, table in parts:
                into += table.get(text[part], ())

    return probe


def _texts(get: Callable[[Facts], str | None]) -> Callable[[Found], Probe]:
    def probe_of(found: Found) -> Probe:
        parts = [(_part(cut), table) for _, cut, table in found]

        def probe(facts: Facts, into: list[Compiled]) -> None:
            if (value := get(facts)) is not None:
                text = value.lower()
                for part, table in parts:
                    into += table.get(text[part], ())

        return probe

    return probe_of


def _part(cut: int) -> slice:
    if cut < 0:
        return slice(cut, None)
    return slice(cut or None)


_PROBES: dict[str, Callable[[Found], Probe]] = {
    "run": _runs,
    "peer": _peers,
    "recipient": _recipients,
    **{fact: _texts(attrgetter(fact)) for fact in TEXTS},
}
