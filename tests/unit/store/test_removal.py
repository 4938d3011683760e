"""What is deleted is gone, and its id is not given again; writers hardly wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.store_rows import keep_message, keep_session

from mtad.store.database import BODIES, Database
from mtad.store.removal import remove


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path, synced=False) as database:
        yield database


def count(store: Database, table: str) -> int:
    (number,) = store.connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
    return int(number)


def test_rows_and_files_go(store: Database) -> None:
    short = keep_message(store, b"short")
    large = keep_message(store, b"x" * 100_000)
    kept = keep_message(store, b"y" * 100_000)

    (removed,) = remove(store, [("message", short), ("message", large), ("message", 4711)])

    assert removed.messages == [short, large]
    assert removed.octets == 100_005
    assert count(store, "message") == 1
    (file,) = (store.path.parent / "bodies").iterdir()
    assert file.read_bytes()[:1] == b"y"
    assert keep_message(store) > kept


@pytest.mark.parametrize("name", ["../outside", "{}/outside", "a\0b", ".", "directory"])
def test_only_files_of_the_store_are_removed(name: str, store: Database, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    (tmp_path / BODIES / "directory").mkdir()
    number = keep_message(store)
    with store.transaction() as mail:
        mail.execute("UPDATE message SET body = NULL, file = ?", (name.format(tmp_path),))
    (removed,) = remove(store, [("message", number)])
    assert removed.messages == [number]
    assert outside.exists()


def test_a_session_goes_with_its_transcript(store: Database) -> None:
    first = keep_session(store, 1, transcript=([0, "C", b"EHLO x"],))
    keep_session(store, 2, transcript=([0, "C", b"EHLO x"],))

    (removed,) = remove(store, [("session", first)])

    assert removed.sessions == [first]
    assert count(store, "session") == count(store, "transcript") == 1


def test_a_transcript_alone(store: Database) -> None:
    keep_session(store, 1, transcript=([0, "C", b"EHLO x"],))
    list(remove(store, [("transcript", 1)]))
    assert (count(store, "session"), count(store, "transcript")) == (1, 0)


def test_the_id_of_the_newest_is_not_given_again(store: Database) -> None:
    future = time.time_ns() + 9 * 365 * 86_400 * 10**9
    keep_message(store, number=future)
    list(remove(store, [("message", future)]))
    assert keep_message(store) == future + 1


def test_nothing_to_remove(store: Database) -> None:
    assert list(remove(store, [])) == []


def test_a_writer_waits_less_than_50_ms(store: Database) -> None:
    """Enough is deleted for many transactions, while another writer comes again and again."""
    doomed = [keep_message(store, b"x" * 60_000) for _ in range(3_000)]
    waited: list[float] = []
    done = threading.Event()

    def write() -> None:
        with Database(store.path.parent, synced=False) as writer:
            while not done.is_set():
                began = time.monotonic()
                writer.begin()
                waited.append(time.monotonic() - began)
                writer.commit()
                time.sleep(0.001)

    thread = threading.Thread(target=write)
    thread.start()
    transactions = len(list(remove(store, [("message", number) for number in doomed])))
    done.set()
    thread.join()

    waited.sort()
    assert transactions > 1
    assert count(store, "message") == 0
    # The middle of those that met a transaction: a slow disk is not ours.
    assert waited[-(transactions // 2)] < 0.05
