"""What is over `store.retention` goes while the daemon runs, counted; a reload changes it."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import Daemon, config, home, send, until
from harness.mail_db import complaints
from harness.store_rows import keep_message

from mtad.store.database import Database

pytestmark = [pytest.mark.integration, pytest.mark.root]


def retaining(directory: Path, retention: str) -> str:
    return config(directory).replace("store:\n", f"store:\n  retention: {retention}\n")


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with (
        home() as directory,
        Daemon(directory, retaining(directory, "{age: 7d}")) as running,
    ):
        yield running.wait_ready()


def retain(daemon: Daemon, retention: str) -> None:
    daemon.config.write_text(retaining(daemon.directory, retention))
    answer = daemon.mtactl("config", "reload")
    assert answer.returncode == 0, answer.stderr


def listed(daemon: Daemon) -> list[str]:
    return [message["id"] for message in daemon.call("message.list", limit=1000)["messages"]]


def stats(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(daemon.mtactl("--json", "stats").stdout)
    return found


def fill(daemon: Daemon, messages: int, octets: int) -> None:
    """Keep messages as a worker does, only faster."""
    with Database(daemon.store, synced=False) as database:
        for _ in range(messages):
            keep_message(database, b"Subject: x\r\n\r\n" + b"x" * octets)


def test_by_count_the_oldest_go(daemon: Daemon) -> None:
    for _ in range(6):
        send(daemon.port())
    before = listed(daemon)
    cursor = daemon.call("message.cursor")["cursor"]

    retain(daemon, "{messages: 2}")

    until(lambda: len(listed(daemon)) == 2)
    assert listed(daemon) == before[:2]
    found = stats(daemon)
    assert found["pruned"]["messages"] == 4
    assert found["total"]["messages"] == 6  # what is pruned stays counted
    assert found["kept"]["messages"] == 2
    assert daemon.call("message.cursor")["cursor"] >= cursor
    (pruned,) = until(lambda: [e for e in daemon.events() if e["event"] == "store.pruned"])
    assert pruned["messages"] == 4


def test_by_age_all_go_and_cursors_stay_good(daemon: Daemon) -> None:
    for _ in range(3):
        send(daemon.port())
    cursor = daemon.call("message.cursor")["cursor"]

    retain(daemon, "{age: 1s}")

    until(lambda: listed(daemon) == [])
    until(lambda: daemon.call("session.list")["sessions"] == [])
    assert daemon.call("message.cursor")["cursor"] >= cursor
    retain(daemon, "{age: 7d}")
    send(daemon.port())
    (late,) = daemon.call("message.wait", after=cursor, count=1)["messages"]
    assert late["id"] > cursor


def test_by_size_space_is_given_back(daemon: Daemon) -> None:
    fill(daemon, 400, 60_000)
    fill(daemon, 10, 1_000_000)
    newest = listed(daemon)[0]
    bodies = daemon.store / "bodies"
    assert (daemon.store / "mail.db").stat().st_size + wal(daemon) > 24_000_000
    assert len(list(bodies.iterdir())) == 10

    retain(daemon, "{size: 5M}")

    until(lambda: stats(daemon)["kept"]["octets"] <= 5 * 2**20)
    until(lambda: (daemon.store / "mail.db").stat().st_size < 8 * 2**20)
    assert len(list(bodies.iterdir())) < 6
    assert listed(daemon)[0] == newest
    assert complaints(daemon.store) == []
    assert daemon.call("store.check")["ok"]


def wal(daemon: Daemon) -> int:
    return (daemon.store / "mail.db-wal").stat().st_size


def test_mail_that_comes_keeps_within_the_size(daemon: Daemon) -> None:
    """Without a reload: what comes is looked at all the time."""
    retain(daemon, "{size: 2M}")
    for _ in range(4):
        fill(daemon, 60, 20_000)
        until(lambda: stats(daemon)["kept"]["octets"] <= 2 * 2**20)
    assert 60 < len(listed(daemon)) < 110


def test_a_session_that_failed_goes_too(daemon: Daemon) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.port()) as client:
        client.docmd("NONSENSE")
    until(lambda: daemon.call("session.list", query="failed")["sessions"])

    retain(daemon, "{age: 1s}")

    until(lambda: daemon.call("session.list")["sessions"] == [])
    until(lambda: stats(daemon)["pruned"]["sessions"] == 1)


def test_what_a_reload_says(daemon: Daemon) -> None:
    daemon.config.write_text(retaining(daemon.directory, "{age: 1h, messages: 5}"))
    answer = daemon.mtactl("config", "check")
    assert "store.retention: age=604800" in answer.stdout
    assert "a restart is needed" not in answer.stdout
