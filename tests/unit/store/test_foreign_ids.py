"""Rows with ids that nobody gives: nothing goes on from them, and they can be got rid of."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.mail_db import kept
from harness.store_rows import keep_message, keep_session

from mtad.archive.archive import Archive
from mtad.archive.methods import METHODS
from mtad.ipc.questions import Retention
from mtad.model import ids
from mtad.store import reader
from mtad.store.check import check
from mtad.store.database import Database
from mtad.store.removal import remove
from mtad.store.repair import salvage

YEAR = 365 * 86_400 * 10**9
FOREIGN = [2**63 - 1, 2**62, -1, -(2**63)]

foreign = pytest.mark.parametrize("number", FOREIGN)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path, synced=False) as database:
        yield database


@pytest.fixture
async def archive(store: Database) -> AsyncIterator[Archive]:
    with Database(store.path.parent):
        news = os.eventfd(0, os.EFD_NONBLOCK)
        made = Archive(store.path.parent, Retention(), news, lambda _: None)
        yield made
        made.close()
        os.close(news)


def first_and(store: Database, number: int) -> int:
    """Keep a message as it is meant to be, and rows with ``number``; return the id of the first."""
    first = keep_message(store, b"first")
    keep_message(store, b"foreign", number=number)
    keep_session(store, 1, number=number)
    return first


@foreign
def test_mail_goes_on(store: Database, number: int) -> None:
    first = first_and(store, number)
    with store.transaction() as mail:
        mail.execute("INSERT INTO state VALUES ('floor', ?)", (number,))
    assert reader.newest(store.connection) == first
    second = keep_message(store, b"second")
    assert first < second <= time.time_ns()
    list(remove(store, [("message", number), ("session", number), ("message", second)]))
    assert reader.newest(store.connection) == second  # the floor


def test_an_id_of_a_clock_that_was_ahead_is_gone_on_from(store: Database) -> None:
    future = time.time_ns() + 9 * YEAR
    keep_message(store, number=future)
    assert keep_message(store) == future + 1
    assert check(store.path.parent).problems == []


def test_a_clock_that_stands_at_the_epoch_hides_nothing(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = keep_message(store)
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    assert keep_message(store) == first + 1
    assert check(store.path.parent).problems == []


@foreign
def test_it_is_told(store: Database, number: int) -> None:
    first_and(store, number)
    found = check(store.path.parent)
    assert found.nobodys == [("message", number), ("session", number)]
    assert (found.messages, found.broken) == (1, [])
    assert all("an id that nobody gives" in problem for problem in found.problems)


def test_what_is_salvaged_is_without_it(store: Database, tmp_path: Path) -> None:
    first = first_and(store, 2**63 - 1)
    salvage(tmp_path, 0)
    assert [message.id for message in kept(tmp_path)] == [first]


@foreign
async def test_questions_leave_it_out(store: Database, archive: Archive, number: int) -> None:
    first = first_and(store, number)
    keep_session(store, 2)

    async def ask(method: str, **params: Any) -> dict[str, Any]:
        answer = await METHODS[method](archive, params)
        assert isinstance(answer, dict)
        return answer

    assert await ask("message.count", query=None, run=None) == {"count": 1}
    latest = await ask("message.raw", id="latest", offset=0, length=5)
    assert latest["id"] == ids.encode(first)
    sessions = await ask("session.list", query=None, limit=10)
    shown = await ask("session.show", id="latest")
    assert (len(sessions["sessions"]), shown["session"]["id"]) == (1, ids.encode(2))

    found = await ask("store.check")
    assert (found["ok"], len(found["problems"])) == (False, 2)
    assert not (await ask("store.repair", drop=False))["ok"]
    mended = await ask("store.repair", drop=True)
    assert (mended["ok"], mended["dropped"], mended["messages"]) == (True, 2, 1)
    assert first < keep_message(store) <= time.time_ns()
