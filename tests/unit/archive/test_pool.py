"""Threads that read a database."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from harness.descriptors import opened

from mtad.archive.pool import Pool
from mtad.errors import CommandError, StoreError

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE number (n); INSERT INTO number VALUES (7)")
    return path


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, check_same_thread=False)


def number(database: sqlite3.Connection) -> int:
    (found,) = database.execute("SELECT n FROM number").fetchone()
    return int(found)


async def test_a_question_that_nobody_waits_for_ends(path: Path) -> None:
    """Its thread does something else then."""
    pool = Pool(path, connect, most=3600.0)
    for _ in range(2):
        begun = threading.Semaphore(0)
        endless = [asyncio.ensure_future(pool(partial(count, begun))) for _ in range(10)]
        for _ in range(10 + 2):  # as quick questions, and again as slow ones
            assert await asyncio.to_thread(begun.acquire, timeout=10)
        for one in endless:
            one.cancel()


def count(begun: threading.Semaphore, database: sqlite3.Connection) -> None:
    begun.release()
    database.execute(ENDLESS).fetchone()


async def test_quick_questions_are_not_behind_slow_ones(path: Path) -> None:
    pool = Pool(path, connect, most=3600.0)
    endless = [
        asyncio.ensure_future(pool(partial(count, threading.Semaphore(0)))) for _ in range(10)
    ]
    async with asyncio.timeout(10):
        assert [await pool(number) for _ in range(20)] == [7] * 20
    assert not any(one.done() for one in endless)
    for one in endless:
        one.cancel()


async def test_what_takes_too_long_is_refused(path: Path) -> None:
    pool = Pool(path, connect, most=1.0)
    async with asyncio.timeout(10):
        with pytest.raises(CommandError, match="longer than 1 s") as caught:
            await pool(partial(count, threading.Semaphore(0)))
    assert "after:" in caught.value.help
    assert await pool(number) == 7


async def test_what_takes_long_has_its_time(path: Path) -> None:
    pool = Pool(path, connect)
    some = ENDLESS.replace("FROM n)", f"FROM n LIMIT {5_000_000})")
    async with asyncio.timeout(20):
        assert await pool(lambda database: database.execute(some).fetchone()) == (5_000_000,)


async def test_a_fault_is_an_error_of_the_store_and_the_next_is_opened_anew(path: Path) -> None:
    pool = Pool(path, connect)
    with pytest.raises(StoreError, match="no such table"):
        await pool(lambda database: database.execute("SELECT n FROM nobody").fetchone())
    assert await pool(number) == 7


async def test_an_error_of_the_work_is_its_own(path: Path) -> None:
    pool = Pool(path, connect)
    with pytest.raises(ZeroDivisionError):
        await pool(lambda _: 1 // 0)


async def test_what_is_released_nobody_has_open(path: Path) -> None:
    pool = Pool(path, connect)
    assert await pool(number) == 7
    assert str(path) in opened()
    pool.release()
    assert str(path) not in opened()
    assert await pool(number) == 7
