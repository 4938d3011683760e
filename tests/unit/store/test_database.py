"""The database: made once, brought up to its version, and faults as people read them."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from harness.mail_db import connect, kept
from harness.store_rows import keep_message
from harness.storing import process

from mtad.errors import StoreError
from mtad.store import database
from mtad.store.bodies import remove_orphans
from mtad.store.database import Database, error_of, migrate
from mtad.store.schema import APPLICATION_ID, MIGRATIONS, VERSION


def version(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return application, number


def tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name")
    return [row[0] for row in rows]


@pytest.mark.parametrize("start", range(VERSION + 1))
def test_every_earlier_version_becomes_the_newest(start: int) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as old:
        for script in MIGRATIONS[:start]:
            old.executescript(script)
        if start:
            old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            old.execute(f"PRAGMA user_version = {start}")
        migrate(old)
        assert version(old) == (APPLICATION_ID, VERSION)
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
            migrate(new)
            assert tables(old) == tables(new)


def test_a_migration_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    later = (*MIGRATIONS, "CREATE TABLE more (id); CREATE TABLE message (id)")
    monkeypatch.setattr(database, "MIGRATIONS", later)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            migrate(connection)
        assert version(connection) == (APPLICATION_ID, VERSION)
        assert not any("more" in sql for sql in tables(connection))


def test_two_processes_make_it_at_once(tmp_path: Path) -> None:
    started = [process(tmp_path, "print(await store.keep())") for _ in range(4)]
    outcomes = [one.communicate(timeout=30) for one in started]
    assert [err for _, err in outcomes] == [""] * 4
    assert len({out for out, _ in outcomes}) == 4


def test_how_it_is_kept(tmp_path: Path) -> None:
    with Database(tmp_path) as opened:
        found = {
            name: opened.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "auto_vacuum")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "auto_vacuum": 2}


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    with Database(tmp_path) as opened:
        with opened.transaction() as connection:
            connection.execute("INSERT INTO state VALUES ('floor', 1)")

        def twice() -> None:
            with opened.transaction() as connection:
                connection.execute("UPDATE state SET value = 2")
                connection.execute("INSERT INTO state VALUES ('floor', 3)")

        with pytest.raises(StoreError, match=r"mail\.db: UNIQUE constraint failed"):
            twice()
        with opened.transaction() as connection:
            assert connection.execute("SELECT value FROM state").fetchall() == [(1,)]


def test_who_does_not_wait_is_told_so(tmp_path: Path) -> None:
    with Database(tmp_path) as one, Database(tmp_path) as other:
        assert one.begin()
        assert not other.begin(wait=False)
        one.rollback()
        assert other.begin(wait=False)
        other.commit()


def test_a_file_that_was_moved_away_is_whole(tmp_path: Path) -> None:
    """What was only in its WAL goes with it, whoever else has it open; mail goes into a new one."""
    with Database(tmp_path) as one, Database(tmp_path), closing(connect(tmp_path)):
        before = keep_message(one, b"before")
        moved = one.path.rename(tmp_path / "moved.db")
        after = keep_message(one, b"after")
        with closing(sqlite3.connect(f"{moved.as_uri()}?mode=ro", uri=True)) as old:
            assert old.execute("SELECT id FROM message").fetchall() == [(before,)]
    assert [message.id for message in kept(tmp_path)] == [after]


def test_a_file_that_was_emptied_is_as_one_that_is_gone(tmp_path: Path) -> None:
    """Whoever has it open, and its WAL, which would give it back in part; new mail is whole."""
    with Database(tmp_path) as one, Database(tmp_path) as two, closing(connect(tmp_path)):
        keep_message(one, b"before")
        keep_message(two, b"before")
        os.truncate(one.path, 0)
        after = [keep_message(database, b"after") for database in (one, two, one)]
        (wal,) = tmp_path.glob("mail.db-wal.old-*")
        assert wal.stat().st_size
    assert [message.id for message in kept(tmp_path)] == after


KILLED = """
await store.keep(b"short")
await store.keep(b"x" * 100_000)
os.kill(os.getpid(), 9)
"""


def test_what_belongs_to_a_file_that_is_gone_is_set_aside(tmp_path: Path) -> None:
    """The commits in its WAL, after a kill, and the content: both are whole beside each other."""
    store = tmp_path / "store"
    store.mkdir()
    with process(store, KILLED) as killed:
        assert killed.wait(20) == -signal.SIGKILL
    (content,) = (store / "bodies").iterdir()
    growing = store / "bodies" / "0123456789abcdef.tmp"
    growing.write_bytes(b"half")
    (store / "mail.db").rename(tmp_path / "mail.db")

    with Database(store) as new:
        after = keep_message(new, b"after")
        assert remove_orphans(store) == 1  # only what had grown

    assert [message.id for message in kept(store)] == [after]
    (bodies,) = store.glob("bodies.old-*")
    assert [path.name for path in bodies.iterdir()] == [content.name]
    (wal,) = store.glob("mail.db-wal.old-*")
    bodies.rename(tmp_path / "bodies")
    wal.rename(tmp_path / "mail.db-wal")
    assert [message.size for message in kept(tmp_path)] == [5, 100_000]


@pytest.mark.parametrize(
    ("error", "full", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True, "make room"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True, "make room"),
        (OSError(errno.EIO, "Input/output error"), False, r"\(EIO\)"),
        (ValueError("odd"), False, "ValueError: odd"),
    ],
)
def test_an_error_says_what_would_help(error: Exception, full: bool, words: str) -> None:
    with pytest.raises(StoreError, match=words) as caught:
        raise error_of(error, Path("/store"))
    assert caught.value.full == full
    assert "/store" in str(caught.value)
