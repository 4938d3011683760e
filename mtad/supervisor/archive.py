"""The archive: one process, replaced when it dies, and asked for whatever concerns kept mail.

Nothing waits for it but questions: while it is not there, mail is taken all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mtad.control.grammar import Command, Role
from mtad.control.params import LATEST
from mtad.errors import ChannelError, CommandError
from mtad.ipc.messages import Hello, LogLevel, Stop
from mtad.ipc.questions import Form, FromArchive, Health, Retention, Setup
from mtad.supervisor.child import EXIT_SECONDS, SPAWN_AGAIN_SECONDS, Backoff, Child
from mtad.supervisor.events import Events
from mtad.supervisor.relay import Outcome, Relay

_STARTING = "the archive is starting again"
# How long a question waits for an archive that is not there, if it has no time of its own.
_PATIENCE_SECONDS = 5.0
# A question that has ended so many archives is not asked again.
_MOST_ASKED = 3


class Archive:
    """The archive process there is now, and its successors.

    ``news`` is the eventfd(2) by which workers tell it of what they have kept.
    """

    def __init__(self, setup: Setup, events: Events, news: int) -> None:
        self.process: Child[FromArchive] | None = None
        self.restarts = 0
        self._setup = setup
        self._events = events
        self._news = news
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff()
        self._wanted = False
        self._disturbed = False  # it has died, or could not be started, and does not serve again
        self._problems: tuple[str, ...] = ()
        self._relay = Relay(self.tell)
        self._serves = asyncio.Event()
        self._gone = asyncio.Event()

    def processes(self) -> dict[str, int]:
        """Return the pid, by role, of a process that has verified what it holds."""
        if self.process and self.process.serving:
            return {"archive": self.process.process.pid}
        return {}

    def problems(self) -> list[str]:
        """Return what is wrong with it; that it starts with the daemon is not."""
        own = [_STARTING] if self._disturbed else []
        return own + [f"archive: {problem}" for problem in self._problems]

    def start(self) -> None:
        """Have the process, from now on."""
        self._wanted = True
        self._replace()

    async def ask(self, command: Command, params: Mapping[str, Any], form: Form) -> Outcome:
        """Have the archive carry out ``command``; see Relay.ask.

        The successor of one that dies over a question is asked again, if that is the same question.

        Raises:
            CommandError: it refuses, or is not there.
        """
        began, times = self._loop.time(), 0
        while True:
            times += 1
            left = _left(command, params, self._loop.time() - began)
            await self._until_it_serves(max([_PATIENCE_SECONDS, *left.values()]))
            left = _left(command, params, self._loop.time() - began)
            relay = self._relay
            try:
                return await relay.ask(command, {**params, **left}, form)
            except CommandError:
                is_gone = relay is not self._relay and self._wanted
                if not is_gone or times == _MOST_ASKED or not _can_be_repeated(command, params):
                    raise

    async def _until_it_serves(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._serves.wait()
        except TimeoutError:
            raise _starting() from None

    def tell(self, message: msgspec.Struct, descriptors: Sequence[int] = ()) -> None:
        """Send to the process, if there is one."""
        if self.process:
            self.process.channel.send(message, descriptors)
            if self._relay.is_stuck:
                self._end_it("it does not answer")

    def set_log_level(self, level: str) -> None:
        """Tell the process there is, and those to come."""
        self._setup = msgspec.structs.replace(self._setup, log_level=level)
        self.tell(LogLevel(level))

    def set_retention(self, retention: Retention) -> None:
        """Tell the process there is, and those to come."""
        if retention != self._setup.retention:
            self._setup = msgspec.structs.replace(self._setup, retention=retention)
            self.tell(retention)

    async def stop(self) -> None:
        """End it; there will be no successor."""
        self._wanted = False
        if not self.process:
            return
        self.tell(Stop(0.0))
        try:
            async with asyncio.timeout(EXIT_SECONDS):
                await self._gone.wait()
        except TimeoutError:
            self.process.kill()
            await self._gone.wait()

    def _replace(self) -> None:
        if not self._wanted:
            return
        try:
            process = Child[FromArchive]("mtad.archive", (self._news,))
        except OSError as error:  # EAGAIN, EMFILE, ENOMEM: they pass
            self._disturbed = True
            self._events.publish("archive.failed", logging.ERROR, reason=error.strerror)
            self._loop.call_later(SPAWN_AGAIN_SECONDS, self._replace)
            return
        self.process = process
        self._gone.clear()
        process.watch(FromArchive, self._hear, self._exited)
        process.channel.send(self._setup)
        self._events.publish("archive.started", archive_pid=process.process.pid)

    def _hear(self, message: FromArchive) -> None:
        match message:
            case Hello() if self._serves.is_set():
                self._end_it("it says twice that it serves")
            case Hello():
                self._serve()
            case Health():
                self._problems = message.problems
            case _:
                try:
                    self._relay.hear(message)
                except ChannelError as error:
                    self._end_it(str(error))

    def _serve(self) -> None:
        if self.process:
            self.process.serving = True
            self._serves.set()
            self._disturbed = False
            self._events.publish("archive.serving", archive_pid=self.process.process.pid)

    def _end_it(self, reason: str) -> None:
        """Kill a process that does what it may not do; another one is started."""
        if self.process:
            self._events.publish(
                "archive.misbehaves",
                logging.ERROR,
                archive_pid=self.process.process.pid,
                reason=reason,
            )
            self.process.channel.close()
            self.process.kill()

    def _exited(self, status: int) -> None:
        dead, self.process = self.process, None
        if not dead:
            return
        self._events.publish(
            "archive.exited",
            logging.ERROR if self._wanted else logging.INFO,
            archive_pid=dead.process.pid,
            status=status,
        )
        self._serves.clear()
        self._problems = ()
        self._relay.end(_starting(), _ended())
        self._relay = Relay(self.tell)
        self._gone.set()
        if self._wanted:
            self._disturbed = True
            self.restarts += 1
            self._loop.call_later(self._backoff.after(dead), self._replace)


def _left(command: Command, params: Mapping[str, Any], passed: float) -> dict[str, float]:
    """Return the times that ``params`` have, in seconds, when some has passed."""
    times = (param.name for param in command.params if param.type == "seconds")
    return {name: max(0.0, params[name] - passed) for name in times}


def _can_be_repeated(command: Command, params: Mapping[str, Any]) -> bool:
    """Whether a question changes nothing, and is the same when it is asked later."""
    is_from_now_on = command.stream or params.get("after") == LATEST
    return command.role is Role.OBSERVE and not is_from_now_on


def _starting() -> CommandError:
    return CommandError(_STARTING, help="ask again in a moment; mail is taken all the same")


def _ended() -> CommandError:
    return CommandError(
        f"the stream has ended: {_STARTING}",
        help="begin it again; message list --since ID has what has come meanwhile",
    )
