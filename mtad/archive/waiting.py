"""Mail that is waited for, and mail that is not to come.

A cursor is an id: who looks above it, then above that up to which he has looked, misses nothing,
as ids grow in the order of the commits. What has matched once counts, even if it is deleted
meanwhile; what has not been looked at yet is not pruned.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mtad.archive.conditions import MAX_ID
from mtad.archive.query import Tree
from mtad.archive.search import MAX_OCTETS, Search, Summary, summaries, wanted
from mtad.archive.watches import Watch
from mtad.control.params import LATEST
from mtad.model import ids
from mtad.store.reader import newest

if TYPE_CHECKING:
    from mtad.archive.archive import Archive, Method, Params, Result

_INSTEAD = 10
_PAGE = 50


class _Look:
    """Looks for ``wanted`` matches of ``tree``, from a watch's place on, as mail comes.

    ``last`` is the id of the last match, ``summaries`` has as many as go into one answer.
    """

    def __init__(self, archive: Archive, tree: Tree, wanted: int, watch: Watch) -> None:
        self.count = 0
        self.last = 0
        self.summaries: list[Summary] = []
        self._archive = archive
        self._tree = tree
        self._wanted = wanted
        self._watch = watch
        self._room = MAX_OCTETS

    @property
    def is_enough(self) -> bool:
        return self.count >= self._wanted

    async def on(self) -> None:
        """Return when there are enough."""
        await self._archive.progress.current()
        await self.once()
        while not self.is_enough:
            await self._archive.progress.past(self._watch.seen)
            await self.once()

    async def once(self) -> None:
        """Look at what has come since."""
        up_to = self._archive.index.indexed
        search = Search(self._tree, after=self._watch.seen, up_to=up_to)
        missing = self._wanted - self.count

        def work(index: sqlite3.Connection) -> tuple[list[int], list[Summary], int]:
            numbers = search.oldest(index, missing)
            return numbers, *summaries(index, numbers, self._room)

        numbers, found, self._room = await self._archive.index.read(work)
        self.summaries += found
        self.count += len(numbers)
        self.last = numbers[-1] if numbers else self.last
        self._watch.seen = max(self._watch.seen, up_to)


async def _looked(
    archive: Archive, params: Params, count: int, after: int, seconds: float
) -> _Look:
    """Return what was found once it is enough, or the time is over."""
    tree = wanted(params["query"], params["run"])
    with archive.watches.begun(after) as watch:
        look = _Look(archive, tree, count, watch)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await look.on()
        if not look.is_enough:
            # What was committed in time counts, whether the index has had the time or not.
            await archive.progress.current()
            await look.once()
    return look


async def message_wait(archive: Archive, params: Params) -> Result:
    """Answer when so many messages have come, or, with ``waited``, when the time is over."""
    after = await _cursor(archive, params["after"]) if params["after"] else -1
    look = await _looked(archive, params, params["count"], after, params["timeout"])
    result = {"ok": look.is_enough, "messages": look.summaries, "count": look.count}
    if look.is_enough:
        # Who goes on from here meets the next match, even if that is there already.
        return {**result, "cursor": ids.encode(look.last)}
    instead = Search(after=after)
    came, _ = await archive.index.read(
        lambda index: summaries(index, instead.newest(index, _INSTEAD))
    )
    cursor = ids.encode(archive.index.indexed)
    matched = {one["id"] for one in look.summaries}
    others = [one for one in came if one["id"] not in matched]
    return {**result, "waited": True, "instead": others, "cursor": cursor}


async def message_expect_none(archive: Archive, params: Params) -> Result:
    """Answer when a message has come, or the time is over without."""
    after = await _cursor(archive, params["after"])
    look = await _looked(archive, params, 1, after, params["for"])
    return {"ok": not look.count, "messages": look.summaries}


async def _cursor(archive: Archive, text: str) -> int:
    return await archive.mail(newest) if text == LATEST else ids.decode(text)


async def message_follow(archive: Archive, params: Params) -> AsyncGenerator[Result, None]:
    """Answer with each message that comes from now on."""
    tree = wanted(params["query"], params["run"])
    return _following(archive, tree, await archive.mail(newest))


async def _following(archive: Archive, tree: Tree, seen: int) -> AsyncGenerator[Result, None]:
    while True:
        up_to = await archive.progress.past(seen)
        search = Search(tree, after=seen, up_to=up_to)

        def work(
            index: sqlite3.Connection, search: Search = search
        ) -> tuple[list[int], list[Summary]]:
            numbers = search.oldest(index, _PAGE)
            return numbers, summaries(index, numbers, MAX_ID)[0]

        numbers, found = await archive.index.read(work)
        for one in found:
            yield one
        seen = numbers[-1] if len(numbers) == _PAGE else up_to


METHODS: Mapping[str, Method] = {
    "message.wait": message_wait,
    "message.expect-none": message_expect_none,
    "message.follow": message_follow,
}
