"""What the index is asked about one message, by SQL, where its tables alone cannot tell."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mtad.archive.terms import terms_of


def holds(header: str, name: str, *pieces: str) -> bool:
    """Whether a field ``name``, in lower case, of ``header`` has ``pieces`` in it, in this order.

    ``header`` has a line for each field. The first piece, unless it is "", begins where a word
    does. Letters count in either case.
    """
    return any(
        _has(line[len(name) + 1 :].strip(), pieces)
        for line in header.lower().split("\n")
        if line.startswith(f"{name}:")
    )


def _has(value: str, pieces: tuple[str, ...]) -> bool:
    first, *others = pieces
    at = value.find(first)
    while at > 0 and first[:1].isalnum() and value[at - 1].isalnum():
        at = value.find(first, at + 1)
    return at >= 0 and _follow(others, value, at + len(first), len(value))


def _follow(pieces: Sequence[str], value: str, at: int, end: int) -> bool:
    """Whether ``pieces`` are in ``value``, one behind the other, from ``at`` to ``end``."""
    for piece in pieces:
        found = value.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def has_term(summary: str, people: str, kind: int, *pieces: str) -> bool:
    """Whether a message has a term of ``kind`` that is ``pieces``, with anything between these."""
    terms = terms_of(0, json.loads(summary), json.loads(people))
    return any(_fits(value, pieces) for found, value, _ in terms if found == kind)


def _fits(value: str, pieces: tuple[str, ...]) -> bool:
    first, *between, last = pieces
    end = len(value) - len(last)
    edges = value.startswith(first) and value.endswith(last) and len(first) <= end
    return edges and _follow(between, value, len(first), end)
