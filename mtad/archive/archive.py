"""What the methods of the archive work with."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mtad.archive.content import PartReader
from mtad.archive.index import Index, indexed_of
from mtad.archive.pool import Pool
from mtad.archive.progress import Progress
from mtad.archive.uploads import Uploads
from mtad.archive.watches import Watches
from mtad.errors import StoreError
from mtad.ipc.questions import Retention
from mtad.log import event
from mtad.store.database import FILE, Database
from mtad.store.reader import newest, open_reading
from mtad.store.reserve import give_up

_log = logging.getLogger("mtad.archive")

T = TypeVar("T")

_AFTER = "SELECT count(*) FROM message WHERE id > ?"


class Archive:
    """The kept mail of one directory: ``mail``, how far the index is, and what is to be kept.

    ``await mail(work)`` has ``work(connection)`` read mail.db in a thread, and cancels it with its
    caller. ``await progress.current()`` before a question makes its answer up to date;
    ``await progress.past(cursor)`` waits for more, ``await index.read(work)`` asks the index.
    ``watches`` are those who wait, from whom nothing is to be pruned. ``uploads`` become messages,
    ``readers`` are in the midst of a part: id and number. ``sending`` is set when there may be
    something to be sent.
    """

    def __init__(
        self,
        directory: Path,
        retention: Retention,
        news: int,
        health: Callable[[tuple[str, ...]], None],
    ) -> None:
        self.directory = directory
        self.retention = retention
        self._health = health
        self._problems: dict[str, str] = {}
        self.mail = Pool(directory / FILE, _connected)
        self.index = Index(directory, _connected)
        self.watches = Watches()
        self.sending = asyncio.Event()
        self.progress = Progress(
            self.index,
            lambda: self.mail(newest),
            news,
            lambda text: self.troubled("index", text),
            self.sending.set,
        )
        self.uploads = Uploads(directory, lambda text: self.troubled("import", text), news)
        self.readers: dict[tuple[int, int], PartReader] = {}
        self._following = asyncio.get_running_loop().create_task(self.progress.follow())

    def troubled(self, room: str, problem: str) -> None:
        """Tell `mtactl status` of what is wrong in ``room`` now; "": nothing."""
        if problem:
            self.mail.release()
            self.index.read.release()
        if problem != self._problems.get(room, ""):
            if problem:
                event(_log, logging.ERROR, "archive.trouble", room=room, reason=problem)
            self._problems[room] = problem
            # One reason may be in the way of several rooms.
            self._health(tuple(dict.fromkeys(filter(None, self._problems.values()))))

    async def unindexed(self) -> dict[str, Any] | None:
        """Have the index up to date; return what is missing from it where there is no room.

        Then questions are answered from what it has. Raises StoreError: it fails otherwise.
        """
        try:
            await self.progress.current()
        except StoreError as error:
            if not error.full:
                raise
            indexed = await self.index.read(indexed_of)
            (number,) = await self.mail(lambda mail: mail.execute(_AFTER, (indexed,)).fetchone())
            return {"messages": number, "reason": str(error)}
        return None

    def with_room(self, work: Callable[[], T]) -> T:
        """Return what ``work``, in a thread, does; on a full disk it is called again.

        The reserve is given up for it, and if that is not enough, the index. Raises StoreError.
        """
        for make_room in (partial(give_up, self.directory), self._drop_index):
            try:
                return work()
            except StoreError as error:
                if not error.full:
                    raise
            make_room()
        return work()

    def _drop_index(self) -> None:
        event(_log, logging.WARNING, "index.begun", exc_info=None, reason="the disk is full")
        self.index.begin_anew()
        self.index.read.release()

    def close(self) -> None:
        """Index no more, and have the index on disk."""
        self._following.cancel()
        self.index.close()


Params = dict[str, Any]
Result = dict[str, Any]

Method = Callable[[Archive, Params], Awaitable[Result | AsyncGenerator[Result, None]]]
"""Carries out one command; gets every parameter of the table, defaults filled in.

It runs on the event loop, in a task that is cancelled when nobody waits any more, and leaves what
takes time to threads (``archive.mail``). A stream is returned by a method, as an async generator,
once the parameters have been checked and nothing can be missed any more. It raises CommandError,
or any MtadError, to refuse.
"""


def _connected(path: Path) -> sqlite3.Connection:
    """Return a connection to mail.db; one that is missing, or of an old version, is mended first.

    Raises:
        sqlite3.Error, StoreError: it cannot be read.
    """
    try:
        return open_reading(path)
    except (sqlite3.Error, StoreError):
        Database(path.parent).close()
        return open_reading(path)
