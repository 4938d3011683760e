"""What goes first, and when the clock is not believed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.store_rows import keep_message, keep_session

from mtad.archive.retention import Clock, Excess, doomed, give_back
from mtad.ipc.questions import Retention
from mtad.store.database import Database
from mtad.store.reader import used
from mtad.store.removal import remove, write_back

NS = 1_000_000_000
HOUR = 3_600 * NS
EVERYTHING = 2**63 - 1
NO_LIMIT = Retention(age=0, size=0, messages=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path, synced=False) as database:
        yield database


def over(
    store: Database, limits: Retention, now: int = 0, indexed: int = EVERYTHING
) -> list[tuple[str, int]]:
    return list(doomed(store.connection, Excess.of(store.connection, limits, now), indexed))


def test_without_limits_nothing_goes(store: Database) -> None:
    keep_message(store, number=1)
    assert over(store, NO_LIMIT, time.time_ns()) == []


def test_by_age(store: Database) -> None:
    for number in (10 * NS, 20 * NS, 30 * NS):
        keep_message(store, number=number)
    keep_session(store, 1, 25 * NS, transcript=([0, "C", b"EHLO"],))
    limits = Retention(age=10, size=0)

    assert over(store, limits, now=35 * NS) == [
        ("message", 10 * NS),
        ("message", 20 * NS),
    ]
    assert over(store, limits, now=36 * NS)[2:] == [("session", 25 * NS)]
    assert over(store, limits, now=5 * NS) == []  # the clock was set back
    assert over(store, limits) == []  # it is in doubt


def test_by_count_sessions_of_the_same_time_go_too(store: Database) -> None:
    for number in range(1, 6):
        keep_message(store, number=10 * number)
        keep_session(store, number, 10 * number + 1)
    limits = Retention(age=0, size=0, messages=3)
    assert over(store, limits) == [("message", 10), ("session", 11), ("message", 20)]


def test_by_size_counts_rows_files_and_transcripts(store: Database) -> None:
    empty = used(store.connection)
    keep_message(store, b"x" * 1_000_000, number=1)
    keep_session(store, 1, 2, transcript=([0, "C", b"y" * 50_000],))
    keep_message(store, b"z" * 50_000, number=3)
    full = used(store.connection)
    assert 1_090_000 < full - empty < 1_130_000

    def gone(octets: int) -> list[int]:
        return [number for _, number in over(store, Retention(age=0, size=full - octets))]

    assert gone(0) == []
    assert gone(1) == [1]
    assert gone(1_000_001) == [1, 2]
    assert gone(1_060_000) == [1, 2, 3]


def test_what_is_not_indexed_stays(store: Database) -> None:
    for number in range(1, 5):
        keep_message(store, number=number)
    found = over(store, Retention(age=0, size=0, messages=1), indexed=2)
    assert found == [("message", 1), ("message", 2)]


def test_a_transcript_without_a_session_goes_by_the_age_of_its_key(store: Database) -> None:
    keep_session(store, 5 * NS, 50 * NS, transcript=([0, "C", b""],))
    keep_session(store, 6 * NS, 7 * NS, transcript=([0, "C", b""],))
    store.connection.execute("DELETE FROM session WHERE key = ?", (6 * NS,))

    limits = Retention(age=10, size=0)
    assert over(store, limits, now=16 * NS) == []
    assert over(store, limits, now=17 * NS) == [("transcript", 6 * NS)]


def test_space_is_given_back(store: Database) -> None:
    numbers = [keep_message(store, b"x" * 60_000) for _ in range(500)]
    write_back(store)
    full = store.path.stat().st_size
    list(remove(store, [("message", number) for number in numbers]))

    give_back(store)

    assert full > 30_000_000
    assert store.path.stat().st_size < 6_000_000
    assert store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.day, self.steady = 1_000 * 24 * HOUR, 5 * HOUR

    def __call__(self) -> tuple[int, int]:
        return self.day, self.steady

    def pass_by(self, ns: int) -> None:
        self.day += ns
        self.steady += ns


def test_the_clock_is_believed() -> None:
    hands = Hands()
    clock = Clock(hands.day - HOUR, hands)
    hands.pass_by(24 * HOUR)  # such as a suspend
    assert clock.now() == hands.day


def test_a_clock_set_forward_is_believed_an_hour_later() -> None:
    hands = Hands()
    clock = Clock(hands.day - HOUR, hands)
    hands.day += 10 * 365 * 24 * HOUR
    assert clock.now() == 0
    hands.pass_by(HOUR - 1)
    assert clock.now() == 0
    hands.pass_by(1)
    assert clock.now() == hands.day


def test_a_clock_that_is_set_right_again_is_believed_at_once() -> None:
    hands = Hands()
    clock = Clock(hands.day - HOUR, hands)
    hands.day += 10 * 365 * 24 * HOUR
    assert clock.now() == 0
    hands.day -= 10 * 365 * 24 * HOUR
    assert clock.now() == hands.day


def test_a_start_long_after_all_that_is_kept() -> None:
    hands = Hands()
    assert Clock(0, hands).now() == hands.day  # nothing is kept
    clock = Clock(hands.day - 31 * 24 * HOUR, hands)
    assert clock.now() == 0
    hands.pass_by(HOUR)
    assert clock.now() == hands.day
