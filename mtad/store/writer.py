"""The store as a worker has it: messages are kept in groups, one commit for each.

What ends while a group is committed is the next group. Rows are inserted on the loop's thread, into
memory; what may block, waiting for the lock, syncing files, COMMIT, is done by a thread of the
store's own, one call for a group: a thread that shared the interpreter with the loop row by row
would cost more than the rows::

    keep ──► waiting ──► begin ── not at once ──► (thread) open, begin ──┐
                           └──────────────────────────────────────────►  insert ──► (thread) commit ──► answers
"""  # noqa: E501 (a drawing)

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mtad.errors import StoreError
from mtad.log import event
from mtad.model import ids
from mtad.model.envelope import Body, Captured, SessionSummary
from mtad.store.bodies import IN_ROW, Content
from mtad.store.database import BODIES, Database, error_of, sync
from mtad.store.deliveries import State, insert, intended
from mtad.store.envelopes import encode
from mtad.store.health import Health
from mtad.store.jobs import Jobs

_log = logging.getLogger("mtad.store")

# Messages of a group, at most: their content is in memory until the commit.
_MOST = 256
# `durability: memory`: so many messages are promised; the next waits for the commit.
_MOST_PROMISED = 1_000
# Octets of transcripts and sessions that wait, at most; and how long they do without a message.
_MOST_RECORDS = 16_777_216
_RECORDS_SECONDS = 0.01
# Who waits for the lock for so long is told so.
_PATIENCE_SECONDS = 5.5
_RETRY_SECONDS = 1.0
_CLOSE_SECONDS = 1.0

_MESSAGE = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)"
_SESSION = "INSERT OR REPLACE INTO session VALUES (?, ?, ?)"
_TRANSCRIPT = "INSERT OR REPLACE INTO transcript VALUES (?, ?, ?)"
# Whether there is room again for what a row takes: with a key that no session has, so that nobody
# sees it, and the archive prunes it.
_PROBE = "INSERT OR REPLACE INTO transcript VALUES (-1, 0, zeroblob(?))"

_pack = msgspec.msgpack.Encoder().encode

Answer = Callable[[str | StoreError], None]


@dataclass(slots=True)
class _Message:
    """A message that waits. ``answered`` is None when its sender has been told already."""

    session: int
    sha256: bytes
    envelope: bytes
    row: bytes | None
    deliveries: Sequence[tuple[int, str, State]]
    content: Content
    answered: Answer | None
    id: int = 0


class Writer:
    """See mtad.model.envelope.Store. ``directory`` is the store's.

    ``durability`` is ``fsync``: what is answered is on disk; ``os``: it is the kernel's;
    ``memory``: it is promised. ``on_state(reason)`` is called when nothing can be kept from now
    on, and with "" when it can again. To the eventfd(2) ``notify`` the messages of each commit are
    added, or 1 for none.
    """

    def __init__(
        self,
        directory: Path,
        durability: str,
        on_state: Callable[[str], None],
        notify: int | None = None,
    ) -> None:
        self._directory = directory
        self._bodies = str(directory / BODIES)
        self._synced = durability == "fsync"
        self._promises = durability == "memory"
        self._health = Health(on_state, self._bodies)
        self._notify = notify
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        """Done when the database has been opened, or it is known why it cannot be."""
        self._waiting: deque[_Message] = deque()
        self._promised = 0
        self._records: list[tuple[str, int, int, bytes]] = []
        self._record_octets = 0
        self._group: list[_Message] = []
        self._group_records: list[tuple[str, int, int, bytes]] = []
        self._database: Database | None = None
        self._is_busy = False
        self._is_stale = False  # something went wrong: another connection is needed
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Future[None] | None = None
        self._jobs = Jobs(directory)
        self._wake()  # open the database, before somebody waits for it

    # What sessions call

    def body(self) -> Content:
        """Return the place for a message that is about to arrive."""
        return Content(self._bodies, self._health.file_failed)

    def keep(self, message: Captured, body: Body, answered: Answer) -> None:
        """Keep ``body``, one of ours, as that of ``message``."""
        assert isinstance(body, Content)  # noqa: S101 (each store has its own)
        sha256, row = body.end()
        waiting = _Message(
            message.session, sha256, encode(message), row, intended(message), body, answered
        )
        if self._promises and self._promised < _MOST_PROMISED:
            self._promised += 1
            waiting.answered = None
            self._loop.call_soon(answered, "")
        self._waiting.append(waiting)
        if not self._is_busy:
            self._wake()

    def session(self, summary: SessionSummary) -> None:
        """Keep what is known of a session that has ended."""
        self._record((_SESSION, 0, summary.key, encode(summary)))

    def transcript(self, key: int, part: int, entries: list[Any]) -> None:
        """Keep a part of the transcript of session ``key``."""
        self._record((_TRANSCRIPT, key, part, _pack(entries)))

    async def close(self) -> None:
        """Commit what waits, if that can be done, and close the database."""
        self._closing = self._loop.create_future()
        if not self._is_busy:
            self._wake()
        await self._closing
        ended = self._loop.create_future()
        self._jobs.put(self._shut, ended.set_result)
        self._jobs.end()
        with suppress(TimeoutError):  # the disk may not answer
            await asyncio.wait_for(ended, _CLOSE_SECONDS)
        if lost := len(self._waiting):
            event(_log, logging.ERROR, "store.lost", messages=lost, reason=self._health.reason)

    def _record(self, record: tuple[str, int, int, bytes]) -> None:
        if self._record_octets > _MOST_RECORDS:
            self._health.lost_record()
            return
        self._records.append(record)
        self._record_octets += len(record[-1])
        if not self._is_busy:
            self._later(_RECORDS_SECONDS)

    # One group after the other; on the loop

    def _wake(self) -> None:
        """Begin soon: everything that ends meanwhile is in the group."""
        self._is_busy = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop.call_soon(self._gather, 0)

    def _gather(self, gathered: int) -> None:
        """Begin when a turn of the loop has brought no more: what a group costs is shared."""
        waiting = len(self._waiting)
        if gathered < waiting < _MOST:
            self._loop.call_soon(self._gather, waiting)
        else:
            self._begin()

    def _later(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._wake)

    def _begin(self) -> None:
        database = self._database
        try:
            begun = database is not None and not self._is_stale and database.begin(wait=False)
        except StoreError as error:
            self._failed(error)
            return
        if begun:
            self._insert()
        else:
            self._timer = self._loop.call_later(_PATIENCE_SECONDS, self._give_up)
            self._jobs.put(self._prepare, self._prepared)

    def _give_up(self) -> None:
        """Answer those who have waited long enough for somebody else to end."""
        error = StoreError(
            f"{self._directory}: locked by another process, or the disk does not answer",
            help="see `fuser mail.lock mail.db`",
        )
        self._health.failed(error)
        self._refuse(error)
        self._timer = self._loop.call_later(_PATIENCE_SECONDS, self._give_up)
        _set(self.opened)
        self._end_closing()

    def _prepared(self, error: StoreError | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if error is None:
            self._insert()
        else:
            self._failed(error)

    def _insert(self) -> None:
        """Write the next group, up to the commit."""
        waiting, database = self._waiting, self._database
        assert database is not None  # noqa: S101 (it has begun)
        self._group = group = [waiting.popleft() for _ in range(min(len(waiting), _MOST))]
        self._group_records, self._records = self._records, []
        self._record_octets = 0
        try:
            self._write(database, group)
        except Exception as error:
            database.rollback()
            self._failed(error_of(error, database.path))
        else:
            self._jobs.put(self._commit, self._committed)

    def _write(self, database: Database, group: list[_Message]) -> None:
        connection, numbers = database.connection, itertools.count(database.next_id())
        rows = []
        for one in group:
            one.id = number = next(numbers)
            file = None if one.row is not None else one.content.name_for(number)
            rows.append(
                (number, one.session, one.content.size, one.sha256, one.envelope, one.row, file)
            )
        connection.executemany(_MESSAGE, rows)
        for one in group:
            if one.deliveries:
                insert(connection, one.id, one.deliveries)
        for statement, first, second, octets in self._group_records:
            key = next(numbers) if statement is _SESSION else first
            connection.execute(statement, (key, second, octets))
        if self._health.reason and not group:
            connection.execute(_PROBE, (IN_ROW,))

    def _committed(self, error: StoreError | None) -> None:
        if error is not None:
            self._failed(error)
            return
        if self._notify is not None:
            with suppress(BlockingIOError):
                os.eventfd_write(self._notify, len(self._group) or 1)
        group, self._group, self._group_records = self._group, [], []
        self._health.kept(files=any(one.row is None for one in group))
        for one in group:
            one.content.close()
            if one.answered is None:
                self._promised -= 1
            else:
                self._answer(one.answered, ids.encode(one.id))
        self._go_on()

    def _answer(self, answered: Answer, answer: str | StoreError) -> None:
        try:
            answered(answer)
        except Exception as error:  # one session's fault; the others have their answers, too
            self._loop.call_exception_handler({"message": "store answer", "exception": error})

    def _failed(self, error: StoreError) -> None:
        """Refuse whom nothing was promised; what was promised is tried again."""
        self._health.failed(error)
        self._waiting.extendleft(reversed(self._group))
        self._group = []
        self._records[:0] = self._group_records
        self._record_octets = sum(len(record[-1]) for record in self._records)
        self._group_records = []
        self._is_stale = True
        self._refuse(error)
        self._go_on()

    def _refuse(self, error: StoreError) -> None:
        refused = [one for one in self._waiting if one.answered is not None]
        promised = [one for one in self._waiting if one.answered is None]
        self._waiting = deque(one for one in promised if not one.content.is_lost)
        if lost := len(promised) - len(self._waiting):
            self._promised -= lost
            event(_log, logging.ERROR, "store.lost", messages=lost, reason=str(error))
        for one in refused:
            one.content.discard()
            if one.answered is not None:
                self._answer(one.answered, error)

    def _go_on(self) -> None:
        _set(self.opened)
        if self._closing is not None and (
            self._health.reason or not (self._waiting or self._records)
        ):
            self._end_closing()
        elif self._waiting and not self._health.reason:
            self._wake()
            return
        self._is_busy = False
        if self._health.reason:
            self._later(_RETRY_SECONDS)
        elif self._records:
            self._later(_RECORDS_SECONDS)

    def _end_closing(self) -> None:
        if self._closing is not None:
            _set(self._closing)

    # In the thread

    def _shut(self) -> None:
        if self._database is not None:
            self._database.close()

    def _prepare(self) -> None:
        """Begin, with a database that is opened if need be."""
        database, self._database = self._database, None
        if database is not None and self._is_stale:
            database.close()
            database = None
        self._is_stale = False
        database = database or Database(self._directory, synced=self._synced)
        try:
            database.begin()
        except StoreError:
            database.close()
            raise
        self._database = database

    def _commit(self) -> None:
        database = self._database
        assert database is not None  # noqa: S101 (it has begun)
        try:
            self._place_files()
            database.commit()
        except Exception:
            database.rollback()
            raise

    def _place_files(self) -> None:
        files = [one for one in self._group if one.row is None]
        for one in files:
            one.content.place(one.id, synced=self._synced)
        if files and self._synced:
            sync(self._bodies)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
