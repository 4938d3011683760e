"""Sessions: found by what is known of them, shown line by line; counted once, whoever dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from harness.mailroom import archive_of, ask
from harness.store_rows import keep_message, keep_session

from mtad.errors import CommandError, QueryError
from mtad.model import ids
from mtad.store.database import Database

NS = 1_000_000_000
BEGAN = 1_700_000_000 * NS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path, synced=False) as database:
        yield database


async def found(store: Database, query: str) -> list[int]:
    """Return the keys of sessions that match, less what they all have."""
    with archive_of(store.path.parent) as (archive, _):
        answer = await ask(archive, "session.list", query=query)
    return [ids.decode(session["id"]) - BEGAN for session in answer["sessions"]]


@pytest.fixture
def four(store: Database) -> Database:
    """Keep four sessions, the keys of which end in 1 to 4."""
    several: tuple[dict[str, Any], ...] = (
        {"listener": "mx", "peer": "unix"},
        {"listener": "MX2", "peer": "[2001:db8::1]:25", "user": "Bob", "helo": "\udcff.example"},
        {"failed": True, "tls_version": "TLSv1.3", "tls_cipher": "TLS_AES_256_GCM_SHA384"},
        {"failed": True, "peer": "/run/mx.sock", "tls_version": "TLSv1.2", "tls_cipher": "X"},
    )
    for number, known in enumerate(several, 1):
        keep_session(store, BEGAN + number, began_ns=BEGAN + number * NS, **known)
    return store


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [4, 3, 2, 1]),
        ("listener:mx", [4, 3, 1]),
        ("listener:mx*", [4, 3, 2, 1]),
        ("listener:[m", []),
        ("peer:unix", [1]),
        ("peer:192.0.2.1", [3]),
        ("peer:192.0.2.*", [3]),
        ("peer:2001:db8::1", [2]),
        ("peer:/run/*", [4]),
        ("auth:bob", [2]),
        ("auth:*", [2]),
        ("has:auth", [2]),
        ("helo:*.example", [4, 3, 2, 1]),
        ("helo:client.example", [4, 3, 1]),
        ("tls:1.3", [3]),
        ("tls:tlsv1.3", [3]),
        ("tls:TLS_AES*", [3]),
        ("has:tls", [4, 3]),
        ("failed", [4, 3]),
        ("-failed", [2, 1]),
        ("failed tls:1.2", [4]),
        ("(auth:bob OR tls:1.3) -listener:x", [3, 2]),
        ("after:2023-11-14T22:13:22", [4, 3, 2]),
        ("before:2023-11-14T22:13:22", [1]),
        ("after:1h", []),
        (f"id:{ids.encode(BEGAN + 2)}", [2]),
        (f"session:{ids.encode(BEGAN + 2)}", [2]),
    ],
)
async def test_queries(four: Database, query: str, expected: list[int]) -> None:
    assert await found(four, query) == expected


@pytest.mark.parametrize(
    "query", ["subject:x", "faild", "size:>=1", "has:attachment", "text:failed"]
)
async def test_what_a_message_has_finds_no_session(four: Database, query: str) -> None:
    with pytest.raises(CommandError, match=f"sessions are not found by {query}") as refused:
        await found(four, f"listener:mx ({query} OR failed)")
    assert refused.value.code == -32602


async def test_a_query_that_cannot_be_read(four: Database) -> None:
    with pytest.raises(QueryError):
        await found(four, "listener:(")


async def test_a_session_as_a_list_has_it(store: Database) -> None:
    keep_session(store, BEGAN, began_ns=BEGAN, ended_ns=BEGAN + NS // 2, user="\udcff")
    with archive_of(store.path.parent) as (archive, _):
        (session,) = (await ask(archive, "session.list"))["sessions"]
    assert session == {
        "id": ids.encode(BEGAN),
        "began": BEGAN / NS,
        "duration": 0.5,
        "listener": "mx",
        "peer": "192.0.2.1:4711",
        "helo": "client.example",
        "tls": None,
        "user": "?",
        "messages": 1,
        "replies": {"220": 1, "250": 4, "354": 1, "221": 1},
        "ended": "quit",
        "failed": False,
    }


async def test_a_transcript_line_by_line(store: Database) -> None:
    keep_session(
        store,
        BEGAN,
        transcript=(
            [5, "-", b"connected"],
            [12_345_678, "C", b"EHLO x\r\n"],
            [12_345_700, "S", b"250-vm\r\n250 HELP\r\n"],
            [12_345_800, "C", b"NO\x1b[2J\xffOP\r\n"],
            [12_345_900, "C", b"bare\nlf \\"],
            [13_000_000, "C", {"octets": 1234, "message": True}],
            [13_000_001, "C", {"octets": 99_999, "message": False}],
        ),
    )
    number = keep_message(store, session=BEGAN)
    with archive_of(store.path.parent) as (archive, _):
        shown = await ask(archive, "session.show", id=ids.encode(BEGAN))
        assert await ask(archive, "session.show", id="latest") == shown
        assert await ask(archive, "message.transcript", id=ids.encode(number)) == shown

    assert shown["session"]["transcript"] == "all"
    assert shown["messages"] == [ids.encode(number)]
    lines = [(entry["at"], entry["who"], entry["line"]) for entry in shown["entries"]]
    assert lines == [
        (0.000005, "-", "connected"),
        (12.345678, "C", "EHLO x"),
        (12.3457, "S", "250-vm"),
        (12.3457, "S", "250 HELP"),
        (12.3458, "C", "NO\\x1b[2J\\\\xffOP"),
        (12.3459, "C", "bare\\nlf \\\\"),
        (13.0, "C", "(message of 1234 octets)"),
        (13.000001, "C", "(line of 99999 octets)"),
    ]
    assert shown["entries"][6]["octets"] == 1234
    assert [entry["line"] for entry in shown["entries"] if entry.get("open")] == ["bare\\nlf \\\\"]


async def test_a_session_that_still_goes_on(store: Database) -> None:
    keep_session(store, BEGAN, transcript=([5, "-", b"connected"],))
    store.connection.execute("DELETE FROM session")
    with archive_of(store.path.parent) as (archive, _):
        shown = await ask(archive, "session.show", id=ids.encode(BEGAN))
    assert shown["session"] == {"id": ids.encode(BEGAN), "began": BEGAN / NS}
    assert len(shown["entries"]) == 1


async def test_there_is_no_such_session(store: Database) -> None:
    imported = keep_message(store, session=0)
    with archive_of(store.path.parent) as (archive, _):
        for which in ("latest", ids.encode(1)):
            with pytest.raises(CommandError, match="no session"):
                await ask(archive, "session.show", id=which)
        with pytest.raises(CommandError, match="imported"):
            await ask(archive, "message.transcript", id=ids.encode(imported))


async def test_a_very_long_transcript_is_cut(store: Database) -> None:
    entries = tuple([number, "C", b"\x00" * 1000] for number in range(2_000))
    keep_session(store, BEGAN, transcript=entries)
    with archive_of(store.path.parent) as (archive, _):
        shown = (await ask(archive, "session.show", id="latest"))["entries"]
    assert 100 < len(shown) < 2_000
    assert shown[-1]["who"] == "-"


async def test_each_is_counted_once_over_a_restart(store: Database) -> None:
    for number in range(3):
        keep_session(store, BEGAN + number)
        keep_message(store, b"12345")
        with archive_of(store.path.parent) as (archive, _):
            total = (await ask(archive, "stats"))["total"]
            assert (total["sessions"], total["messages"]) == (number + 1, number + 1)
        assert total["octets"] == 5 * (number + 1)


async def test_a_reset_keeps_the_mail(store: Database) -> None:
    keep_message(store, b"12345")
    with archive_of(store.path.parent) as (archive, _):
        await ask(archive, "stats.reset")
        answer = await ask(archive, "stats")
        assert (answer["total"]["messages"], answer["kept"]["messages"]) == (0, 1)
        keep_message(store, b"12345")
        assert (await ask(archive, "stats"))["total"]["messages"] == 1


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\xc1",
        b"\x91\x93",
        msgspec.msgpack.encode(7),
        msgspec.msgpack.encode([[1, "C"]]),
        msgspec.msgpack.encode([[1, "C", "text"]]),
        msgspec.msgpack.encode([[1, "C", {"octets": "x", "message": True}]]),
        msgspec.msgpack.encode([[1, "X" * 100, b"x"]]),
        msgspec.msgpack.encode([[None, "C", b"x"]]),
        b"\x91" * 100_000,
        msgspec.msgpack.encode([[1, "C", b"x" * 2**23]]),
    ],
    ids=lambda octets: octets[:12].hex(),
)
async def test_a_part_that_cannot_be_read_is_told(store: Database, octets: bytes) -> None:
    """What is around it is shown."""
    keep_session(store, BEGAN, transcript=([7_000_000, "C", b"EHLO x\r\n"],))
    last = msgspec.msgpack.encode([[9_000_000, "C", b"QUIT\r\n"]])
    with store.transaction() as mail:
        parts = [(BEGAN, 1, octets), (BEGAN, 2, last)]
        mail.executemany("INSERT INTO transcript VALUES (?, ?, ?)", parts)
    with archive_of(store.path.parent) as (archive, _):
        answer = await ask(archive, "session.show", id=ids.encode(BEGAN))
    first, odd, after = answer["entries"]
    assert (first["line"], after["line"]) == ("EHLO x", "QUIT")
    assert (odd["at"], odd["who"]) == (7.0, "-")
    assert odd["line"].startswith("(part 1 of the transcript cannot be read: ")
