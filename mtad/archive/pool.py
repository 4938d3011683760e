"""Threads that read a database, so that the event loop never waits for one.

A question that turns out to take long begins again in one of two threads that have nothing but such
questions, and may take a limited time: a quick one is never behind more than a moment of each.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from mtad.errors import CommandError, StoreError
from mtad.store.database import error_of, identity_of
from mtad.store.reserve import give_up

# Whether a question is to end is looked at after so many steps of SQLite's machine.
_STEPS = 10_000
_QUICK_THREADS, _SLOW_THREADS = 3, 2
_QUICK_SECONDS = 0.5
_MOST_SECONDS = 10.0

T = TypeVar("T")

Work = Callable[[sqlite3.Connection], T]
"""Reads from a connection, in a thread; blocking. It may be begun again."""


class _TooLongError(Exception):
    """The SQL of a work was interrupted when its time was over."""


class Pool:
    """A few threads that read the database at ``path``, each by a connection of its own.

    ``connect`` opens one, for any one thread at a time. It is used again, unless it has failed or
    its file has been replaced (mtad.store.repair). Works end after ``most`` seconds.
    """

    def __init__(
        self,
        path: Path,
        connect: Callable[[Path], sqlite3.Connection],
        most: float = _MOST_SECONDS,
    ) -> None:
        self._path = path
        self._connect = connect
        self._most = most
        self._idle: list[tuple[sqlite3.Connection, tuple[int, int] | None]] = []
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, f"read {path.name}")
        self._slow = ThreadPoolExecutor(_SLOW_THREADS, f"read {path.name} slowly")

    async def __call__(self, work: Work[T]) -> T:
        """Return what ``work`` returns; when the caller is cancelled, SQL under way is, too.

        Raises:
            StoreError: the database cannot be read.
            CommandError: its SQL takes too long.
        """
        unwanted = threading.Event()
        run = asyncio.get_running_loop().run_in_executor
        try:
            with suppress(_TooLongError):
                return await run(self._quick, self._carry_out, work, unwanted, _QUICK_SECONDS)
            return await run(self._slow, self._carry_out, work, unwanted, self._most)
        except _TooLongError:
            raise CommandError(
                f"the question takes longer than {self._most:g} s",
                help="narrow it down by after:, or by what has an index: whole addresses and "
                "words rather than patterns with * at their beginning",
            ) from None
        finally:
            unwanted.set()

    def release(self) -> None:
        """Have nothing open that nobody reads: the file system may have to be repaired."""
        for connection, _ in self._unused():
            connection.close()

    def _carry_out(self, work: Work[T], unwanted: threading.Event, seconds: float) -> T:
        identity = identity_of(self._path)
        end = time.monotonic() + seconds

        def is_to_end() -> bool:
            return unwanted.is_set() or time.monotonic() > end

        try:
            connection = self._taken(identity)
            try:
                connection.set_progress_handler(is_to_end, _STEPS)
                result = work(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise _TooLongError from None
            raise error_of(error, self._path) from error
        self._idle.append((connection, identity))
        return result

    def _taken(self, identity: tuple[int, int] | None) -> sqlite3.Connection:
        """Return a connection to that file, which nobody else uses."""
        for connection, known in self._unused():
            if known == identity:
                return connection
            connection.close()
        try:
            return self._connect(self._path)
        except (sqlite3.Error, StoreError) as error:
            if not error_of(error, self._path).full:
                raise
        give_up(self._path.parent)  # whoever is first needs a page that all readers share
        return self._connect(self._path)

    def _unused(self) -> Iterator[tuple[sqlite3.Connection, tuple[int, int] | None]]:
        """Take, one after another, the connections that nobody uses."""
        with suppress(IndexError):
            while True:
                yield self._idle.pop()
