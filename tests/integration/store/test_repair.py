"""The store is checked and repaired by mtactl, and mail goes on."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from harness.daemon import Daemon, config, home, send, until
from harness.mail_db import complaints, connect, kept
from harness.store_rows import keep_message

from mtad.store.database import Database

pytestmark = [pytest.mark.integration, pytest.mark.root]

PAGE = 4096
LARGE = b"Subject: large\r\n\r\n" + b"y\r\n" * 40_000


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with home() as directory, Daemon(directory, config(directory, workers=2)) as running:
        yield running.wait_ready()


def fill(daemon: Daemon, messages: int, octets: int) -> None:
    with Database(daemon.store, synced=False) as database:
        for _ in range(messages):
            keep_message(database, b"x" * octets)
    with closing(connect(daemon.store)) as mail:
        mail.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def test_a_store_that_is_whole(daemon: Daemon) -> None:
    send(daemon.port())
    answer = daemon.mtactl("store", "check")
    assert answer.returncode == 0
    assert "messages    1\n" in answer.stdout
    assert "problems" not in answer.stdout


def test_files_of_no_message_are_found_and_removed(daemon: Daemon) -> None:
    """Also by the start; what comes later is left to be asked for."""
    assert daemon.stop() == 0
    left = daemon.store / "bodies" / "0123456789abc.fedcba9876543210"
    left.write_bytes(b"x")
    daemon.start().wait_ready()
    until(lambda: not left.exists())
    send(daemon.port())
    orphan = daemon.store / "bodies" / "0123456789abc.0123456789abcdef"
    orphan.write_bytes(b"x")

    checked = daemon.mtactl("store", "check")
    assert checked.returncode == 1
    assert f"{orphan}: belongs to no message" in checked.stdout
    assert orphan.exists()

    repaired = daemon.mtactl("store", "repair")
    assert repaired.returncode == 0
    assert not orphan.exists()
    assert daemon.mtactl("store", "check").returncode == 0


def test_what_a_database_that_is_gone_has_left_is_set_aside(daemon: Daemon) -> None:
    """By the start, which would remove its files, and while workers write; and it is said."""
    for is_running in (False, True):
        send(daemon.port(), LARGE)
        (content,) = (daemon.store / "bodies").iterdir()
        if not is_running:
            assert daemon.stop() == 0
        (daemon.store / "mail.db").rename(daemon.directory / f"moved-{is_running}.db")
        if not is_running:
            daemon.start().wait_ready()
        for _ in range(2):  # each worker
            send(daemon.port())
        assert daemon.call("message.count")["count"] == 2
        daemon.call("store.repair")
        assert not content.exists()
        old = [path.read_bytes() for path in daemon.store.glob(f"bodies.old-*/{content.name}")]
        assert [LARGE in octets for octets in old] == [True]
    told = [e for e in daemon.events() if e["event"] == "store.begun"]
    assert {e["level"] for e in told} == {"warning"}
    assert len(told) == 2


def test_a_database_that_is_emptied_is_begun_anew(daemon: Daemon) -> None:
    """While workers write, and the archive reads: the next mail is taken, and found."""
    send(daemon.port(), LARGE)
    assert daemon.call("message.count")["count"] == 1
    os.truncate(daemon.store / "mail.db", 0)
    for _ in range(4):  # each worker
        send(daemon.port())
    assert daemon.call("message.count")["count"] == 4
    assert daemon.call("store.check")["ok"]
    assert daemon.mtactl("status").returncode == 0
    (told,) = [e for e in daemon.events() if e["event"] == "store.begun"]
    assert "was gone, or empty" in told["reason"]


def test_a_message_without_its_content_is_kept_until_it_is_to_go(daemon: Daemon) -> None:
    send(daemon.port(), b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + b"y\r\n" * 40_000)
    send(daemon.port())
    (file,) = (daemon.store / "bodies").iterdir()
    file.unlink()

    assert daemon.mtactl("store", "repair").returncode == 1
    assert daemon.call("message.count")["count"] == 2

    dropped = daemon.mtactl("store", "repair", "--drop")
    assert (dropped.returncode, daemon.call("message.count")["count"]) == (0, 1)


def test_an_index_that_lacks_messages_is_mended(daemon: Daemon) -> None:
    for _ in range(3):
        send(daemon.port())
    assert daemon.call("message.count")["count"] == 3
    with closing(sqlite3.connect(daemon.store / "index.db", isolation_level=None)) as index:
        index.execute("DELETE FROM message WHERE id = (SELECT min(id) FROM message)")

    checked = daemon.call("store.check")
    assert (checked["ok"], checked["unindexed"]) == (False, 1)
    assert daemon.call("store.repair")["ok"]
    assert daemon.call("message.count")["count"] == 3


def test_a_damaged_database_is_replaced_and_mail_goes_on(daemon: Daemon) -> None:
    """Neither workers nor archive are started again; what can be read is still there."""
    workers = daemon.workers()
    send(daemon.port())
    fill(daemon, 500, 10_000)
    with (daemon.store / "mail.db").open("r+b") as file:
        file.seek(700 * PAGE)
        file.write(b"\xa5" * 4 * PAGE)

    checked = daemon.mtactl("store", "check")
    assert checked.returncode == 1
    assert "problems" in checked.stdout

    repaired = daemon.call("store.repair")

    assert repaired["ok"], repaired
    assert 480 < repaired["salvaged"]["messages"] < 501
    assert (daemon.store / "mail.db").exists()
    for _ in range(4):  # each worker has one, at least
        send(daemon.port(), b"Subject: later\r\n\r\n")
    assert daemon.call("message.count")["count"] == repaired["salvaged"]["messages"] + 4
    assert daemon.call("message.count", query="subject:later")["count"] == 4
    assert daemon.workers() == workers
    assert complaints(daemon.store) == []
    assert len(list(kept(daemon.store))) == repaired["salvaged"]["messages"] + 4
    names = {path.name for path in daemon.store.iterdir()}
    assert any(name.startswith("mail.db.corrupt-") for name in names)


def test_a_file_that_is_no_database(daemon: Daemon) -> None:
    send(daemon.port())
    fill(daemon, 3, 10)
    with (daemon.store / "mail.db").open("r+b") as file:
        file.write(b"\xa5" * 4 * PAGE)

    checked = daemon.mtactl("store", "check")
    assert checked.returncode == 1
    assert "not a database" in checked.stdout

    assert daemon.call("store.repair")["salvaged"]["messages"] == 0
    send(daemon.port())
    assert daemon.call("message.count")["count"] == 1
