"""Files that belong to no message: found, and removed beside writers that live."""

from __future__ import annotations

import os
from pathlib import Path

from harness.mail_db import kept, orphans
from harness.storing import process, storing

from mtad.store.bodies import remove_orphans
from mtad.store.database import BODIES, Database

LONG = b"x" * 70_000


async def test_files_without_a_row_are_removed(tmp_path: Path) -> None:
    async with storing(tmp_path) as store:
        await store.keep(LONG)
        (one,) = (tmp_path / "bodies").iterdir()
        one.with_name("whatever").write_bytes(b"y")
        one.with_name(one.name.replace(".", ".0")).write_bytes(b"of the id, and not its file")
        assert remove_orphans(tmp_path) == 2
        await store.keep(LONG)
        assert remove_orphans(tmp_path) == 0
    assert [message.content for message in kept(tmp_path)] == [LONG, LONG]
    assert orphans(tmp_path) == set()


async def test_what_is_still_arriving_stays_while_its_writer_lives(tmp_path: Path) -> None:
    """And goes when the writer was killed."""
    async with storing(tmp_path) as store:
        begin = "body = store.writer.body()\nbody.write(bytes(70_000))\n"
        with process(tmp_path, f"{begin}print(flush=True)\ninput()") as other:
            assert other.stdout is not None
            other.stdout.readline()
            mine = store.writer.body()
            mine.write(LONG)
            assert remove_orphans(tmp_path) == 0
            assert len(_growing(tmp_path)) == 2
            other.kill()
        assert remove_orphans(tmp_path) == 1
        assert len(_growing(tmp_path)) == 1
        mine.discard()


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    with Database(tmp_path):
        pass
    os.mkfifo(tmp_path / BODIES / "x.tmp")
    (tmp_path / BODIES / "y.tmp").mkdir()
    (tmp_path / BODIES / "z").mkdir()
    (tmp_path / BODIES / "left.tmp").touch()
    assert remove_orphans(tmp_path) == 1
    assert sorted(os.listdir(tmp_path / BODIES)) == ["x.tmp", "y.tmp", "z"]  # noqa: PTH208


def test_writers_and_who_removes_orphans(tmp_path: Path) -> None:
    """Nothing that was answered is lost, however often they are removed meanwhile."""
    body = "for _ in range(150): print(await store.keep(bytes(70_000)))"
    with process(tmp_path, body) as one, process(tmp_path, body) as other:
        rounds = 0
        while one.poll() is None or other.poll() is None:
            if (tmp_path / "bodies").exists():
                remove_orphans(tmp_path)  # perhaps one that is new and not locked yet: made again
                rounds += 1
        answered = [int(word) for each in (one, other) for word in each.communicate()[0].split()]
    assert rounds > 5
    assert sorted(answered) == [message.id for message in kept(tmp_path)]
    assert len(answered) == 300
    assert orphans(tmp_path) == set()


def _growing(directory: Path) -> list[Path]:
    return list((directory / "bodies").glob("*.tmp"))
