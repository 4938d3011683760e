"""What is kept, read back; and what a mail.db that cannot be read is said to be."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from harness.store_rows import CAPTURED, SUMMARY, keep_message, keep_session

from mtad.errors import StoreError
from mtad.store import reader
from mtad.store.bodies import IN_ROW
from mtad.store.check import check
from mtad.store.database import BODIES, FILE, Database
from mtad.store.envelopes import encode
from mtad.store.removal import remove


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path, synced=False) as database:
        yield database


@pytest.fixture
def mail(store: Database) -> Iterator[sqlite3.Connection]:
    with closing(reader.open_reading(store.path)) as mail:
        yield mail


def test_messages_come_in_the_order_of_their_ids(store: Database, mail: sqlite3.Connection) -> None:
    numbers = [keep_message(store, b"%d" % number) for number in range(4)]
    found = list(reader.messages(mail, numbers[0], numbers[2]))
    assert [kept.id for kept in found] == numbers[1:3]
    kept = reader.message(mail, numbers[0])
    assert kept is not None
    assert kept.envelope == replace(CAPTURED, received_ns=numbers[0])
    assert (kept.body, kept.file, kept.size) == (b"0", None, 1)
    assert reader.message(mail, 1) is None


@pytest.mark.parametrize("size", [10, 100_000])
def test_octets(store: Database, mail: sqlite3.Connection, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"end"
    kept = reader.message(mail, keep_message(store, content))
    assert kept is not None
    directory = store.path.parent
    assert reader.octets(directory, kept, 0, len(content) + 1) == content
    assert reader.octets(directory, kept, len(content) - 3, 2) == b"en"
    assert reader.octets(directory, kept, len(content), 5) == b""


def test_the_newest_is_of_messages_and_sessions_and_what_was_deleted(
    store: Database, mail: sqlite3.Connection
) -> None:
    assert reader.newest(mail) == 0
    first = keep_message(store)
    assert reader.newest(mail) == first
    second = keep_session(store, 7)
    assert reader.newest(mail) == second
    list(remove(store, [("session", second), ("message", first)]))
    assert reader.newest(mail) == second


def test_sessions(store: Database, mail: sqlite3.Connection) -> None:
    entries = ([1, "C", b"EHLO x"], [2, "S", b"250 y"])
    numbers = [keep_session(store, key, transcript=entries) for key in (5, 6, 7)]
    assert reader.session(mail, 6) == replace(SUMMARY, key=6)
    assert reader.session(mail, 8) is None
    assert [known.key for _, known in reader.sessions(mail, numbers[2])] == [6, 5]
    assert [known.key for _, known in reader.sessions_after(mail, numbers[0], numbers[2])] == [6, 7]
    assert [tuple(entry) for entry in reader.transcript(mail, 6)] == [tuple(e) for e in entries]


def test_an_envelope_that_cannot_be_understood_is_left_out(
    store: Database, mail: sqlite3.Connection
) -> None:
    first, odd, last = (keep_message(store) for _ in range(3))
    session, odd_session = keep_session(store, 1), keep_session(store, 2)
    with store.transaction() as writing:
        writing.execute("UPDATE message SET envelope = ? WHERE id = ?", (b"{}", odd))
        writing.execute("UPDATE session SET summary = ? WHERE id = ?", (b"{", odd_session))
    assert [kept.id for kept in reader.messages(mail, 0, last)] == [first, last]
    assert [number for number, _ in reader.sessions_after(mail, 0, reader.newest(mail))] == [
        session
    ]


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"envelope": b"[" * 100_000}, 1),
        ({"envelope": json.dumps({**asdict(CAPTURED), "received_ns": 10**30}).encode()}, 1),
        ({"envelope": json.dumps({**asdict(CAPTURED), "worker": -1}).encode()}, 1),
        ({"envelope": b" " * 2**25}, 1),
        ({}, 2**63 - 1),
        ({}, -1),
    ],
)
def test_a_row_that_nobody_of_ours_has_written_is_left_out(
    changes: dict[str, bytes], size: int, store: Database, mail: sqlite3.Connection
) -> None:
    first, odd, last = (keep_message(store) for _ in range(3))
    row = {"envelope": encode(CAPTURED), **changes, "size": size, "id": odd}
    with store.transaction() as writing:
        writing.execute("UPDATE message SET envelope = :envelope, size = :size WHERE id = :id", row)
    assert [kept.id for kept in reader.messages(mail, 0, last)] == [first, last]


@pytest.mark.parametrize(
    "changes",
    [{"began_ns": 10**30}, {"replies": {"250": 2**80}}, {"phases": {"data": {"9999999999": 1}}}],
)
def test_a_session_with_numbers_beyond_all_bounds_is_left_out(
    changes: dict[str, object], store: Database, mail: sqlite3.Connection
) -> None:
    odd, last = keep_session(store, 1), keep_session(store, 2)
    summary = json.dumps({**asdict(SUMMARY), **changes}).encode()
    with store.transaction() as writing:
        writing.execute("UPDATE session SET summary = ? WHERE id = ?", (summary, odd))
    assert [number for number, _ in reader.sessions_after(mail, 0, reader.newest(mail))] == [last]
    assert reader.session(mail, 1) is None


def test_a_body_in_a_row_that_is_longer_than_any_is_not_read(
    store: Database, mail: sqlite3.Connection
) -> None:
    number = keep_message(store)
    with store.transaction() as writing:
        writing.execute("UPDATE message SET body = zeroblob(?)", (IN_ROW + 1,))
    kept = reader.message(mail, number)
    assert kept is not None
    assert kept.body is None


@pytest.mark.parametrize("name", ["pipe", "link", ".", "../outside", "{}/outside", "a\0b", ""])
def test_content_is_read_from_files_of_the_store_alone(
    name: str, tmp_path: Path, store: Database, mail: sqlite3.Connection
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    os.mkfifo(tmp_path / BODIES / "pipe")
    (tmp_path / BODIES / "link").symlink_to(outside)
    number = keep_message(store)
    with store.transaction() as writing:
        writing.execute("UPDATE message SET body = NULL, file = ?", (name.format(tmp_path),))
    kept = reader.message(mail, number)
    assert kept is not None
    with pytest.raises(OSError, match=r"no name|no regular|Too many levels"):
        reader.octets(tmp_path, kept, 0, 10)
    assert check(tmp_path).broken == [number]


def test_nothing_can_be_changed(store: Database, mail: sqlite3.Connection) -> None:
    number = keep_message(store)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        mail.execute("DELETE FROM message WHERE id = ?", (number,))


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as mail:
        mail.execute("PRAGMA user_version = 99")


def _of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as mail:
        mail.execute("PRAGMA application_id = 1")


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (Path.unlink, sqlite3.OperationalError, "unable to open"),
        (lambda path: path.write_bytes(b"no database" * 500), sqlite3.DatabaseError, "not a data"),
        (_newer, StoreError, "version 99"),
        (_of_another_program, StoreError, "application 0x1"),
    ],
)
def test_what_cannot_be_read_is_not_opened(
    tmp_path: Path, spoil: Callable[[Path], object], error: type[Exception], says: str
) -> None:
    Database(tmp_path).close()
    spoil(tmp_path / FILE)
    with pytest.raises(error, match=says):
        reader.open_reading(tmp_path / FILE)
