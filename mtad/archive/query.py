"""The language of queries: ``from:alice subject:"sign up" size:>1M -lint:bare-lf``.

``parse`` reads a text into a tree, ``show`` writes a tree as the shortest text of the same meaning.
docs/query.md is the reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from unicodedata import combining, east_asian_width

from mtad.archive.conditions import Leaf, Pattern
from mtad.archive.fields import FIELDS, HEADER, leaf, show_leaf
from mtad.control.grammar import did_you_mean
from mtad.control.params import brief
from mtad.errors import QueryError

MAX_LENGTH = 4096
"""In characters."""

MAX_CONDITIONS = 100
MAX_DEPTH = 20


@dataclass(frozen=True, slots=True)
class And:
    """Every one of ``parts``; without any, every message."""

    parts: tuple[Tree, ...] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of ``parts``, of which there are two or more."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Whatever ``part`` does not match."""

    part: Tree


Tree = And | Or | Not | Leaf

EVERYTHING = And()


class Mistake(Exception):  # noqa: N818 (caught in this module, and made an error there)
    """What is wrong in a query, from ``position`` on for ``length`` characters."""

    def __init__(self, reason: str, position: int, length: int, help: str = "") -> None:  # noqa: A002
        super().__init__(reason)
        self.reason = reason
        self.position = position
        self.length = length
        self.help = help


def parse(query: str) -> Tree:
    """Return the tree of ``query``; the empty text is everything.

    Raises:
        QueryError: it cannot be read; the message says where.
    """
    if len(query) > MAX_LENGTH:
        raise QueryError(
            f"a query has at most {MAX_LENGTH} characters, not {len(query)}",
            query=query,
            position=MAX_LENGTH,
        )
    try:
        return _Parser(list(_tokens(query))).everything()
    except Mistake as mistake:
        raise QueryError(
            f"{mistake.reason}\n{_pointing(query, mistake.position, mistake.length)}",
            query=query,
            position=mistake.position,
            help=mistake.help,
        ) from None


def show(tree: Tree) -> str:
    """Return a query that ``parse`` reads as ``tree``."""
    match tree:
        case And():
            return " ".join(_enclosed(part, (Or,)) for part in tree.parts)
        case Or():
            return " OR ".join(_enclosed(part, (And,)) for part in tree.parts)
        case Not():
            return f"NOT {_enclosed(tree.part, (And, Or))}"
        case _:
            return show_leaf(tree)


def _enclosed(tree: Tree, kinds: tuple[type, ...]) -> str:
    return f"({show(tree)})" if isinstance(tree, kinds) else show(tree)


# Words

_FIELD = re.compile(r'[^\s():"*-][^\s():"*]*:')
_SEGMENT = re.compile(
    r'"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<star>\*+)|(?P<bare>[^\s()"*]+)', re.DOTALL
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_OPERATORS = {"AND", "OR", "NOT"}
_NOTHING = Pattern(("",))


@dataclass(frozen=True, slots=True)
class _Token:
    """``kind`` is ``(``, ``)``, an operator (``-`` is NOT), ``word``, or ``end``."""

    kind: str
    start: int
    end: int
    field: str = ""
    pattern: Pattern = _NOTHING


def _tokens(query: str) -> Iterator[_Token]:
    at = 0
    while at < len(query):
        character = query[at]
        if character.isspace():
            at += 1
            continue
        if character in "()":
            token = _Token(character, at, at + 1)
        elif character == "-" and at + 1 < len(query) and not query[at + 1].isspace():
            token = _Token("NOT", at, at + 1)
        else:
            token = _word(query, at)
        yield token
        at = token.end
    yield _Token("end", len(query), len(query))


def _word(query: str, start: int) -> _Token:
    """Return the word at ``start``: pieces in quotes and out of them, and stars in between."""
    found = _FIELD.match(query, start)
    field, at = (found[0][:-1], found.end()) if found else ("", start)
    pieces = [""]
    while segment := _SEGMENT.match(query, at):
        at = segment.end()
        if segment["star"]:
            pieces.append("")
        elif segment["bare"]:
            pieces[-1] += segment["bare"]
        else:
            pieces[-1] += _ESCAPED.sub(r"\1", segment["quoted"])
    if query[at : at + 1] == '"':
        raise Mistake("this quotation mark has no other", at, 1, 'write \\" for one itself')
    if query[start:at] in _OPERATORS:
        return _Token(query[start:at], start, at)
    return _Token("word", start, at, field, Pattern(tuple(pieces)))


# The grammar: OR binds less than AND, which may be left out; NOT, or -, binds most.


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._conditions = 0

    def everything(self) -> Tree:
        if self._next.kind == "end":
            return EVERYTHING
        tree = self._any(0)
        if self._next.kind != "end":
            raise self._mistake("this parenthesis closes none")
        return tree

    def _any(self, depth: int) -> Tree:
        parts = [self._all(depth)]
        while self._take("OR"):
            parts.append(self._all(depth))
        flat = [
            inner for part in parts for inner in (part.parts if isinstance(part, Or) else (part,))
        ]
        return Or(tuple(flat)) if len(flat) > 1 else flat[0]

    def _all(self, depth: int) -> Tree:
        parts = [self._one(depth)]
        while self._take("AND") or self._next.kind not in {"OR", ")", "end"}:
            parts.append(self._one(depth))
        flat = [
            inner for part in parts for inner in (part.parts if isinstance(part, And) else (part,))
        ]
        return And(tuple(flat)) if len(flat) > 1 else flat[0]

    def _one(self, depth: int) -> Tree:
        token = self._next
        if depth > MAX_DEPTH:
            raise self._mistake(f"more than {MAX_DEPTH} parentheses and NOTs inside one another")
        if self._take("NOT"):
            return Not(self._one(depth + 1))
        if self._take("("):
            tree = self._any(depth + 1)
            if not self._take(")"):
                raise Mistake("this parenthesis is not closed", token.start, 1)
            return tree
        if self._take("word"):
            return self._leaf(token)
        raise self._mistake("a condition is missing here")

    def _leaf(self, token: _Token) -> Leaf:
        self._conditions += 1
        where = token.start, token.end - token.start
        if self._conditions > MAX_CONDITIONS:
            raise Mistake(f"a query has at most {MAX_CONDITIONS} conditions", *where)
        try:
            return leaf(token.field, token.pattern)
        except KeyError:
            near = did_you_mean(token.field.lower(), [*FIELDS, HEADER + "NAME"])
            raise Mistake(
                f"there is no field {brief(token.field)}{near}",
                token.start,
                len(token.field),
                f"fields: {', '.join(FIELDS)}, {HEADER}NAME; in quotes it is text",
            ) from None
        except ValueError as error:
            raise Mistake(str(error), *where) from None

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, kind: str) -> bool:
        taken = self._next.kind == kind
        self._at += taken
        return taken

    def _mistake(self, reason: str) -> Mistake:
        return Mistake(reason, self._next.start, self._next.end - self._next.start)


# Mistakes

_BEFORE, _BEHIND = 50, 30


def _pointing(query: str, position: int, length: int) -> str:
    """Return the query, or what is near the mistake, and a line with a caret under that."""
    first = max(0, position - _BEFORE)
    last = max(position + 1, min(position + _BEHIND, len(query)))
    shown = "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in query[first:last]
    )
    before, marked = shown[: position - first], shown[position - first :][:length]
    left, right = "…" * (first > 0), "…" * (last < len(query))
    under = " " * _width(left + before) + "^" + "~" * (_width(marked) - 1)
    return f"    {left}{shown}{right}\n    {under}"


def _width(text: str) -> int:
    """Return how many columns a terminal needs for ``text``."""
    wide = sum(east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(combining(character) > 0 for character in text)
