"""What is due to be sent, tried until it is delivered or has failed; in the archive's event loop.

A try is counted before it begins, and what has come of it is noted when it has ended: an archive
that dies in between has the next one try again, so that a hop may see a message twice, and none is
lost. Nothing waits for this: it has connections of its own, and few of them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

from mtad.archive.outgoing.courier import Outcome, deliver
from mtad.archive.outgoing.letters import UnsentError, letter_of
from mtad.archive.terms import text
from mtad.control.refusal import refusal
from mtad.errors import EndpointError, StoreError
from mtad.log import event
from mtad.model import ids
from mtad.model.hop import parse_hop
from mtad.store import deliveries
from mtad.store.database import Database
from mtad.store.deliveries import Delivery, Job, State

if TYPE_CHECKING:
    from mtad.archive.archive import Archive

_log = logging.getLogger("mtad.archive")

DELAYS = (2.0, 10.0, 60.0, 300.0)
"""Seconds from a try to the next; after the one behind the last, it has failed."""

MOST, MOST_OF_HOP = 16, 4
"""So many transactions are under way at once, and so many of them with one hop."""

_MOST_TRIES = len(DELAYS) + 1
_NS = 1_000_000_000
# Of so many hops so many rows are looked at, besides those that are under way.
_HOPS, _ROWS = 1_000, 100
_POLL_SECONDS = 1.0
# What comes meanwhile is one look, and one commit.
_PAUSE_SECONDS = 0.2
_BUSY_SECONDS = 0.02
# A hop that has failed so often with one message is told to `mtactl status`.
_STUCK_TRIES = 2


@dataclass(frozen=True, slots=True)
class _Busy:
    """What is under way, or has ended and is not noted: jobs, and the rows of each hop."""

    jobs: frozenset[Job]
    connections: Counter[str]
    rows: Counter[str]

    @classmethod
    def of(cls, under_way: Mapping[Job, Sequence[Delivery]], ended: Sequence[Delivery]) -> _Busy:
        rows = [*chain.from_iterable(under_way.values()), *ended]
        return cls(
            frozenset(row.job for row in rows),
            Counter(job.hop for job in under_way),
            Counter(row.hop for row in rows),
        )

    def choose(self, mail: sqlite3.Connection) -> list[Job]:
        """Return what to begin now; no hop keeps another from its share."""
        now = time.time_ns()
        latest = now + int(max(DELAYS) * _NS)
        due: list[Delivery] = []
        for hop in deliveries.hops(mail, _HOPS):
            if self.connections[hop] < MOST_OF_HOP:
                due += deliveries.due(mail, hop, now, latest, _ROWS + self.rows[hop])
        due.sort(key=attrgetter("due", "message"))
        connections, chosen = self.connections.copy(), list[Job]()
        for job in dict.fromkeys(row.job for row in due):
            is_free = connections[job.hop] < MOST_OF_HOP and connections.total() < MOST
            if is_free and job not in self.jobs:
                connections[job.hop] += 1
                chosen.append(job)
        return chosen


class Queue:
    """Sends what is due of the store of ``archive``, whenever ``archive.sending`` is set.

    What has come of tries is in ``_ended`` until it is noted.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._wake = archive.sending
        self._host = socket.gethostname()
        self._under_way: dict[Job, list[Delivery]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: list[Delivery] = []
        self._stuck: dict[str, str] = {}
        self._told = ""

    async def run(self) -> None:
        """Send, until cancelled."""
        while True:
            try:
                await self._round()
                trouble = await self._trouble()
            except StoreError as error:
                trouble = str(error)
            except Exception as error:
                trouble = refusal(error).message
            if trouble != self._told:
                self._told = trouble
                self._archive.troubled("outgoing", trouble)
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._wake.wait()
            await asyncio.sleep(_BUSY_SECONDS if self._under_way else _PAUSE_SECONDS)
            self._wake.clear()

    async def _round(self) -> None:
        """Note what has ended, and begin what is due and has a place."""
        busy = _Busy.of(self._under_way, self._ended)
        jobs = await self._archive.mail(busy.choose)
        ended = tuple(self._ended)
        if not jobs and not ended:
            return
        begun = await asyncio.to_thread(self._write, ended, jobs)
        del self._ended[: len(ended)]
        for job, rows in begun.items():
            self._under_way[job] = rows
            task = asyncio.get_running_loop().create_task(self._send(job, rows))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _write(self, ended: Sequence[Delivery], jobs: Sequence[Job]) -> dict[Job, list[Delivery]]:
        with Database(self._archive.directory) as database, database.transaction() as mail:
            if ended:
                deliveries.note(mail, ended)
            return {job: rows for job in jobs if (rows := deliveries.begin(mail, job))}

    async def _send(self, job: Job, begun: Sequence[Delivery]) -> None:
        late = [row for row in begun if row.tries > _MOST_TRIES]
        rows = [row for row in begun if row.tries <= _MOST_TRIES]
        try:
            outcomes = await self._outcomes(job, rows) if rows else []
        except UnsentError as error:
            outcomes = [Outcome(error.state, str(error))] * len(rows)
        except EndpointError as error:
            outcomes = [Outcome(State.FAILED, error.message)] * len(rows)
        except Exception as error:  # it cannot be read
            outcomes = [Outcome(State.WAITING, refusal(error).message)] * len(rows)
        finally:
            del self._under_way[job]
            self._wake.set()
        outcomes += [Outcome(State.FAILED, "the archive has ended over each try")] * len(late)
        for row, outcome in zip([*rows, *late], outcomes, strict=True):
            self._end(row, outcome)

    async def _outcomes(self, job: Job, rows: Sequence[Delivery]) -> list[Outcome]:
        hop, directory, host = parse_hop(job.hop), self._archive.directory, self._host
        letter = await self._archive.mail(lambda mail: letter_of(directory, mail, job, rows, host))
        return await deliver(hop, letter)

    def _end(self, row: Delivery, outcome: Outcome) -> None:
        """Have noted what has come of a try for one recipient."""
        said, state = text(outcome.said), outcome.state
        if state is State.WAITING:
            if row.tries >= _STUCK_TRIES:
                self._stuck[row.hop] = said
            if row.tries >= _MOST_TRIES:
                state, said = State.FAILED, f"given up: {said}"
        elif state is State.DELIVERED:
            self._stuck.pop(row.hop, None)
        due = time.time_ns() + int(DELAYS[min(row.tries, len(DELAYS)) - 1] * _NS)
        self._ended.append(replace(row, state=state, due=due, said=said))
        event(
            _log,
            _LEVELS[state],
            _EVENTS[state],
            id=ids.encode(row.message),
            kind="bounce" if row.job.is_bounce else "forward",
            hop=row.hop,
            tries=row.tries,
            said=said,
        )

    async def _trouble(self) -> str:
        """Return what mail waits for in vain; "": for nothing."""
        hops = tuple(self._stuck)
        if not hops:
            return ""
        waiting = await self._archive.mail(
            lambda mail: [hop for hop in hops if deliveries.waits_for(mail, hop)]
        )
        self._stuck = {hop: self._stuck[hop] for hop in waiting if hop in self._stuck}
        return "; ".join(f"mail waits for {hop}: {said}" for hop, said in self._stuck.items())


_EVENTS = {
    State.WAITING: "delivery.deferred",
    State.DELIVERED: "delivery.done",
    State.FAILED: "delivery.failed",
    State.UNWANTED: "delivery.unwanted",
}
_LEVELS = {
    State.WAITING: logging.DEBUG,
    State.DELIVERED: logging.DEBUG,
    State.FAILED: logging.WARNING,
    State.UNWANTED: logging.DEBUG,
}
