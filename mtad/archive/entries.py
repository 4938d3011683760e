"""Messages in the tables of the index: added, changed and removed, within its transactions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain

from mtad.archive import session_index
from mtad.archive.batch import Batch
from mtad.archive.terms import terms_of

_TERMS = 100


def add(index: sqlite3.Connection, batch: Batch) -> None:
    """Insert what a batch has, and change what it says has changed."""
    index.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?)", batch.messages)
    _add_terms(index, sorted(batch.terms))  # in their order: neighbours are on the same page
    index.executemany(
        "INSERT INTO words (rowid, subject, people, header, text) VALUES (?, ?, ?, ?, ?)",
        batch.words,
    )
    session_index.add(index, batch.sessions)
    for number, states in batch.outgoing.items():
        _set_outgoing(index, number, states)
    batch.tally.write(index)


def remove(index: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Delete messages, as far as they are there, and forget that they were about to go."""
    for number in numbers:
        row = index.execute(
            "SELECT summary, people FROM message WHERE id = ?", (number,)
        ).fetchone()
        if row is not None:
            _remove_terms(index, terms_of(number, json.loads(row[0]), json.loads(row[1])))
            index.execute("DELETE FROM words WHERE rowid = ?", (number,))
            index.execute("DELETE FROM message WHERE id = ?", (number,))
        index.execute("DELETE FROM leaving WHERE id = ?", (number,))


def _set_outgoing(index: sqlite3.Connection, number: int, states: Sequence[str]) -> None:
    """Have what is sent of a message in these states; one that is not here yet comes with them."""
    row = index.execute("SELECT summary, people FROM message WHERE id = ?", (number,)).fetchone()
    if row is None:
        return
    summary, people = json.loads(row[0]), json.loads(row[1])
    before = terms_of(number, summary, people)
    summary["outgoing"] = list(states)
    after = terms_of(number, summary, people)
    _remove_terms(index, before - after)
    _add_terms(index, sorted(after - before))
    index.execute("UPDATE message SET summary = ? WHERE id = ?", (json.dumps(summary), number))


def _add_terms(index: sqlite3.Connection, terms: Sequence[tuple[int, str, int]]) -> None:
    """Insert many with each statement, which takes a third less time than one by one."""
    for start in range(0, len(terms), _TERMS):
        some = terms[start : start + _TERMS]
        rows = ", ".join(["(?, ?, ?)"] * len(some))
        index.execute(f"INSERT INTO term VALUES {rows}", list(chain.from_iterable(some)))  # noqa: S608


def _remove_terms(index: sqlite3.Connection, terms: Iterable[tuple[int, str, int]]) -> None:
    index.executemany("DELETE FROM term WHERE kind = ? AND value = ? AND id = ?", terms)
