"""What `mtactl stats` counts: what came over the wire, once, also when the archive is killed."""

from __future__ import annotations

import os
import signal
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.daemon import Daemon, config, home, send, until

pytestmark = [pytest.mark.integration, pytest.mark.root]


def observed(directory: Path) -> str:
    made = config(directory, workers=2)
    return made.replace("control:\n", "control:\n  observe: [nobody]\n")


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with home() as directory, Daemon(directory, observed(directory)) as running:
        yield running.wait_ready()


def archive(daemon: Daemon) -> int | None:
    pid: int | None = daemon.call("summary")["archive"]["pid"]
    return pid


def test_what_came_over_the_wire(daemon: Daemon) -> None:
    send(daemon.port(), b"12345\r\n")
    with smtplib.SMTP("127.0.0.1", daemon.port()) as client:
        client.ehlo()
        client.docmd("NONSENSE")
        client.docmd("MAIL FROM:<>")
        client.docmd("RCPT TO:<a@one.example>")
        client.docmd("RCPT TO:<b@TWO.example>")
        client.data(b"abc\r\n")

    found = until(lambda: (stats := daemon.call("stats"))["total"]["sessions"] == 2 and stats)

    assert (found["total"]["messages"], found["total"]["octets"]) == (2, 12)
    assert found["total"]["failed"] == 1
    assert {row["name"]: row["messages"] for row in found["recipients"]["top"]} == {
        "example.com": 1, "one.example": 1, "two.example": 1,
    }  # fmt: skip
    assert {row["name"] for row in found["senders"]["top"]} == {"", "example.org"}
    replies = {row["code"]: row["count"] for row in found["replies"]}
    assert (replies[220], replies[354], replies[502]) == (2, 2, 1)
    phases = {row["phase"]: row for row in found["phases"]}
    assert (phases["banner"]["count"], phases["data"]["count"]) == (2, 2)
    assert 0 < phases["command"]["p50"] <= phases["command"]["p99"] <= phases["command"]["max"] < 5
    assert found["rates"][0]["messages"] == round(2 / 60, 3)


def test_an_archive_that_is_killed_counts_nothing_twice(daemon: Daemon) -> None:
    for count in range(5, 20, 5):
        for _ in range(4):
            send(daemon.port())
        os.kill(until(lambda: archive(daemon)), signal.SIGKILL)
        send(daemon.port())
        assert until(lambda: daemon.call("stats"))["total"]["messages"] == count


def test_a_reset_is_for_those_who_operate(daemon: Daemon) -> None:
    send(daemon.port())
    assert daemon.mtactl("stats", user="nobody").returncode == 0
    assert daemon.mtactl("stats", "reset", user="nobody").returncode == 1
    assert daemon.call("stats")["total"]["messages"] == 1
    assert daemon.mtactl("stats", "reset").returncode == 0
    answer = daemon.mtactl("stats")
    assert "messages  0\n" in answer.stdout
    assert daemon.call("message.count")["count"] == 1
