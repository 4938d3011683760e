"""What is not whole is found; what can be read of a damaged database is kept."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.mail_db import complaints, connect, kept
from harness.store_rows import keep_message, keep_session

from mtad.errors import StoreError
from mtad.model import ids
from mtad.store.check import check
from mtad.store.database import Database
from mtad.store.removal import remove
from mtad.store.repair import salvage

PAGE = 4096
TRANSCRIPT = ([0, "C", b"EHLO x"],)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path, synced=False) as database:
        yield database


def bodies(store: Database) -> Path:
    return store.path.parent / "bodies"


def test_a_store_that_is_whole(store: Database) -> None:
    keep_message(store, b"short", session=1)
    keep_message(store, b"x" * 100_000, session=2)
    keep_session(store, 1, transcript=TRANSCRIPT)

    found = check(store.path.parent)

    assert (found.messages, found.octets, found.sessions) == (2, 100_005, 1)
    assert (found.unfinished, found.orphans) == (1, 0)
    assert (found.corrupt, found.broken, found.problems) == (False, [], [])


def test_content_that_is_missing_or_changed(store: Database) -> None:
    numbers = [keep_message(store, bytes([n]) * 100_000) for n in range(4)]
    files = [bodies(store) / ids.encode(number) for number in numbers]
    files[0].unlink()
    files[1].write_bytes(b"x" * 100_000)
    files[2].write_bytes(b"x" * 99_999)
    short = keep_message(store, b"short")
    with store.transaction() as mail:
        mail.execute("UPDATE message SET body = CAST('shorT' AS BLOB) WHERE id = ?", (short,))

    found = check(store.path.parent)

    assert found.broken == [*numbers[:3], short]
    assert [problem.partition(": ")[2] for problem in found.problems] == [
        "its content cannot be read: No such file or directory",
        "its content is not what was kept (SHA-256)",
        "its content has 99999 octets of 100000",
        "its content is not what was kept (SHA-256)",
    ]


def test_files_of_no_message(store: Database) -> None:
    keep_message(store, b"x" * 100_000)
    (bodies(store) / ids.encode(4711)).write_bytes(b"x")
    (bodies(store) / "0123456789abcdef.tmp").write_bytes(b"x")

    found = check(store.path.parent)

    assert found.orphans == 2
    assert all(problem.endswith(": belongs to no message") for problem in found.problems)
    assert len(list(bodies(store).iterdir())) == 3  # nothing is changed


def test_only_the_first_problems_are_told(store: Database) -> None:
    for n in range(30):
        (bodies(store) / f"{n}.tmp").touch()
    found = check(store.path.parent)
    assert (found.orphans, len(found.problems)) == (30, 20)


def test_a_check_that_nobody_waits_for_ends(store: Database) -> None:
    fill(store, 1_000)
    with pytest.raises(StoreError, match="interrupted"):
        check(store.path.parent, lambda: True)


def fill(store: Database, count: int, octets: int = 10_000) -> list[int]:
    """Keep messages that can be told apart, and write them back to the file."""
    numbers = [keep_message(store, b"%05d" % n * (octets // 5)) for n in range(count)]
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return numbers


def damage(store: Database, *pages: int) -> None:
    with store.path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(b"\xa5" * PAGE)


def test_a_damaged_database_is_found(store: Database) -> None:
    fill(store, 300)
    damage(store, *range(300, 320))
    found = check(store.path.parent)
    assert found.corrupt
    assert found.problems


def test_no_database_at_all(store: Database) -> None:
    fill(store, 3)
    damage(store, 0)
    found = check(store.path.parent)
    assert found.corrupt
    assert "not a database" in found.problems[0]


def test_what_can_be_read_is_salvaged(store: Database, tmp_path: Path) -> None:
    """Two damaged places, and what lies before, between and behind."""
    numbers = fill(store, 1_000)
    keep_session(store, 1, transcript=TRANSCRIPT)
    damage(store, *range(700, 704), *range(1_500, 1_504))

    salvaged = salvage(tmp_path, 0)

    left = {message.id for message in kept(tmp_path)}
    assert 960 < len(left) < 1_000
    assert {*numbers[:200], *numbers[280:480], *numbers[580:]} <= left
    assert (salvaged.messages, salvaged.sessions) == (len(left), 1)
    assert complaints(tmp_path) == []
    with sqlite3.connect(salvaged.old) as old, pytest.raises(sqlite3.DatabaseError):
        old.execute("SELECT sum(length(hex(body))) FROM message").fetchall()
    assert not check(tmp_path).problems


def test_what_is_in_the_wal_is_salvaged_too(store: Database, tmp_path: Path) -> None:
    fill(store, 1_000)
    damage(store, *range(700, 704))
    late = keep_message(store, b"late")
    assert salvage(tmp_path, 0).messages > 960
    assert late in {message.id for message in kept(tmp_path)}


def test_the_wal_of_another_file_hides_nothing(tmp_path: Path) -> None:
    """As when a mail.db was moved away, and came back beside the WAL of its successor."""
    ours, strange = tmp_path / "ours", tmp_path / "strange"
    for directory in (ours, strange):
        directory.mkdir()
    with Database(ours, synced=False) as store:
        numbers = fill(store, 100)
    with Database(strange, synced=False) as store:
        keep_message(store)
        shutil.copy(f"{store.path}-wal", ours)
    assert check(ours).corrupt

    assert salvage(ours, 0).messages == 100
    assert [message.id for message in kept(ours)] == numbers
    assert check(ours).problems == []


def test_content_of_lost_messages_is_moved_aside(store: Database, tmp_path: Path) -> None:
    keep_message(store, b"x" * 100_000)
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    damage(store, 0)

    salvaged = salvage(tmp_path, 0)

    assert salvaged.messages == 0
    (lost,) = salvaged.old.with_name(f"{salvaged.old.name}.bodies").iterdir()
    assert lost.stat().st_size == 100_000
    assert check(tmp_path).problems == []


def test_ids_of_lost_messages_are_not_given_again(store: Database, tmp_path: Path) -> None:
    future = time.time_ns() + 9 * 365 * 86_400 * 10**9
    keep_message(store, number=future)
    damage(store, 0)
    salvage(tmp_path, future)
    with Database(tmp_path) as database:
        assert keep_message(database) == future + 1


def test_who_has_the_old_file_open_goes_on_with_the_new_one(
    store: Database, tmp_path: Path
) -> None:
    """Also who waits for the lock all the while; and closing the old file harms nothing."""
    fill(store, 1_000)
    damage(store, *range(700, 704))
    with Database(tmp_path, synced=False) as other:
        thread = threading.Thread(target=salvage, args=(tmp_path, 0))
        thread.start()
        written = []
        while thread.is_alive():
            written.append(keep_message(other, b"meanwhile"))
        thread.join()
        written.append(keep_message(store, b"later"))

    assert set(written) <= {message.id for message in kept(tmp_path)}
    assert complaints(tmp_path) == []


def test_removing_goes_on_in_the_new_file(store: Database, tmp_path: Path) -> None:
    numbers = fill(store, 10)
    salvage(tmp_path, 0)
    list(remove(store, [("message", numbers[0])]))
    with connect(tmp_path) as mail:
        assert mail.execute("SELECT count(*) FROM message").fetchone() == (9,)
