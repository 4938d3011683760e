"""The writer: what is answered is kept, whole, in the order of the ids; faults, and their end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import select
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from harness.mail_db import complaints, connect, kept, orphans
from harness.storing import CAPTURED, SUMMARY, process, run, storing

from mtad.errors import StoreError
from mtad.model import ids
from mtad.model.envelope import Captured, SessionSummary
from mtad.model.rules.values import Bounce, Mail
from mtad.store.envelopes import decode
from mtad.store.schema import VERSION

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a file system")


@pytest.mark.parametrize("durability", ["fsync", "os", "memory"])
async def test_what_was_kept_is_there(tmp_path: Path, durability: str) -> None:
    contents = [b"", b"\0\xff\r\n.\r\n\n\r", b"x" * 65_536, b"y" * 65_537, os.urandom(3_000_000)]
    async with storing(tmp_path, durability) as store:
        answers = [store.begin(content) for content in contents]
        outcomes = [await answer for answer in answers]
    found = list(kept(tmp_path))
    assert [one.content for one in found] == contents
    assert [one.sha256 for one in found] == [hashlib.sha256(one).digest() for one in contents]
    assert [one.size for one in found] == [len(one) for one in contents]
    names = [ids.encode(one.id) for one in found]
    assert outcomes == (["", "", "", "", ""] if durability == "memory" else names)
    assert len(list((tmp_path / "bodies").iterdir())) == 2
    assert complaints(tmp_path) == []
    assert orphans(tmp_path) == set()


async def test_an_envelope_comes_back_as_it_was(tmp_path: Path) -> None:
    """Octets that are no UTF-8, too (PEP 383)."""
    mail = Mail(hold=True, forward="10.0.0.1:25", bounce=Bounce("[::1]:25", text="ä"))
    odd = replace(CAPTURED, recipients=("\udcff@example",), helo="ä\udc80\u2028", mail=mail)
    sent = replace(CAPTURED, mail=mail)
    summary = replace(SUMMARY, helo="\udcff")
    async with storing(tmp_path) as store:
        await store.keep(message=CAPTURED)
        await store.keep(message=odd)
        await store.keep(message=sent)
        store.writer.session(summary)
    with closing(connect(tmp_path)) as database:
        envelopes = [row[0] for row in database.execute("SELECT envelope FROM message ORDER BY id")]
        sessions = database.execute("SELECT key, summary FROM session").fetchall()
    assert [decode(one, Captured) for one in envelopes] == [CAPTURED, odd, sent]
    assert [(key, decode(one, SessionSummary)) for key, one in sessions] == [(7, summary)]


async def test_what_ends_meanwhile_is_one_commit(tmp_path: Path) -> None:
    """The ids of one have no gap; and the eventfd tells how many there are."""
    notify = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    async with storing(tmp_path, notify=notify) as store:
        alone = await store.keep()
        assert os.eventfd_read(notify) == 1
        outcomes = await asyncio.gather(*(store.begin() for _ in range(200)))
        assert os.eventfd_read(notify) == 200
        first, *_, last = sorted(ids.decode(str(outcome)) for outcome in outcomes)
        assert (first > alone + 1, last - first) == (True, 199)
    os.close(notify)


async def test_sessions_and_transcripts_need_no_message(tmp_path: Path) -> None:
    """They are there a tenth of a second later; and the eventfd tells."""
    notify = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    entries = [[12, "C", b"EHLO \xff\r\n"], [13, "S", {"octets": 5, "message": True}]]
    async with storing(tmp_path, notify=notify) as store:
        first = await store.keep()
        os.eventfd_read(notify)
        store.writer.transcript(7, 0, entries)
        store.writer.session(SUMMARY)
        ready, _, _ = await asyncio.to_thread(select.select, [notify], [], [], 5)
        assert ready
        with closing(connect(tmp_path)) as database:
            ((session, part, octets),) = database.execute("SELECT * FROM transcript")
            ((number, key, _),) = database.execute("SELECT * FROM session")
        assert (session, part, msgspec.msgpack.decode(octets)) == (7, 0, entries)
        assert key == 7
        assert number > first
    os.close(notify)


async def test_what_waits_is_committed_at_the_end(tmp_path: Path) -> None:
    async with storing(tmp_path) as store:
        answer = store.begin()
        store.writer.transcript(7, 0, [])
    assert isinstance(answer.result(), str)
    with closing(connect(tmp_path)) as database:
        assert database.execute("SELECT count(*) FROM transcript").fetchone() == (1,)


async def test_a_session_that_fails_takes_no_answer_of_another(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    seen: list[str] = []
    loop.set_exception_handler(lambda _, context: seen.append(context["message"]))

    def fail(_: object) -> None:
        raise ValueError

    async with storing(tmp_path) as store:
        store.writer.keep(CAPTURED, store.writer.body(), fail)
        await store.keep()
    assert seen == ["store answer"]


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    """A third looks: nobody who has seen everything up to an id misses what is committed later."""
    body = (
        "for size in (0, 100, 70_000) * 40:\n"
        "    answers = [store.begin(b'x' * size) for _ in range(3)]\n"
        "    print(*[await answer for answer in answers], sep='\\n')\n"
    )
    with process(tmp_path, body) as one, process(tmp_path, body) as other:
        seen: list[int] = []
        while one.poll() is None or other.poll() is None:
            cursor = seen[-1] if seen else 0
            seen += [message.id for message in kept(tmp_path) if message.id > cursor]
            time.sleep(0.001)
        outs = [writer.communicate(timeout=60) for writer in (one, other)]
    assert [err for _, err in outs] == ["", ""]
    seen += [message.id for message in kept(tmp_path) if message.id > (seen[-1] if seen else 0)]
    answered = [[ids.decode(word) for word in out.split()] for out, _ in outs]
    assert seen == sorted(answered[0] + answered[1])
    assert len(seen) == len(set(seen)) == 720
    assert complaints(tmp_path) == []
    assert orphans(tmp_path) == set()
    assert list((tmp_path / "bodies").glob("*.tmp")) == []


async def test_ids_grow_when_the_clock_is_set_back(tmp_path: Path) -> None:
    """The newest is of tomorrow, and one that is deleted is not given again (state.floor)."""
    tomorrow = time.time_ns() + 86_400 * 10**9
    async with storing(tmp_path) as store:
        await store.keep()
        with closing(connect(tmp_path)) as database, database:
            database.execute("UPDATE message SET id = ?", (tomorrow,))
        numbers = [await store.keep() for _ in range(3)]
        assert numbers == [tomorrow + 1, tomorrow + 2, tomorrow + 3]
        with closing(connect(tmp_path)) as database, database:
            database.execute("INSERT INTO state VALUES ('floor', ?)", (tomorrow + 9,))
            database.execute("DELETE FROM message")
        assert await store.keep() == tomorrow + 10


def _traced(tmp_path: Path, durability: str) -> list[tuple[str, str]]:
    """Return the system calls that matter, up to the answer of a short and of a long message."""
    trace = tmp_path / "trace"
    (tmp_path / "store").mkdir()
    calls = "trace=fsync,fdatasync,rename,write"
    body = (
        "await store.keep()\n"  # the database is made
        "os.write(2, b'begin')\n"
        "await store.keep(b'x' * 70_000)\n"
        "os.write(2, b'answered')\n"
    )
    run(
        tmp_path / "store", body,
        "strace", "-f", "-y", "-s", "16", "-e", calls, "-o", str(trace),
        durability=durability,
    )  # fmt: skip
    steps = []
    for line in trace.read_text().splitlines():
        if match := re.search(r'write\(2<.*?, "(begin|answered)"', line):
            steps.append(("said", match[1]))
        elif match := re.search(
            r"(fsync|fdatasync|rename)\(.*?/store/(mail\.db-wal|bodies)?", line
        ):
            steps.append((match[1], match[2] or "store"))
    begin, end = steps.index(("said", "begin")), steps.index(("said", "answered"))
    return steps[begin + 1 : end]


def test_what_is_answered_is_on_disk(tmp_path: Path) -> None:
    """As the kernel saw it: the file, its name, the directory, the log of the database; answer."""
    assert _traced(tmp_path, "fsync") == [
        ("fdatasync", "bodies"),
        ("rename", "bodies"),
        ("fsync", "bodies"),
        ("fdatasync", "mail.db-wal"),
    ]


def test_nothing_is_synced_for_durability_os(tmp_path: Path) -> None:
    assert _traced(tmp_path, "os") == [("rename", "bodies")]


async def test_memory_promises_so_many_and_keeps_them_later(tmp_path: Path) -> None:
    """Locked by a stranger: the first thousand are promised, the next is refused; all are kept."""
    async with storing(tmp_path, "memory") as store:
        await store.outcome()
        while store.writer._promised:  # noqa: ASYNC110 (nobody is told that it is kept)
            await asyncio.sleep(0.01)
        with closing(connect(tmp_path)) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            answers = [store.begin(b"%d" % number) for number in range(1_001)]
            outcomes = [await answer for answer in answers]
            assert outcomes[:1_000] == [""] * 1_000
            assert isinstance(outcomes[-1], StoreError)
            stranger.execute("ROLLBACK")
    assert [one.content for one in kept(tmp_path)][1:] == [
        b"%d" % number for number in range(1_000)
    ]


# Faults


async def test_a_file_that_could_not_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are kept all the while; no message has to come before it is said that files are, too."""
    monkeypatch.setattr("mtad.store.health._AGAIN_SECONDS", 0.02)
    async with storing(tmp_path) as store:
        await store.keep(b"1")
        aside = (tmp_path / "bodies").rename(tmp_path / "aside")
        (tmp_path / "bodies").touch()
        with pytest.raises(StoreError):
            store.begin(b"x" * 100_000)
        await asyncio.sleep(0.1)
        await store.keep(b"2")
        assert len(store.states) == 1
        assert "bodies" in store.states[0]
        (tmp_path / "bodies").unlink()
        aside.rename(tmp_path / "bodies")
        async with asyncio.timeout(10):
            while store.states[1:] != [""]:  # noqa: ASYNC110 (nobody waits for it)
                await asyncio.sleep(0.01)
        assert not list((tmp_path / "bodies").iterdir())


async def test_a_database_that_is_locked(tmp_path: Path) -> None:
    """For longer than five seconds: not kept, said why, and well without a restart."""
    async with storing(tmp_path) as store:
        await store.keep(b"1")
        with closing(connect(tmp_path)) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            outcome = await store.outcome(b"2")
            assert 4.5 < time.monotonic() - began < 10
            assert isinstance(outcome, StoreError)
            assert not outcome.full
            assert "database is locked (SQLITE_BUSY)" in outcome.message
            stranger.execute("ROLLBACK")
        await store.until_well()
        await store.keep(b"3")
    assert [one.content for one in kept(tmp_path)] == [b"1", b"3"]
    assert [bool(reason) for reason in store.states] == [True, False]


async def test_a_database_that_is_locked_for_a_moment(tmp_path: Path) -> None:
    async with storing(tmp_path) as store:
        await store.keep(b"1")
        with closing(connect(tmp_path)) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            answer = store.begin(b"2")
            await asyncio.sleep(0.3)
            assert not answer.done()
            stranger.execute("ROLLBACK")
        assert isinstance(await answer, str)
    assert store.states == []


async def test_another_writer_that_hangs(tmp_path: Path) -> None:
    """It holds mail.lock, which has no time limit of its own."""
    async with storing(tmp_path) as store:
        await store.keep(b"1")
        hold = "import fcntl; fcntl.flock(store.writer._database._lock, fcntl.LOCK_EX); input()"
        other = process(tmp_path, f"await store.keep(b'2')\nprint(flush=True)\n{hold}")
        assert other.stdout is not None
        await asyncio.to_thread(other.stdout.readline)
        with closing(sqlite3.connect(tmp_path / "mail.db")):
            pass
        while not isinstance(outcome := await store.outcome(b"3"), StoreError):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.01)
        assert "locked by another process" in outcome.message
        other.communicate("\n", timeout=20)
        await store.until_well()
        await store.keep(b"4")
    assert other.returncode == 0
    assert [one.content for one in kept(tmp_path)][-1] == b"4"


async def test_a_corrupt_database(tmp_path: Path) -> None:
    async with storing(tmp_path) as store:
        await store.keep(b"1")
    (tmp_path / "mail.db").write_bytes(b"not a database, whatever its name" * 500)
    async with storing(tmp_path) as store:
        outcome = await store.outcome(b"2")
        assert isinstance(outcome, StoreError)
        assert "file is not a database (SQLITE_NOTADB)" in outcome.message
        (tmp_path / "mail.db").unlink()
        await store.until_well()
        await store.keep(b"3")
    assert [one.content for one in kept(tmp_path)] == [b"3"]


async def test_a_newer_version(tmp_path: Path) -> None:
    async with storing(tmp_path) as store:
        await store.keep(b"1")
    with closing(connect(tmp_path)) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    async with storing(tmp_path) as store:
        outcome = await store.outcome()
    assert isinstance(outcome, StoreError)
    assert f"version {VERSION + 1}, and this mtad knows {VERSION}" in outcome.message
    assert [one.content for one in kept(tmp_path)] == [b"1"]


async def test_a_database_of_another_program(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mail.db")) as database:
        database.execute("CREATE TABLE theirs (id)")
    before = (tmp_path / "mail.db").read_bytes()
    async with storing(tmp_path) as store:
        outcome = await store.outcome()
    assert isinstance(outcome, StoreError)
    assert "of another program" in outcome.message
    assert (tmp_path / "mail.db").read_bytes() == before


async def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    async with storing(directory) as store:
        for content in (b"short", b"x" * 70_000):
            outcome = await store.outcome(content)
            assert isinstance(outcome, StoreError)
            assert not outcome.full
            assert "No such file or directory (ENOENT)" in outcome.message
        directory.mkdir()
        await store.until_well()
        await store.keep(b"x" * 70_000)
    assert len(list(kept(directory))) == 1


def _remove(directory: Path, what: str) -> None:
    names = os.listdir(directory) if what == "everything" else [what]  # noqa: PTH208 (names)
    subprocess.run(["rm", "-r", *names], cwd=directory, check=True)


@pytest.mark.parametrize("what", ["mail.db", "everything"])
async def test_a_store_that_somebody_has_emptied(tmp_path: Path, what: str) -> None:
    """Another begins at once; an idle writer of the old file writes to the new one, too."""
    async with storing(tmp_path) as store, storing(tmp_path) as idle:
        await store.keep(b"x" * 70_000)
        await idle.keep(b"2")
        await asyncio.to_thread(_remove, tmp_path, what)
        await store.keep(b"y" * 70_000)
        await idle.keep(b"4")
        await store.keep(b"5")
        assert [one.content for one in kept(tmp_path)] == [b"y" * 70_000, b"4", b"5"]
    assert complaints(tmp_path) == []


@needs_root
@pytest.mark.root
def test_a_full_disk(tmp_path: Path) -> None:
    """A file system of 3 MiB in a mount namespace of the test's own; room is made, and it works."""
    body = (
        "kept = 0\n"
        "while not isinstance(outcome := await store.outcome(bytes(30_000)), StoreError):\n"
        "    kept += 1\n"
        "print(outcome.full, outcome)\n"
        "big = await store.outcome(bytes(3_000_000))\n"
        "print(big.full, big)\n"
        "print([name for name in os.listdir(directory / 'bodies')])\n"
        "os.unlink(directory / 'ballast')\n"
        "await store.until_well()\n"
        "await store.keep(bytes(30_000))\n"
        "from harness.mail_db import complaints, kept as found\n"
        "print(sum(1 for _ in found(directory)) - kept, complaints(directory), store.states[1:])"
    )
    mount = (
        f"mount -t tmpfs -o size=3m none {tmp_path} &&"
        f' head -c 1600000 /dev/zero > {tmp_path}/ballast && exec "$@"'
    )
    full, big, bodies, last = run(tmp_path, body, "unshare", "--mount", "sh", "-c", mount, "sh")
    assert re.fullmatch(r"True .*database or disk is full \(SQLITE_FULL\).*", full)
    assert re.fullmatch(r"True .*No space left on device \(ENOSPC\).*", big)
    assert (bodies, last) == ("[]", "1 [] ['']")


@needs_root
@pytest.mark.root
def test_a_read_only_file_system(tmp_path: Path) -> None:
    body = (
        "for content in (b'short', bytes(70_000)):\n"
        "    outcome = await store.outcome(content)\n"
        "    print(outcome.full, outcome)\n"
        "import subprocess\n"
        "subprocess.run(['umount', str(directory)], check=True)\n"
        "await store.until_well()\n"
        "print(await store.keep() > 0)\n"
    )
    mount = f'mount --bind -o ro {tmp_path} {tmp_path} && cd / && exec "$@"'
    *faults, well = run(tmp_path, body, "unshare", "--mount", "sh", "-c", mount, "sh")
    assert len(faults) == 2
    for fault in faults:
        assert re.fullmatch(r"False .*Read-only file system \(EROFS\).*", fault)
    assert well == "True"


async def test_what_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    async with storing(tmp_path) as store:
        for size in (10, 300_000):
            body = store.writer.body()
            body.write(b"x" * size)
            assert len(list((tmp_path / "bodies").glob("*.tmp"))) == (size > 65_536)
            body.discard()
            body.discard()
        assert list((tmp_path / "bodies").iterdir()) == []


def test_others_may_not_read(tmp_path: Path) -> None:
    run(tmp_path, "await store.keep(bytes(70_000))")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}
    assert len(files) == 3
    assert (tmp_path / "bodies").stat().st_mode & 0o777 == 0o750


def test_the_order_of_answers_is_that_of_ids(tmp_path: Path) -> None:
    out = run(tmp_path, "for _ in range(50): print(await store.keep())")
    assert all(int(a) < int(b) for a, b in pairwise(out))
