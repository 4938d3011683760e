"""What is in the index, asked for by queries; all of this is for a connection of ``Index.read``."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mtad.archive.compile import MANY, Parameters, Selection, select
from mtad.archive.conditions import MAX_ID, Leaf, Pattern, Value
from mtad.archive.query import EVERYTHING, And, Not, Tree, parse

Summary = dict[str, Any]

MAX_OCTETS = 4_194_304
"""So much of summaries, as JSON, goes into one answer."""


def wanted(query: str | None, run: str | None) -> Tree:
    """Return the tree of a query about the messages of ``run``, a test run; None is all.

    Raises QueryError.
    """
    tree = parse(query or "")
    return narrowed(tree, Value("run", Pattern((run.lower(),)))) if run else tree


def narrowed(tree: Tree, condition: Leaf) -> Tree:
    """Return the tree of what meets ``condition``, too."""
    parts = tree.parts if isinstance(tree, And) else (tree,)
    return And((*parts, condition))


@dataclass(frozen=True, slots=True)
class Search:
    """The messages that ``tree`` matches, with ids above ``after`` and up to ``up_to``."""

    tree: Tree = EVERYTHING
    after: int = -1
    up_to: int = MAX_ID

    def count(self, index: sqlite3.Connection) -> int:
        """Return how many there are."""
        if isinstance(self.tree, Not):
            return replace(self, tree=EVERYTHING).count(index) - replace(
                self, tree=self.tree.part
            ).count(index)
        if self == Search():
            return int(index.execute("SELECT count(*) FROM message").fetchone()[0])
        found = self._select(index, few=False)
        (count,) = index.execute(f"SELECT count(*) FROM ({found.sql})", found.parameters).fetchone()
        return int(count)

    def ids(self, index: sqlite3.Connection) -> list[int]:
        """Return all of them, in order."""
        found = self._select(index, few=False)
        return [number for (number,) in index.execute(f"{found.sql} ORDER BY 1", found.parameters)]

    def newest(self, index: sqlite3.Connection, limit: int) -> list[int]:
        """Return the newest, the last first."""
        return self._first(index, limit, "DESC")

    def oldest(self, index: sqlite3.Connection, limit: int) -> list[int]:
        """Return the oldest, the first first."""
        return self._first(index, limit, "ASC")

    def _first(self, index: sqlite3.Connection, limit: int, order: str) -> list[int]:
        found = self._select(index, few=True)
        sql = f"{found.sql} ORDER BY 1 {order} LIMIT :limit"
        return [number for (number,) in index.execute(sql, {**found.parameters, "limit": limit})]

    def _select(self, index: sqlite3.Connection, *, few: bool) -> Selection:
        return select(
            self.tree,
            now=time.time_ns(),
            weigh=partial(_weigh, index),
            after=self.after,
            up_to=self.up_to,
            few=few,
        )


def _weigh(index: sqlite3.Connection, ids: str, parameters: Parameters) -> int:
    counted = f"SELECT count(*) FROM (SELECT 1 FROM ({ids}) LIMIT {MANY})"
    (count,) = index.execute(counted, parameters).fetchone()
    return int(count)


def summaries(
    index: sqlite3.Connection, numbers: Iterable[int], room: int = MAX_OCTETS
) -> tuple[list[Summary], int]:
    """Return the summaries of messages, of as many as there is room for, and the room left.

    One that was deleted meanwhile is left out.
    """
    found: list[Summary] = []
    for number in numbers:
        row = index.execute("SELECT summary FROM message WHERE id = ?", (number,)).fetchone()
        if row is not None:
            room -= len(row[0])
            if room < 0:
                return found, 0
            found.append(json.loads(row[0]))
    return found, room
