"""A full disk is cured by the daemon's own means: what is deleted makes room, and mail goes on."""

from __future__ import annotations

import json
import os
import shutil
import smtplib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import mail_db
from harness.daemon import Daemon, config, until
from harness.mounts import mount, private_mounts

from mtad.errors import CommandError

pytestmark = [pytest.mark.integration, pytest.mark.root]

Start = Callable[..., Daemon]

# It is there anyway, and its content is nobody's.
FILLER = "mail.lock"


@pytest.fixture(params=[("3m", True), ("40m", True), ("40m", False)])
def full(directory: Path, started: Start, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon whose store's file system has no octet left, and which answers 452."""
    store = directory / "store"
    store.mkdir()
    with private_mounts():
        mount("-t", "tmpfs", "-o", f"size={request.param[0]},mode=0750", "store", store)
        shutil.chown(store, "ecuser")
        daemon = started(workers=2)
        until(lambda: (store / "mail.reserve").exists())
        assert deliver(daemon, 100) == 250
        assert daemon.call("message.count")["count"] == 1
        fill(daemon, indexed=request.param[1])
        yield daemon


def fill(daemon: Daemon, *, indexed: bool) -> None:
    """Fill the disk, as fast as can be, or so that the index keeps up with it."""
    for size in (60_000, 4_000, 100):
        while deliver(daemon, size) == 250:
            if indexed and daemon.call("message.list", limit=1)["unindexed"]:
                break

    def is_full() -> bool:
        """Whether not even the WAL, which is written over, has room left."""
        fill_up(daemon.store)
        return deliver(daemon, 100) == 452

    until(is_full)


def deliver(daemon: Daemon, size: int) -> int:
    with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=30) as client:
        client.ehlo("full.example")
        client.mail("a@example.org")
        client.rcpt("b@example.net")
        return client.data(b"Subject: it fills\r\n\r\n" + b"y\r\n" * (size // 3))[0]


def fill_up(store: Path) -> None:
    """Leave nothing, for anybody."""
    with (store / FILLER).open("ab", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                pass


def takes_mail(daemon: Daemon) -> bool:
    """Whether each worker does, short and long."""
    return all(deliver(daemon, size) == 250 for size in (100, 80_000) for _ in range(2))


def is_whole(daemon: Daemon) -> bool:
    """Whether everything is, and is counted; not while some is pruned between the two."""
    checked = daemon.call("store.check")
    counted: int = daemon.call("message.count")["count"]
    return bool(checked["ok"]) and counted == checked["messages"]


def assert_cured(daemon: Daemon) -> None:
    until(lambda: takes_mail(daemon), 15)
    until(lambda: daemon.call("status")["ok"], 15)
    assert not mail_db.complaints(daemon.store)
    until(lambda: is_whole(daemon))
    # The reserve needs more room than what fills the disk may leave.
    os.truncate(daemon.store / FILLER, 0)
    until(lambda: (daemon.store / "mail.reserve").exists())


def test_what_is_there_is_listed(full: Daemon) -> None:
    kept = len(list(mail_db.kept(full.store)))

    def adds_up() -> bool:
        """Whether none was indexed between the list and the count of what is missing.

        An index that has been let go of, to be opened again, needs a page for its readers.
        """
        try:
            answer = full.call("message.list", limit=10_000)
        except CommandError as error:
            if "index.db" not in error.message:
                raise
            return False
        missing = answer["unindexed"]["messages"] if answer["unindexed"] else 0
        return len(answer["messages"]) == kept - missing

    until(adds_up)
    until(lambda: full.mtactl("message", "list").returncode == 0)
    problems = full.call("status")["problems"]
    assert len(problems) == len(set(problems)) > 0


@pytest.mark.parametrize("what", [["--all"], ["--query", "subject:fills"]])
def test_deleting_makes_room(full: Daemon, what: list[str]) -> None:
    before = len(list(mail_db.kept(full.store)))
    deleted = full.mtactl("--json", "message", "delete", *what)
    assert deleted.returncode == 0, deleted.stderr
    missing = json.loads(deleted.stdout)["unindexed"]
    left = missing["messages"] if missing else 0
    assert len(list(mail_db.kept(full.store))) == left < before
    if left < before / 2:
        assert_cured(full)


def test_keeping_less_makes_room(full: Daemon) -> None:
    text = config(full.directory, workers=2)
    full.config.write_text(text.replace("store:\n", "store:\n  retention: {messages: 1}\n"))
    assert full.mtactl("config", "reload").returncode == 0
    until(lambda: len(list(mail_db.kept(full.store))) < 20, 15)
    assert_cured(full)
