"""A worker: takes listening sockets from the supervisor, and serves SMTP on them."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from mtad import log
from mtad.errors import MtadError
from mtad.ipc.channel import MAX_DESCRIPTORS, Channel
from mtad.ipc.counters import Counters
from mtad.ipc.loads import Load
from mtad.ipc.messages import (
    Admitted,
    Close,
    Configure,
    Done,
    Drained,
    FromSupervisor,
    Hello,
    LogLevel,
    Open,
    Opened,
    Opening,
    Refused,
    ReopenLog,
    Retire,
    SetRules,
    Setup,
    Stop,
    StoreState,
    Sync,
    Tried,
    Try,
    Weighed,
)
from mtad.log import event
from mtad.model.automatic_tls import AutomaticTls
from mtad.model.ids import Keys
from mtad.smtp.handler import load_handler
from mtad.smtp.poller import Poller
from mtad.store.writer import Writer
from mtad.worker.acceptor import Acceptor, Common
from mtad.worker.admissions import Admissions
from mtad.worker.judge import Questions
from mtad.worker.rules import Rules

_log = logging.getLogger("mtad.worker")

# Longer reasons are not taken (mtad.ipc.messages.Refused).
_REASON = 200


def run(channel: int, counters: Counters, load: Load, news: int) -> None:
    """Serve until the supervisor says Stop, or is gone.

    ``news`` is the eventfd(2) by which the archive hears of what is kept.
    """
    # Signals from a terminal reach the whole process group; what happens then, the supervisor says.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.unraisablehook = _log_unraisable
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(socket.socket(fileno=channel), counters, load, news))


def _log_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Log in one line what Python would print at length, such as a SNI that is not ASCII."""
    reason = f"{type(unraisable.exc_value).__name__}: {unraisable.exc_value}"
    event(_log, logging.WARNING, "exception.ignored", reason=reason)


async def _serve(sock: socket.socket, counters: Counters, load: Load, news: int) -> None:
    worker = Worker(sock, counters, load, news)
    await worker.stopped
    await worker.close()


class Worker:
    """The state of this process: its openings, and the channel to the supervisor."""

    def __init__(self, sock: socket.socket, counters: Counters, load: Load, news: int) -> None:
        self.stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._counters = counters
        self._load = load
        self._news = news
        self._acceptors: dict[int, Acceptor] = {}
        self._store: Writer | None = None
        self._stopping = False
        self._channel: Channel[FromSupervisor] = Channel(
            sock, FromSupervisor, self._on_message, self._end, descriptors=MAX_DESCRIPTORS
        )
        self._admissions = Admissions(self._channel.send)
        self._rules = Rules()
        self._questions = Questions(self._channel.send, asyncio.get_running_loop())

    async def close(self) -> None:
        """Have everything committed that sessions have left."""
        if self._store is not None:
            await self._store.close()

    def _on_message(self, message: FromSupervisor, descriptors: list[int]) -> None:
        match message:
            case Setup():
                self._set_up(message)
            case Open():
                self._open(message.openings, descriptors)
            case Close():
                self._close(message.openings, message.grace)
            case Admitted():
                self._admissions.answered(message)
            case Weighed():
                self._questions.answered(message)
            case LogLevel():
                log.set_level(message.level)
            case ReopenLog():
                log.write_to(descriptors)
            case Stop():
                self._stopping = True
                self._close(list(self._acceptors), message.grace)
                self._end_if_idle()
            case _:
                self._change(message)

    def _change(self, message: Configure | Try | SetRules | Retire | Sync) -> None:
        """Do what the supervisor, or an operator, hears of when it is done."""
        match message:
            case Configure():
                self._configure(message.opening)
            case Try():
                self._try(message)
            case SetRules():
                self._rules.replace(message.rules)
                self._channel.send(Done(message.ticket))
            case Retire():
                self._retire(message)
            case Sync():
                self._channel.send(Done(message.ticket))

    def _set_up(self, setup: Setup) -> None:
        log.configure("console" if setup.log_form == "console" else "json", setup.log_level)
        self._store = Writer(Path(setup.store), setup.durability, self._store_told, self._news)
        self._common = Common(
            setup.worker,
            Keys(setup.worker),
            self._store,
            AutomaticTls.of_store(Path(setup.store)),
            self._counters,
            self._load,
            self._admissions,
            self._rules,
            self._questions,
            Poller(asyncio.get_running_loop()),
            self._drained,
        )
        # Who serves has the store open, or has said why not: that takes the lock for longest.
        self._store.opened.add_done_callback(lambda _: self._channel.send(Hello()))

    def _store_told(self, reason: str) -> None:
        self._channel.send(StoreState(reason[:_REASON]))

    def _open(self, openings: Sequence[Opening], descriptors: list[int]) -> None:
        """Take the openings; the kernel leaves descriptors out when this process has no room."""
        taken: list[int] = []
        for opening, descriptor in zip(openings, descriptors, strict=False):
            sock = socket.socket(fileno=descriptor)
            try:
                self._acceptors[opening.id] = Acceptor(opening, sock, self._common)
            except MtadError as error:
                sock.close()
                self._refuse((opening.id,), str(error))
            else:
                taken.append(opening.id)
        if taken:
            self._channel.send(Opened(tuple(taken)))
        left_out = tuple(opening.id for opening in openings[len(descriptors) :])
        if left_out:
            self._refuse(left_out, "too many open files: raise the limit (ulimit -n, LimitNOFILE=)")

    def _refuse(self, openings: tuple[int, ...], reason: str) -> None:
        """Say that these have not been taken."""
        self._channel.send(Refused(openings, reason[:_REASON]))
        self._channel.send(Drained(openings))

    def _configure(self, opening: Opening) -> None:
        """Change what new sessions of an opening are served by; take none when that cannot be."""
        if opening.id in self._acceptors:
            acceptor = self._acceptors[opening.id]
            try:
                acceptor.configure(opening)
            except MtadError as error:
                self._channel.send(Refused((opening.id,), str(error)[:_REASON]))
                acceptor.retire()

    def _retire(self, message: Retire) -> None:
        for opening in message.openings:
            if opening in self._acceptors:
                self._acceptors[opening].retire()
        self._channel.send(Done(message.ticket))

    def _try(self, message: Try) -> None:
        reason = ""
        try:
            load_handler(message.handler)
        except MtadError as error:
            reason = str(error)[:_REASON]
        self._channel.send(Tried(message.ticket, reason))

    def _drained(self, opening: int) -> None:
        del self._acceptors[opening]
        self._channel.send(Drained((opening,)))
        self._end_if_idle()

    def _close(self, openings: Sequence[int], grace: float) -> None:
        for opening in openings:
            if opening in self._acceptors:
                self._acceptors[opening].close(grace)

    def _end_if_idle(self) -> None:
        if self._stopping and not self._acceptors:
            self._end()

    def _end(self) -> None:
        if not self.stopped.done():
            self.stopped.set_result(None)
