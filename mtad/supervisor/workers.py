"""The workers: started without a capability, spoken to by a channel, replaced when they die."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from mtad.errors import ListenerError
from mtad.ipc import counters
from mtad.ipc.counters import SLOTS, Counters, Counts
from mtad.ipc.loads import Loads
from mtad.ipc.messages import (
    Admit,
    Admitted,
    Done,
    Drained,
    Fired,
    FromWorker,
    Hello,
    Left,
    LogLevel,
    Opened,
    Refused,
    SetRules,
    Setup,
    Stop,
    StoreState,
    Tried,
    Weigh,
    Weighed,
)
from mtad.model.profile import Limits
from mtad.supervisor.admissions import Admissions
from mtad.supervisor.child import EXIT_SECONDS, SPAWN_AGAIN_SECONDS, Backoff, Child
from mtad.supervisor.events import Events
from mtad.supervisor.orders import Orders
from mtad.supervisor.trials import Trials

# More than can be counted in a hundred years: a worker has lied.
_PLAUSIBLE = 2**56


class Worker(Child[FromWorker]):
    """One worker process. ``serving`` from its Hello on; ``store_fault``: why it keeps no mail."""

    store_fault = ""

    def __init__(self, number: int, loads: Loads, news: int) -> None:
        memory = counters.create()
        self.id = number
        self.cell = loads.take()
        try:
            super().__init__("mtad.worker", (memory, loads.descriptor, news), self.cell)
            self.counters = Counters(memory)
        except OSError:
            loads.free(self.cell)
            raise
        finally:
            os.close(memory)


class Owner(Protocol):
    """Whose sockets the workers serve."""

    def hand_out_to(self, worker: Worker) -> None:
        """Give every socket to a worker that can take them now."""

    def opened(self, worker: int, openings: Iterable[int]) -> None:
        """Hear that a worker takes connections on ``openings``."""

    def drained(self, worker: int, openings: Iterable[int] | None) -> None:
        """Hear that a worker has no sessions of ``openings`` left; None: it is gone."""

    def refused(self, worker: int, openings: Iterable[int], reason: str) -> None:
        """Hear that a worker takes no connections on ``openings``."""

    def limits(self, opening: int) -> tuple[str, Limits] | None:
        """Return the name and limits of the listener of an opening, if there is one."""


class Judge(Protocol):
    """Who knows the fault rules."""

    def first_order(self) -> SetRules:
        """Return what a worker is told before it gets a socket."""

    def weigh(self, worker: int, message: Weigh) -> Weighed:
        """Answer a question of a worker."""

    def note(self, message: Fired) -> None:
        """Hear what has fired without a question."""


class Pool:
    """As many workers as the configuration says, whatever happens to them.

    ``news`` is the eventfd(2) by which they tell the archive of what they have kept.
    """

    def __init__(self, setup: Setup, events: Events, owner: Owner, judge: Judge, news: int) -> None:
        self.workers: dict[int, Worker] = {}
        self.trials = Trials(self.broadcast)
        self.orders = Orders(self.broadcast)
        self.restarts = 0
        self.retired = Counts()
        """What listeners counted that are gone."""
        self._setup = setup
        self._events = events
        self._owner = owner
        self._judge = judge
        self._news = news
        self._admissions = Admissions(owner.limits)
        self._loads = Loads()
        self._loop = asyncio.get_running_loop()
        self._past: dict[int, Counts] = {}
        self._slots = 0
        self._free_slots: list[int] = []
        self._wanted = 0
        self._serial = 0
        self._backoff = Backoff()
        self._empty = asyncio.Event()

    def resize(self, wanted: int) -> None:
        """Have ``wanted`` workers: start what is missing, end the youngest of too many."""
        self._wanted = wanted
        for worker in list(self.workers.values())[wanted:]:
            worker.channel.send(Stop(0.0))
            worker.must_end()
        for _ in range(wanted - len(self.workers)):
            self._replace()

    def broadcast(self, message: msgspec.Struct, descriptors: Sequence[int] = ()) -> set[int]:
        """Send to every serving worker; return their ids."""
        serving = [worker for worker in self.workers.values() if worker.serving]
        for worker in serving:
            worker.channel.send(message, descriptors)
        return {worker.id for worker in serving}

    def tell_all(self, message: msgspec.Struct, descriptors: Sequence[int] = ()) -> None:
        """Send to every worker, those that are about to serve included."""
        for worker in self.workers.values():
            worker.channel.send(message, descriptors)

    def catch_up(self) -> None:
        """Hear what workers have said so far: of a reply that somebody has read, what led to it."""
        for worker in list(self.workers.values()):
            worker.channel.catch_up()

    def set_log_level(self, level: str) -> None:
        """Tell the workers there are, and those to come."""
        self._setup = msgspec.structs.replace(self._setup, log_level=level)
        self.tell_all(LogLevel(level))

    def processes(self) -> dict[str, int]:
        """Return the pids of those that have verified what they hold, by role."""
        serving = (worker for worker in self.workers.values() if worker.serving)
        return {f"worker {worker.id}": worker.process.pid for worker in serving}

    def counts(self, slot: int) -> Counts:
        """Return what all workers, dead ones included, counted in ``slot``."""
        total = self._past.get(slot, Counts())
        for worker in self.workers.values():
            total = total.plus(worker.counters.read(slot))
        return total

    def take_slot(self) -> int:
        """Return a row of the counters that nobody has, all zero.

        Raises:
            ListenerError: there are too many listeners.
        """
        if self._free_slots:
            return self._free_slots.pop()
        if self._slots == SLOTS:
            raise ListenerError(f"there are {SLOTS} listeners already: no more fit")
        self._slots += 1
        return self._slots - 1

    def free_slot(self, slot: int) -> None:
        """Give a row back: what was counted there so far is subtracted from now on."""
        counts = self.counts(slot)
        self.retired = self.retired.plus(counts._replace(active=0))
        negated = Counts(*(-count for count in counts))
        self._past[slot] = negated.plus(self._past.get(slot, Counts()))
        self._free_slots.append(slot)

    async def stop(self, grace: float) -> None:
        """End all workers: sessions have ``grace`` seconds, then processes two more."""
        self._wanted = 0
        for worker in self.workers.values():
            worker.channel.send(Stop(grace))
        try:
            async with asyncio.timeout(grace + EXIT_SECONDS):
                if self.workers:
                    await self._empty.wait()
        except TimeoutError:
            self.kill()
            await self._empty.wait()

    def kill(self) -> None:
        """End all workers now (SIGKILL)."""
        self._wanted = 0
        for worker in self.workers.values():
            worker.kill()

    def _spawn(self) -> None:
        worker = Worker(self._serial + 1, self._loads, self._news)
        self._serial = worker.id
        self.workers[worker.id] = worker
        self._empty.clear()
        worker.watch(
            FromWorker,
            lambda message: self._on_message(worker, message),
            lambda status: self._exited(worker, status),
        )
        worker.channel.send(msgspec.structs.replace(self._setup, worker=worker.id))
        self._events.publish("worker.started", worker=worker.id, worker_pid=worker.process.pid)

    def _on_message(self, worker: Worker, message: FromWorker) -> None:
        match message:
            case Hello() if worker.serving:
                worker.kill()  # it is said once, and answered with every socket
            case Hello():
                worker.serving = True
                self._events.publish("worker.serving", worker=worker.id)
                worker.channel.send(self._judge.first_order())
                self._owner.hand_out_to(worker)
            case Opened():
                self._owner.opened(worker.id, message.openings)
            case Drained():
                self._owner.drained(worker.id, message.openings)
            case Refused():
                self._owner.refused(worker.id, message.openings, message.reason)
            case StoreState():
                worker.store_fault = message.reason
            case _:
                self._hear(worker, message)

    def _hear(self, worker: Worker, message: FromWorker) -> None:
        """Take what a worker answers, or asks."""
        match message:
            case Tried():
                self.trials.answered(worker.id, message)
            case Done():
                self.orders.done(worker.id, message.ticket)
            case Admit(ticket, opening, peer):
                refused_by = self._admissions.admit(worker.id, ticket, opening, peer)
                worker.channel.send(Admitted(ticket, refused_by))
            case Left():
                self._admissions.leave(worker.id, message.ticket)
            case Weigh():
                worker.channel.send(self._judge.weigh(worker.id, message))
            case Fired():
                self._judge.note(message)

    def _exited(self, worker: Worker, status: int) -> None:
        del self.workers[worker.id]
        self._keep_counts(worker.counters)
        self._loads.free(worker.cell)
        expected = len(self.workers) >= self._wanted
        self._events.publish(
            "worker.exited",
            logging.INFO if expected else logging.ERROR,
            worker=worker.id,
            worker_pid=worker.process.pid,
            status=status,
        )
        self._owner.drained(worker.id, None)
        self._admissions.forget(worker.id)
        self.orders.forget(worker.id)
        if not self.workers:
            self._empty.set()
        if not expected:
            self.restarts += 1
            self._loop.call_later(self._backoff.after(worker), self._replace)

    def _replace(self) -> None:
        if len(self.workers) < self._wanted:
            try:
                self._spawn()
            except OSError as error:  # EAGAIN, EMFILE, ENOMEM: they pass
                self._events.publish("worker.failed", logging.ERROR, reason=error.strerror)
                self._loop.call_later(SPAWN_AGAIN_SECONDS, self._replace)

    def _keep_counts(self, dead: Counters) -> None:
        for slot in range(self._slots):
            kept = dead.read(slot)._replace(active=0)
            if max(kept) > _PLAUSIBLE:  # a lie ends with the liar
                continue
            self._past[slot] = self._past.get(slot, Counts()).plus(kept)
        dead.close()
