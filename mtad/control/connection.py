"""One connection to the control socket: lines in, answers out in the same order, all bounded.

An answer that is there at once is written in the same data_received, without a task. While a
command waits or streams, later lines stay in the buffer; while the client does not read, nothing
is carried out; a buffer that holds enough stops the reading.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from mtad.control import wire
from mtad.control.calls import Call, Result, read_call
from mtad.control.grammar import Command, Role
from mtad.control.peer import Caller, caller_of
from mtad.control.refusal import refusal
from mtad.errors import CommandError
from mtad.log import event

if TYPE_CHECKING:
    from mtad.control.server import ControlServer

_log = logging.getLogger(__name__)

_WRITE_BUFFER = 262_144


class Connection(asyncio.Protocol):
    """A client, from accept to close."""

    _transport: asyncio.Transport
    _caller: Caller

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._buffer = wire.LineBuffer()
        self._roles: frozenset[Role] = frozenset()
        self._unanswered: Call | None = None  # what the task will answer
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.unread_since: float | None = None  # it has been told more than it reads
        self._reading = True
        self._ended = False  # the client has sent all it will send
        self._heard = self._loop.time()
        self._line_began: float | None = None
        self._close_by: float | None = None  # set: nothing is read or carried out any more

    @property
    def admitted(self) -> bool:
        """Whether it takes one of the places for connections."""
        return bool(self._roles)

    @property
    def unread(self) -> int:
        """Octets of answers that wait for it to read."""
        return self._transport.get_write_buffer_size()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Learn who is there, and send away who may not be."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        try:
            self._caller = caller_of(transport.get_extra_info("socket"))
            self._roles = self._server.admit(self, self._caller)
        except OSError:
            self.abort()
        except CommandError as error:
            self._send_away(error)

    def data_received(self, data: bytes) -> None:
        """Answer the lines that are whole now."""
        if self._close_by is None:
            self._heard = self._loop.time()
            self._buffer.feed(data)
            self._answer_lines()

    def eof_received(self) -> bool:
        """Answer what is left; the connection stays open until that is done."""
        self._ended = True
        self._answer_lines()
        return self._close_by is None

    def pause_writing(self) -> None:
        """Carry nothing out while the client does not read."""
        self._writable.clear()
        self.unread_since = self._loop.time()
        self._server.bound_unread()

    def resume_writing(self) -> None:
        """Go on."""
        self._writable.set()
        self.unread_since = None
        self._answer_lines()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what still works for the client."""
        self._close_by = self._heard
        if self._task is not None:
            # Not at once: a generator that has not begun would never come to its end.
            self._loop.call_soon(self._task.cancel)
        self._server.forget(self)

    # What the server calls.

    def check(self, now: float) -> None:
        """End the connection if one of its times is over, or nobody is there any more."""
        limits = self._server.limits
        if self._close_by is not None:
            if now >= self._close_by:
                self.abort()
        elif self._line_began is not None and now - self._line_began >= limits.line:
            self._send_away(
                CommandError(
                    f"a line began {limits.line:g} s ago and has not ended",
                    code=wire.Code.PARSE_ERROR,
                    help="end it with a newline",
                )
            )
        elif self._task is None and now - self._heard >= limits.idle:
            self._close()
        elif self._waits and self._is_gone():
            self.abort()

    def end(self) -> None:
        """Close because the daemon ends."""
        if self._unanswered is not None:
            error = CommandError("the daemon ends", code=wire.Code.REFUSED)
            self._write(self._unanswered.error(error))
        if self._task is not None:
            self._task.cancel()
        self._close()

    def cut_off(self) -> None:
        """Close at once: it keeps too much waiting in memory."""
        event(
            _log,
            logging.WARNING,
            "control.unread",
            octets=self.unread,
            uid=self._caller.uid,
            user=self._caller.name,
            caller_pid=self._caller.pid,
        )
        self.abort()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        self._transport.abort()

    # Lines and answers.

    def _answer_lines(self) -> None:
        turn_ends = time.monotonic() + self._server.limits.turn
        progress = False
        while (line := self._next_line()) is not None:
            progress = True
            if line.strip():
                self._answer(line)
            if time.monotonic() >= turn_ends:
                self._line_began = None
                self._read_on(False)  # more would have a turn of its own at once
                self._loop.call_soon(self._answer_lines)
                return
        self._rest(progress)

    @property
    def _waits(self) -> bool:
        return self._task is not None or not self._writable.is_set() or self._close_by is not None

    def _next_line(self) -> bytes | None:
        if self._waits:
            return None
        line = self._buffer.pop()
        return self._buffer.finish() if line is None and self._ended else line

    def _rest(self, progress: bool) -> None:
        """There is nothing to carry out now: wait for the task, the reader, or the next line."""
        if self._close_by is not None:
            return
        if self._waits:
            self._line_began = None
            self._read_on(len(self._buffer) <= wire.LINE_LIMIT)
        elif self._ended:
            self._close()
        else:
            if not self._buffer.unfinished:
                self._line_began = None
            elif progress or self._line_began is None:
                self._line_began = self._loop.time()
            self._read_on(True)

    def _read_on(self, wanted: bool) -> None:
        if wanted != self._reading and not self._ended:
            self._reading = wanted
            self._transport.resume_reading() if wanted else self._transport.pause_reading()

    def _answer(self, line: bytes) -> None:
        call = read_call(line)
        try:
            command, params = call.resolve()
            outcome = self._server.carry_out(self._caller, self._roles, command, params, call.form)
            if isinstance(outcome, dict):
                self._write(call.result(command, outcome))
                return
        except Exception as error:
            self._write(call.error(refusal(error)))
            return
        if isinstance(outcome, AsyncGenerator):
            self._task = self._loop.create_task(self._stream(call, command, outcome))
        else:
            self._unanswered = call
            self._task = self._loop.create_task(self._wait_for(call, command, outcome))

    async def _wait_for(
        self,
        call: Call,
        command: Command,
        outcome: Coroutine[Any, Any, Result | AsyncGenerator[Result, None]],
    ) -> None:
        try:
            result = await outcome
            if isinstance(result, AsyncGenerator):
                self._unanswered = None
                await self._stream(call, command, result)
                return
            answer = call.result(command, result)
        except Exception as error:
            answer = call.error(refusal(error))
        self._task = self._unanswered = None
        self._write(answer)
        self._answer_lines()

    async def _stream(
        self, call: Call, command: Command, items: AsyncGenerator[Result, None]
    ) -> None:
        self._write(call.result(command, {"ok": True}))
        try:
            async with aclosing(items):
                async for item in items:
                    self._write(call.item(command, item))
                    await self._writable.wait()
        except Exception as error:
            self._write(call.ended(refusal(error)))
            self._close()
        self._task = None
        self._answer_lines()

    def _write(self, answer: bytes) -> None:
        if answer and not self._transport.is_closing():
            self._transport.write(answer)

    # Endings.

    def _send_away(self, error: CommandError) -> None:
        """Say why, and leave the client the time to read it before its writes fail."""
        self._close_by = self._loop.time() + self._server.limits.linger
        self._transport.write(wire.error_line(None, error))
        if self._server.crowded:
            self._transport.close()
        else:
            self._transport.write_eof()

    def _close(self) -> None:
        """Close once everything is sent; the client has as long as an idle one to read it."""
        self._close_by = self._loop.time() + self._server.limits.idle
        self._transport.close()

    def _is_gone(self) -> bool:
        """Whether the client has closed both directions; EOF alone may be half a close."""
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), 0)
        return bool(poll.poll(0))
