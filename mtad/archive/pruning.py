"""Pruning: every minute, and as soon as there is more than `store.retention` allows."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import Counter
from typing import TYPE_CHECKING

from mtad.archive.retention import Clock, Excess, cut, doomed, give_back
from mtad.control.refusal import refusal
from mtad.errors import StoreError
from mtad.log import event
from mtad.store.bodies import remove_orphans
from mtad.store.database import Database, error_of
from mtad.store.reader import newest, used
from mtad.store.removal import remove
from mtad.store.reserve import is_short, keep

if TYPE_CHECKING:
    from mtad.archive.archive import Archive

_log = logging.getLogger("mtad.archive")

# The size is looked at as often as this; everything each minute, or as often as `age` is over.
_LOOK_SECONDS = 1.0
_ROUND_SECONDS = 60.0
_TOLD = ("messages", "sessions", "octets", "unsent")


class Pruning:
    """Keeps the store of ``archive`` within ``archive.retention``, which may change at any time.

    What somebody who waits has not seen yet stays. Before all else, files that nobody's message has
    are removed: those who were killed have left them.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._clock: Clock | None = None
        self._limits = archive.retention
        self._next_round = 0.0
        self._is_clean = False
        self._ends = False
        self._untold: Counter[str] = Counter()

    async def run(self) -> None:
        """Prune, until cancelled."""
        try:
            while True:
                await self._look_once()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self._ends = True

    async def _look_once(self) -> None:
        try:
            await asyncio.to_thread(self._look)
        except StoreError as error:
            self._archive.troubled("retention", str(error))
        except Exception as error:
            self._archive.troubled("retention", refusal(error).message)
        else:
            self._archive.troubled("retention", "")

    # In a thread

    def _look(self) -> None:
        try:
            self._archive.with_room(self._look_for_excess)
        finally:
            self._keep_reserve()

    def _look_for_excess(self) -> None:
        limits = self._archive.retention
        if limits != self._limits:
            self._limits, self._next_round = limits, 0.0
        is_round = time.monotonic() >= self._next_round
        if not is_round and not limits.size:
            return
        # Between looks nothing is open: the file system may have to be repaired. A row that comes
        # back after a power cut goes again: no commit need be synced.
        with Database(self._archive.directory, synced=False) as database:
            try:
                if is_round or limits.size < used(database.connection):
                    self._prune(database)
                if is_round:
                    cut(database)
            except sqlite3.Error as error:
                raise error_of(error, database.path) from error
        if is_round:
            self._tell()
            pause = min(_ROUND_SECONDS, limits.age or _ROUND_SECONDS)
            self._next_round = time.monotonic() + pause

    def _keep_reserve(self) -> None:
        """Have the reserve; while room is short, all that is free in mail.db is given back."""
        directory = self._archive.directory
        try:
            if is_short(directory):
                with Database(directory, synced=False) as database:
                    cut(database, 0)
                    self._archive.with_room(lambda: give_back(database, spare=0))
                    cut(database, 0)
            keep(directory)
        except (sqlite3.Error, OSError) as error:
            raise error_of(error, directory) from error

    def _clean(self) -> None:
        if not self._is_clean:
            if removed := remove_orphans(self._archive.directory):
                event(_log, logging.WARNING, "store.orphans", removed=removed)
            self._is_clean = True

    def _prune(self, database: Database) -> None:
        mail, index, limits = database.connection, self._archive.index, self._limits
        self._clean()
        if self._clock is None:
            self._clock = Clock(newest(mail))
        excess = Excess.of(mail, limits, self._clock.now())
        pruned = 0
        while wanted := doomed(mail, excess, self._up_to()):
            index.leaving([number for kind, number in wanted if kind == "message"])
            for removed in remove(database, wanted):
                index.forget(removed, pruned=True)
                self._untold["messages"] += len(removed.messages)
                self._untold["sessions"] += len(removed.sessions)
                self._untold["octets"] += removed.octets
                self._untold["unsent"] += removed.unsent
                if self._ends:
                    return
            pruned += len(wanted)
            if limits.size:
                excess.octets = used(mail) - limits.size
        if pruned:
            give_back(database)

    def _up_to(self) -> int:
        """Return up to where nobody misses what goes; the index does if it has no room for it."""
        index, seen = self._archive.index, self._archive.watches.seen()
        return seen if index.is_full else min(index.indexed, seen)

    def _tell(self) -> None:
        if self._untold:
            counts = {what: self._untold[what] for what in _TOLD}
            event(_log, logging.INFO, "store.pruned", exc_info=None, **counts)
            self._untold.clear()
