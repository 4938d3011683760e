"""The archive: takes questions from the supervisor, and answers them."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import uvloop

from mtad import log
from mtad.archive.answers import Answers
from mtad.archive.archive import Archive
from mtad.archive.outgoing.queue import Queue
from mtad.archive.pruning import Pruning
from mtad.ipc.channel import MAX_DESCRIPTORS, Channel
from mtad.ipc.messages import Hello, LogLevel, ReopenLog, Stop
from mtad.ipc.questions import Ask, Cancel, FromSupervisor, Health, Retention, Setup, Taken


def run(channel: int, news: int) -> None:
    """Serve until the supervisor says Stop, or is gone."""
    # Signals from a terminal reach the whole process group; what happens then, the supervisor says.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(socket.socket(fileno=channel), news))


async def _serve(sock: socket.socket, news: int) -> None:
    with ExitStack() as closing:
        await Process(sock, news, closing).stopped


class Process:
    """The state of this process: the archive, which is closed by ``closing``, and the channel."""

    def __init__(self, sock: socket.socket, news: int, closing: ExitStack) -> None:
        self.stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._news = news
        self._closing = closing
        self._channel: Channel[FromSupervisor] = Channel(
            sock, FromSupervisor, self._on_message, self._end, descriptors=MAX_DESCRIPTORS
        )

    def _on_message(self, message: FromSupervisor, descriptors: list[int]) -> None:
        match message:
            case Setup():
                self._set_up(message)
            case Retention():
                self._archive.retention = message
            case Ask():
                self._answers.begin(message)
            case Taken():
                self._answers.taken(message.ticket)
            case Cancel():
                self._answers.cancel(message.ticket)
            case LogLevel():
                log.set_level(message.level)
            case ReopenLog():
                log.write_to(descriptors)
            case Stop():
                self._end()

    def _set_up(self, setup: Setup) -> None:
        log.configure("console" if setup.log_form == "console" else "json", setup.log_level)
        self._archive = Archive(
            Path(setup.store),
            setup.retention,
            self._news,
            lambda problems: self._channel.send(Health(problems)),
        )
        self._closing.callback(self._archive.close)
        self._answers = Answers(self._archive, self._channel.send, self._channel.room)
        create_task = asyncio.get_running_loop().create_task
        self._pruning = create_task(Pruning(self._archive).run())
        self._sending = create_task(Queue(self._archive).run())
        self._channel.send(Hello())

    def _end(self) -> None:
        if not self.stopped.done():
            self.stopped.set_result(None)
