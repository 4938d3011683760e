"""Messages listed and counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mtad.archive.conditions import Pattern
from mtad.archive.fields import time_of
from mtad.archive.index import indexed_of
from mtad.archive.search import Search, narrowed, summaries, wanted
from mtad.control.wire import Code
from mtad.errors import CommandError
from mtad.model import ids

if TYPE_CHECKING:
    from mtad.archive.archive import Archive, Method, Params, Result


async def message_list(archive: Archive, params: Params) -> Result:
    """Answer with the newest messages, the last first, and whether there are more."""
    tree = wanted(params["query"], params["run"])
    if params["since"]:
        try:
            tree = narrowed(tree, time_of("after", Pattern((params["since"],))))
        except ValueError as error:
            raise CommandError(f"since: {error}", code=Code.INVALID_PARAMS) from None
    limit = params["limit"]
    unindexed = await archive.unindexed()

    def work(index: sqlite3.Connection) -> Result:
        cursor = indexed_of(index)
        numbers = Search(tree, up_to=cursor).newest(index, limit + 1)
        found, _ = summaries(index, numbers[:limit])
        more = len(numbers) > len(found)
        return {"messages": found, "cursor": ids.encode(cursor), "more": more}

    return {**await archive.index.read(work), "unindexed": unindexed}


async def message_count(archive: Archive, params: Params) -> Result:
    """Answer how many messages there are."""
    search = Search(wanted(params["query"], params["run"]))
    await archive.progress.current()
    return {"count": await archive.index.read(search.count)}


METHODS: Mapping[str, Method] = {
    "message.list": message_list,
    "message.count": message_count,
}
