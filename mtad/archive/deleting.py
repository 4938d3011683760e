"""Messages deleted because somebody asks for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mtad.archive.search import Search, wanted
from mtad.control.params import LATEST
from mtad.model import ids
from mtad.store.database import Database
from mtad.store.reader import newest
from mtad.store.removal import remove

if TYPE_CHECKING:
    from mtad.archive.archive import Archive, Method, Params, Result

_BATCH = 500


async def message_delete(archive: Archive, params: Params) -> Result:
    """Delete messages by their ids, or those that match; answer how many there were."""
    tree = wanted(params["query"], params["run"])
    unindexed = None
    if params["query"] or params["run"]:
        unindexed = await archive.unindexed()
        numbers = await archive.index.read(Search(tree).ids)
    elif params["all"]:
        numbers = await archive.mail(_all)
    else:
        latest = await archive.mail(_latest)
        numbers = [latest if one == LATEST else ids.decode(one) for one in params["ids"]]
    deleted = await asyncio.to_thread(_delete, archive, numbers)
    return {"deleted": deleted, "unindexed": unindexed}


def _all(mail: sqlite3.Connection) -> list[int]:
    rows = mail.execute("SELECT id FROM message WHERE id BETWEEN 0 AND ?", (newest(mail),))
    return [number for (number,) in rows]


def _latest(mail: sqlite3.Connection) -> int:
    row = mail.execute("SELECT max(id) FROM message WHERE id <= ?", (newest(mail),)).fetchone()
    return int(row[0] or 0)


def _delete(archive: Archive, numbers: Sequence[int]) -> int:
    deleted = 0

    def work() -> None:
        nonlocal deleted
        with Database(archive.directory) as database:
            for first in range(0, len(numbers), _BATCH):
                batch = numbers[first : first + _BATCH]
                archive.index.leaving(batch)
                for removed in remove(database, [("message", number) for number in batch]):
                    deleted += len(removed.messages)
                    archive.index.forget(removed, pruned=False)

    archive.with_room(work)
    return deleted


METHODS: Mapping[str, Method] = {"message.delete": message_delete}
