"""What is counted is counted once, and shown with the most first."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from harness.store_rows import CAPTURED, SUMMARY

from mtad.archive import statistics
from mtad.archive.statistics import TABLES, Tally, report, reset

NOW = time.time_ns()


@pytest.fixture
def index() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(TABLES)
    yield connection
    connection.close()


def test_nothing_yet(index: sqlite3.Connection) -> None:
    found = report(index)
    assert found["total"] == {
        "since": None, "messages": 0, "octets": 0, "sessions": 0, "failed": 0,
    }  # fmt: skip
    assert found["listeners"] == {"top": [], "others": None}
    assert found["phases"][0] == {
        "phase": "banner", "count": 0, "p50": None, "p90": None, "p99": None, "max": None,
    }  # fmt: skip


def test_messages_by_listener_and_domain(index: sqlite3.Connection) -> None:
    tally = Tally()
    tally.message(replace(CAPTURED, received_ns=NOW, sender=""), 10)
    tally.message(
        replace(
            CAPTURED,
            received_ns=NOW,
            listener="other",
            recipients=("a@ONE.example", "b@one.example", "c@two.example", "Postmaster"),
        ),
        5,
    )
    tally.message(replace(CAPTURED, received_ns=NOW, sender="\udcff@\udcff"), 1)
    tally.write(index)

    found = report(index)
    assert (found["total"]["messages"], found["total"]["octets"]) == (3, 16)
    assert found["listeners"]["top"] == [
        {"name": "mx", "messages": 2, "octets": 11},
        {"name": "other", "messages": 1, "octets": 5},
    ]
    assert {row["name"] for row in found["senders"]["top"]} == {"", "?", "example.com"}
    assert {row["name"]: row["octets"] for row in found["recipients"]["top"]} == {
        "example.org": 11, "one.example": 5, "two.example": 5, "": 5,
    }  # fmt: skip
    assert found["total"]["since"] == NOW / 10**9


def test_sessions(index: sqlite3.Connection) -> None:
    tally = Tally()
    tally.session(replace(SUMMARY, ended_ns=NOW))
    tally.session(replace(SUMMARY, ended_ns=NOW, failed=True, replies={550: 2, 250: 1}))
    tally.write(index)

    found = report(index)
    assert (found["total"]["sessions"], found["total"]["failed"]) == (2, 1)
    assert found["replies"] == [
        {"code": 220, "count": 1},
        {"code": 221, "count": 1},
        {"code": 250, "count": 5},
        {"code": 354, "count": 1},
        {"code": 550, "count": 2},
    ]
    assert found["phases"][1] == {
        "phase": "command", "count": 10, "p50": 2e-5, "p90": 2e-5, "p99": 2e-5, "max": 2e-5,
    }  # fmt: skip


def test_rates_are_of_the_last_minutes(index: sqlite3.Connection) -> None:
    tally, now = Tally(), time.time_ns()
    for seconds in (0, 100, 600, 1_000, -100_000):
        tally.message(replace(CAPTURED, received_ns=now - seconds * 10**9), 120)
    tally.write(index)

    rates = {rate["minutes"]: rate for rate in report(index)["rates"]}
    assert [round(rates[m]["messages"] * 60 * m) for m in (1, 5, 15)] == [1, 2, 3]
    assert rates[1]["octets"] == 2.0
    assert index.execute("SELECT count(*) FROM recent").fetchone() == (3,)


def test_counts_add_up_over_tallies(index: sqlite3.Connection) -> None:
    for _ in range(3):
        tally = Tally()
        tally.message(replace(CAPTURED, received_ns=NOW), 7)
        tally.write(index)
    assert report(index)["total"]["octets"] == 21


def test_what_is_rolled_back_is_not_counted(index: sqlite3.Connection) -> None:
    tally = Tally()
    tally.message(replace(CAPTURED, received_ns=NOW), 7)
    index.execute("BEGIN")
    tally.write(index)
    index.execute("ROLLBACK")
    assert report(index)["total"]["messages"] == 0


def test_many_names_end(index: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MOST_NAMES", 60)
    for batch in range(2):
        tally = Tally()
        for number in range(100):
            sender = f"a@{number}.{batch}.example"
            tally.message(replace(CAPTURED, received_ns=NOW, sender=sender), 1)
        tally.message(replace(CAPTURED, received_ns=NOW, sender="a@0.0.example"), 1)
        tally.write(index)

    senders = report(index)["senders"]
    assert senders["top"][0] == {"name": "0.0.example", "messages": 3, "octets": 3}
    assert len(senders["top"]) == 50
    assert senders["others"]["messages"] == 202 - 52
    assert index.execute("SELECT count(*) FROM counter WHERE kind = 'sender'").fetchone() == (61,)


def test_reset(index: sqlite3.Connection) -> None:
    tally = Tally()
    tally.message(replace(CAPTURED, received_ns=NOW), 7)
    tally.pruned(2, 1, 100)
    tally.write(index)
    assert report(index)["pruned"] == {"messages": 2, "octets": 100, "sessions": 1}

    reset(index)

    found = report(index)
    assert (found["total"]["messages"], found["pruned"]["messages"]) == (0, 0)
    assert found["rates"][0]["messages"] == 0
    assert found["total"]["since"] >= NOW / 10**9
