"""A query's tree, as SQL over the index (mtad.archive.index): with parameters, by its indexes.

A condition is compiled twice: to a SELECT of the ids that meet it, and to a test of one id, m.id.
Where several are to be met, the ids of the rarest are tested for the others. What full text can
answer alone is one MATCH.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mtad.archive.conditions import (
    MAX_ID,
    Address,
    Has,
    Header,
    Id,
    Leaf,
    Pattern,
    Size,
    Time,
    Value,
    Words,
)
from mtad.archive.query import And, Not, Or, Tree
from mtad.archive.terms import Term, text, words_of_name

MANY = 10_000
"""So many ids are counted to find out which condition is the rarest."""

FEW = 2_000
"""Up to so many ids are tested one by one, rather than against a list of all that meet a test."""

Parameters = dict[str, Any]

Weigh = Callable[[str, Parameters], int]
"""Returns how many ids a SELECT gives, up to MANY."""

_READ = "{subject people text}"
_SPECIAL = re.compile(r"[*?\[]")
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Selection:
    """A SELECT of ids, each once, in a column ``id``, with its parameters."""

    sql: str
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class _Condition:
    """``ids`` is the SELECT, "" where there is no index; ``test`` is an expression.

    ``quick`` is another one, for a few ids: its price is by the test, while the first ``test`` may
    make a list of all that meet it. ``match`` is the same for FTS5, "" where that cannot tell;
    ``sorts``: to have the ids in their order, all of them have to be sorted.
    """

    ids: str
    test: str
    quick: str
    match: str = ""
    sorts: bool = False


def select(tree: Tree, *, now: int, weigh: Weigh, after: int, up_to: int, few: bool) -> Selection:
    """Return what selects the messages that ``tree`` matches, with ids above ``after``, up to one.

    ``now`` is in nanoseconds since the epoch. ``few``: the first or last of them are wanted.
    """
    compiler = _Compiler(now, weigh)
    rest = compiler.narrow(tree, after, up_to)
    return Selection(compiler.selection(rest, few=few), compiler.parameters)


class _Compiler:
    def __init__(self, now: int, weigh: Weigh) -> None:
        self.parameters: Parameters = {}
        self._now = now
        self._weigh = weigh
        self._bounds = ""
        self._are_few = False  # what is within the bounds

    def narrow(self, tree: Tree, after: int, up_to: int) -> Tree:
        """Have every SELECT bounded; return ``tree`` without what that has taken care of."""
        rest: list[Tree] = []
        for part in tree.parts if isinstance(tree, And) else (tree,):
            if isinstance(part, Time):
                low, high = self._range(part)
                after, up_to = max(after, low), min(up_to, high)
            else:
                rest.append(part)
        if after >= 0:
            self._bounds += f" AND {{id}} > {self._bind(after)}"
        if up_to < MAX_ID:
            self._bounds += f" AND {{id}} <= {self._bind(up_to)}"
        if self._bounds:
            between = f"SELECT id FROM message WHERE 1{self._bounded('id')}"
            self._are_few = self._count(between) < FEW
        return rest[0] if len(rest) == 1 else And(tuple(rest))

    def selection(self, tree: Tree, *, few: bool) -> str:
        """Return the SELECT for all of ``tree``."""
        condition = self._condition(tree)
        is_better = condition.ids and not (
            few and condition.sorts and self._count(condition.ids) >= MANY
        )
        if is_better:
            return condition.ids
        if condition.test == "1" and not few:
            return f"SELECT id FROM message INDEXED BY message_size WHERE 1{self._bounded('id')}"
        return f"SELECT m.id AS id FROM message AS m WHERE {condition.test}{self._bounded('m.id')}"

    def _condition(self, tree: Tree) -> _Condition:
        match tree:
            case And():
                return self._all(self._merged(tree))
            case Or():
                return self._any(tree)
            case Not():
                return _negated(self._condition(tree.part))
            case _:
                return self._leaf(tree)

    def _all(self, parts: Sequence[_Condition]) -> _Condition:
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return _Condition("", "1", "1")
        test, quick = _joined(" AND ", parts)
        weights = self._weights(parts)
        if not weights:
            return _Condition("", test, quick)
        # Of two that are many, full text first: to test an id, it takes longer than terms.
        rarest = min(weights, key=lambda at: (weights[at], not parts[at].match, parts[at].sorts))
        others = [part for at, part in enumerate(parts) if at != rarest]
        tests = _joined(" AND ", others)[weights[rarest] < FEW]
        ids = f"SELECT m.id AS id FROM ({parts[rarest].ids}) AS m WHERE {tests}"
        return _Condition(ids, test, quick, sorts=parts[rarest].sorts)

    def _weights(self, parts: Sequence[_Condition]) -> dict[int, int]:
        """Return how many ids some of the parts have; what may take long only if it has to be."""
        weights: dict[int, int] = {}
        for sorts in (False, True):
            if min(weights.values(), default=MANY) == MANY:
                weights |= {
                    at: self._count(part.ids)
                    for at, part in enumerate(parts)
                    if part.ids and part.sorts == sorts
                }
        return weights

    def _merged(self, tree: And) -> list[_Condition]:
        """Return the conditions of the parts; those of full text are one."""
        parts = [self._condition(part) for part in tree.parts if not isinstance(part, Not)]
        without = [self._condition(part.part) for part in tree.parts if isinstance(part, Not)]
        matches = [part.match for part in parts if part.match]
        if matches:
            joined = " AND ".join(f"({one})" for one in matches)
            joined += "".join(f" NOT ({one.match})" for one in without if one.match)
            parts = [part for part in parts if not part.match] + [self._matching(joined)]
            without = [one for one in without if not one.match]
        return parts + [_negated(one) for one in without]

    def _any(self, tree: Or) -> _Condition:
        parts = [self._condition(part) for part in tree.parts]
        matches = [part.match for part in parts if part.match]
        if len(matches) > 1:
            joined = " OR ".join(f"({one})" for one in matches)
            parts = [part for part in parts if not part.match] + [self._matching(joined)]
        return _union(parts)

    def _leaf(self, leaf: Leaf) -> _Condition:
        match leaf:
            case Words(column, pattern):
                return self._matching(f"{column or _READ} : {_phrase(pattern)}")
            case Address(field, pattern):
                return self._address(Term[field.upper()], pattern)
            case Value(field, pattern):
                return self._term(Term[field.upper()], pattern)
            case Has(what):
                return self._term(Term.HAS, Pattern((what,)))
            case Header(name, pattern):
                return self._header(name, pattern)
            case Size(low, high):
                return self._size(low, high)
            case Id(number):
                wanted = self._bind(number)
                ids = f"SELECT id FROM message WHERE id = {wanted}{self._bounded('id')}"
                return _Condition(ids, f"m.id = {wanted}", f"m.id = {wanted}")
            case Time():
                above, up_to = map(self._bind, self._range(leaf))
                test = f"m.id > {above} AND m.id <= {up_to}"
                return _Condition("", test, test)

    def _range(self, time: Time) -> tuple[int, int]:
        """Return the id that the messages meant are above, and one that they are up to."""
        number = self._now - time.number if time.ago else time.number
        if time.after:
            return (number if time.exclusive else number - 1), MAX_ID
        return -1, number - 1

    def _term(self, kind: Term, pattern: Pattern) -> _Condition:
        of_kind = f"SELECT {{}} FROM term WHERE kind = {kind.value}"
        if pattern.plain:
            ids = f"{of_kind.format('id')} AND value = {self._bind(pattern.text)}"
            test = f"EXISTS ({ids} AND id = m.id)"
            return _Condition(ids + self._bounded("id"), test, test)
        ids = of_kind.format("DISTINCT id")
        if pattern.pieces[0]:
            ids += f" AND value >= {self._bind(pattern.pieces[0])}"
            ids += f" AND value < {self._bind(pattern.pieces[0] + _LAST)}"
        if not pattern.anything:
            ids += f" AND value GLOB {self._bind(_glob(pattern))}"
        ids += self._bounded("id")
        pieces = ", ".join(map(self._bind, pattern.pieces))
        has_term = f"has_term(summary, people, {kind.value}, {pieces})"
        quick = f"EXISTS (SELECT 1 FROM message WHERE id = m.id AND {has_term})"
        if self._are_few:
            return self._looked_through(has_term, quick)
        return _Condition(ids, f"m.id IN ({ids})", quick, sorts=True)

    def _address(self, kind: Term, pattern: Pattern) -> _Condition:
        if pattern.pieces[0] == "" and pattern.pieces[1:] and pattern.pieces[1].startswith("@"):
            return self._term(kind, Pattern(pattern.pieces[1:]))  # *@example.com
        if "@" in pattern.text or not any(pattern.pieces):
            return self._term(kind, pattern)
        words = list(words_of_name(pattern.text)) if pattern.plain else []
        if len(words) > 1:
            return self._all([self._term(kind.part, Pattern((word,))) for word in words])
        return self._term(kind.part, pattern)

    def _header(self, name: str, pattern: Pattern) -> _Condition:
        expression = f"header : {_phrase(Pattern((name,)))}"
        first = Pattern((pattern.pieces[0], ""))
        if _is_phrase(first):
            expression += f" AND header : {_phrase(first)}"
        pieces = ", ".join(self._bind(piece.lower()) for piece in (name, *pattern.pieces))
        found = self._matching(expression, f" AND holds(header, {pieces})")
        return _Condition(found.ids, found.test, found.quick)

    def _matching(self, expression: str, also: str = "") -> _Condition:
        found = f"FROM words WHERE words MATCH {self._bind(expression)}{also}"
        ids = f"SELECT rowid AS id {found}{self._bounded('rowid')}"
        quick = f"EXISTS (SELECT 1 {found} AND rowid = m.id)"
        return _Condition(ids, f"m.id IN ({ids})", quick, match="" if also else expression)

    def _size(self, low: int | None, high: int | None) -> _Condition:
        bounds = [f"size >= {self._bind(low)}"] if low is not None else []
        bounds += [f"size <= {self._bind(high)}"] if high is not None else []
        sizes = " AND ".join(bounds)
        test = f"EXISTS (SELECT 1 FROM message WHERE {sizes} AND id = m.id)"
        if self._are_few:
            return self._looked_through(sizes, test)
        ids = f"SELECT id FROM message WHERE {sizes}{self._bounded('id')}"
        return _Condition(ids, test, test, sorts=True)

    def _looked_through(self, expression: str, test: str) -> _Condition:
        """Return a condition on columns of messages, of which few are within the bounds."""
        ids = f"SELECT id FROM message NOT INDEXED WHERE {expression}{self._bounded('id')}"
        return _Condition(ids, test, test)

    def _bind(self, value: object) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = text(value) if isinstance(value, str) else value
        return f":{name}"

    def _bounded(self, column: str) -> str:
        return self._bounds.format(id=column)

    def _count(self, ids: str) -> int:
        return self._weigh(ids, self.parameters)


def _union(parts: Sequence[_Condition]) -> _Condition:
    test, quick = _joined(" OR ", parts)
    if not all(part.ids for part in parts):
        return _Condition("", test, quick)
    # Each by itself: a SELECT that is a union must not become part of another one.
    ids = " UNION ".join(f"SELECT id FROM ({part.ids})" for part in parts)
    return _Condition(ids, test, quick, sorts=any(part.sorts for part in parts))


def _joined(operator: str, parts: Sequence[_Condition]) -> tuple[str, str]:
    """Return the test, and the quick one, of several conditions."""
    tests = operator.join(f"({part.test})" for part in parts)
    return tests, operator.join(f"({part.quick})" for part in parts)


def _negated(condition: _Condition) -> _Condition:
    return _Condition("", f"NOT ({condition.test})", f"NOT ({condition.quick})")


def _is_phrase(pattern: Pattern) -> bool:
    """Whether full text can look for it: a phrase, or one that ends with a star."""
    pieces = pattern.pieces
    return pieces[1:] in ((), ("",)) and any(character.isalnum() for character in pieces[0])


def _phrase(pattern: Pattern) -> str:
    """Return a phrase of FTS5, in quotes: nothing in it is an operator."""
    quoted = pattern.pieces[0].replace('"', '""')
    return f'"{quoted}"' + ("" if pattern.plain else " *")


def _glob(pattern: Pattern) -> str:
    return "*".join(_SPECIAL.sub(r"[\g<0>]", piece) for piece in pattern.pieces)
