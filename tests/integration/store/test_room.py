"""What the reserve is for, and when there is room for it, on a file system that is really full."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from harness.mail_db import connect
from harness.mounts import mount
from harness.storing import storing

from mtad.archive.index import open_index
from mtad.archive.pool import Pool
from mtad.archive.retention import Excess, doomed
from mtad.errors import StoreError
from mtad.store.reader import transcript
from mtad.store.reserve import FILE, is_short

pytestmark = [pytest.mark.integration, pytest.mark.root]

_MIB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB, of which the reserve takes 4."""
    # In nobody's namespace: the threads of a pool would have to leave it, too.
    mount("-t", "tmpfs", "-o", "size=40m", "store", tmp_path)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def fill(disk: Path, *, but: int) -> None:
    """Leave so many octets."""
    with (disk / "filler").open("wb") as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        os.posix_fallocate(file.fileno(), 0, free - but)


def test_room_is_short_until_the_reserve_can_be_made(disk: Path) -> None:
    fill(disk, but=8 * _MIB)
    assert is_short(disk)
    (disk / FILE).touch()
    assert not is_short(disk)
    (disk / FILE).unlink()
    fill(disk, but=13 * _MIB)
    assert not is_short(disk)


@pytest.mark.parametrize("reserved", [True, False])
async def test_a_reader_has_the_reserve_for_its_page(disk: Path, reserved: bool) -> None:
    """Of a WAL database readers share an index in a file, which is made with the first."""
    path = disk / "index.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("CREATE TABLE t AS SELECT 7 AS number")
        made.commit()
    if reserved:
        (disk / FILE).write_bytes(bytes(_MIB))
    fill(disk, but=0)
    ask = Pool(path, open_index)
    if reserved:
        assert await ask(lambda index: index.execute("SELECT number FROM t").fetchone()) == (7,)
        assert not (disk / FILE).exists()
    else:
        with pytest.raises(StoreError) as caught:
            await ask(lambda index: index.execute("SELECT number FROM t").fetchone())
        assert caught.value.full
    ask.release()


async def test_nothing_works_again_before_what_a_row_takes_has_room(disk: Path) -> None:
    async with storing(disk) as store:
        assert isinstance(await store.outcome(), str)
        fill(disk, but=24 * 1024)  # a page would have room
        assert isinstance(await store.outcome(bytes(40_000)), StoreError)
        await asyncio.sleep(2.5)  # it is tried each second
        (reason,) = store.states
        assert "full" in reason
        (disk / "filler").unlink()
        await store.until_well()
    assert store.states == [reason, ""]
    # Of what was tried nothing is to be seen: mail that was imported has the session 0.
    with closing(connect(disk)) as mail:
        assert list(transcript(mail, 0)) == []
        assert [key for _, key in doomed(mail, Excess(0, 0, 0), 0)] == [-1]
