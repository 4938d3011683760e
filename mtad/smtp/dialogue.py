"""The dialogue of a session: lines and messages in, in turns.

Octets arrive in chunks. Every complete line of a chunk is a command (or goes to the command that
has asked for it), every other octet belongs to a message; all replies to a chunk leave together.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, cast

from mtad.log import event
from mtad.model.profile import Early
from mtad.smtp.client import Client
from mtad.smtp.connection import Connection
from mtad.smtp.frame import MessageReader, log
from mtad.smtp.lines import AUTH_LINE, Run
from mtad.smtp.proxy import proxy_data
from mtad.smtp.reply import Refusal, Reply, encode
from mtad.smtp.running import Running
from mtad.smtp.stage import Stage

# After so many commands the other connections have their turn.
_COMMANDS_A_TURN = 64
# A line that has come to so many octets without an end is not going to have one.
_ENDLESS_LINE = 1_048_576
# What stands for a line that is too long to be looked at.
_UNUSABLE = bytes(AUTH_LINE + 1)
# RFC 3207 section 4; and BDAT, which finds no transaction, but takes its octets away.
_BEFORE_TLS = frozenset({"NOOP", "EHLO", "LHLO", "STARTTLS", "QUIT", "BDAT"})

_TOO_LONG = encode(Reply(500, "5.5.2", "Line too long"))
_NO_END = encode(Reply(421, "4.7.0", "This line has no end, closing the connection"))
_EARLY = encode(Reply(554, "5.5.1", "You talked before the greeting"))
_TOO_MANY = {
    "sessions": encode(Reply(421, "4.7.0", "Too many sessions, try again later")),
    "sessions_per_peer": encode(Reply(421, "4.7.0", "Too many sessions of yours, try again later")),
}


class Dialogue(Running):
    """A session that greets, and takes commands; they are in the classes that build on this one."""

    def begin(self, *, header: bool) -> None:
        """Begin to read; ``header``: the client owes a PROXY header."""
        self.connection.begin(header=header, context=self.service.implicit_tls)

    def secure(self, context: ssl.SSLContext) -> None:
        """Shake hands next."""
        self.connection.start_tls(context)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet; or, after STARTTLS, begin anew (RFC 3207 section 4.2)."""
        self.transport = self.connection = cast("Connection", transport)
        if self._is_cut:
            self.connection.abort()
        elif self._greeted:
            self._secured()
        elif self.refused_by:
            self.goodbye(_TOO_MANY[self.refused_by])
        else:
            service = self.service
            self.session = Client(self.connection.peer, self.service.loop)
            self._is_guarded = service.profile.tls.required and not self.is_secure
            if self.is_secure:
                self._note_tls()
            if self.connection.header is None and not service.profile.greeting_delay:
                self._greet()
            else:
                self.drive(self._welcome())
            self.flush()

    def _greet(self) -> None:
        self._greeted = True
        self.reply(self.service.greeting)

    def _secured(self) -> None:
        """Begin anew after STARTTLS."""
        self.begin_anew()
        if "STARTTLS" in self.service.hooks:
            try:
                self._tls_handshake_okay = self.ask("STARTTLS")
            except Exception as error:
                self.goodbye(self._fault(error, 421), Stage.FAULT)
                return
        self._is_guarded = not self._tls_handshake_okay
        self.flush()

    def begin_anew(self) -> None:
        """Forget everything that the client has said."""
        self.end_transaction()
        proxy_data = self.session.proxy_data
        self.session = Client(self.connection.peer, self.service.loop)
        self.session.proxy_data = proxy_data
        self.user = ""
        if self.is_secure:
            self._note_tls()

    def drop_input(self) -> int:
        """Forget what has come and is not answered; return how many octets that was."""
        dropped = len(self._input) - self._at
        self._input, self._at = b"", 0
        return dropped

    def _note_tls(self) -> None:
        self._tls_protocol = self.connection.tls
        self.session.ssl = {
            name: self.connection.get_extra_info(name)
            for name in ("sslcontext", "ssl_object", "peercert", "cipher", "compression")
        }

    async def _welcome(self) -> None:
        """Greet as soon as that is due; a client that cannot be greeted is sent away."""
        try:
            await self._welcomed()
        except Exception as error:
            self.goodbye(self._fault(error, 421), Stage.FAULT)

    async def _welcomed(self) -> None:
        header = self.connection.header
        if header is not None:
            self.session.proxy_data = told = proxy_data(header)
            if "PROXY" in self.service.hooks and not await self.ask("PROXY", told):
                self.stage(Stage.REFUSED)
                self.end()
                return
        if self.service.profile.greeting_delay:
            await asyncio.sleep(self.service.profile.greeting_delay)
            if self._input:
                self.stage(Stage.EARLY)
                self.notes = ("early-talk",)
                listener, peer = self.service.name, self.client
                event(log, logging.WARNING, "session.early_talker", listener=listener, peer=peer)
                if self.service.profile.early_talkers is Early.REFUSE:
                    self.goodbye(_EARLY)
                    return
        self._greet()

    def receive(self, buffer: bytearray, length: int) -> None:
        """Take octets of a message, at the beginning of ``buffer``, which is used again."""
        if self.body is None or self._input or self._ended or self._waits:
            # Not that of a class that builds on this one, which knows of these octets already.
            Dialogue.data_received(self, bytes(memoryview(buffer)[:length]))
        else:
            self._read_body(self.body, buffer, 0, length)
            if not self.connection.is_reading() or self._input:
                self.turn()
            else:
                self.flush()

    def data_received(self, data: bytes) -> None:
        """Take what came, and answer it as far as this turn goes."""
        if self._ended:
            return
        if self._input:
            data = self._input + data
        self._input = data
        if self._turn_is_due or self._waits:
            self.connection.pause_reading()  # there is enough to do
        elif self.body is None and data.find(b"\n") == len(data) - 1:
            # One whole line, as from a client that waits for each reply.
            self._input = b""
            self._take_line(data)
            self.flush()
        else:
            self.turn()

    def eof_received(self) -> bool:
        """Answer what has come: a client may close its half first, and read the replies."""
        self._no_more_input = True
        if not self._turn_is_due:
            self.turn()
        return True

    def turn(self) -> None:
        """Answer what has come, a bounded number of commands, with one write."""
        self._turn_is_due = False
        for _ in range(_COMMANDS_A_TURN):
            if self._ended or self._waits or not (self._input and self._take_next()):
                break
        else:
            self._turn_is_due = True
            self.service.loop.call_soon(self.turn)
        if self._at:
            self._input, self._at = self._input[self._at :], 0
        self.flush()
        if self._no_more_input or not self.connection.is_reading():
            self._after_turn()

    def _take_next(self) -> bool:
        """Take a line, or octets of a message; return False if there is none."""
        data, at = self._input, self._at
        if at == len(data):
            return False
        if self.body is not None:
            self._read_body(self.body, data, at, len(data))
        elif end := data.find(b"\n", at) + 1:
            self._at = end
            self._take_line(data[at:end])
        elif len(data) - at > self.service.longest_line:
            self._skip_line()
        else:
            return False
        return True

    def _after_turn(self) -> None:
        """Go on with a client that was not listened to, or that has said all."""
        if self._ended or self._waits or self._turn_is_due:
            return
        if self._no_more_input:
            self.end()
        else:
            self.connection.resume_reading()

    def read(
        self,
        reader: MessageReader,
        sink: Callable[[bytes | memoryview], None],
        ended: Callable[[Any], Run],
    ) -> None:
        """Take the octets that follow for ``reader``'s, up to its end.

        What it makes of them goes to ``sink``; ``ended(reader)`` answers, as a command does.
        """
        self.body, self._sink, self._at_end = reader, sink, ended

    def _read_body(
        self, body: MessageReader, buffer: bytes | bytearray, start: int, end: int
    ) -> None:
        self._input, self._at = b"", 0
        octets = body.feed(buffer, start, end)
        if octets:
            self._sink(octets)
        if body.ended:
            if body.unread:
                self._input = bytes(memoryview(buffer)[end - body.unread : end])
            self.body = None
            coroutine = self._at_end(body)
            if coroutine is not None:
                self.drive(coroutine)

    def _skip_line(self) -> None:
        """Forget what is longer than any line."""
        skipped = 0

        def count(octets: bytes | memoryview) -> None:
            nonlocal skipped
            skipped += len(octets)
            if skipped > _ENDLESS_LINE:
                self.goodbye(_NO_END)

        def refuse(_: object) -> None:
            if self._asked is None:
                self.reply(_TOO_LONG)
            else:
                self._give(self._asked, _UNUSABLE)

        self.read(RestOfLine(), count, refuse)

    def _take_line(self, octets: bytes) -> None:
        """Carry out a command, or give the line to the command that has asked for it."""
        if self._asked is not None:
            self._give(self._asked, octets)
            return
        try:
            line = self.service.lines.parse(octets)
            if self._is_guarded:
                self._check_security(line.verb)
            coroutine = line.run(self, line.argument)
        except Refusal as refusal:
            self.reply(encode(refusal.reply))
        except Exception as error:
            self.reply(self._fault(error))
        else:
            if coroutine is not None:
                self.drive(coroutine)

    def _check_security(self, verb: str) -> None:
        """Refuse what has to wait for TLS, or is too late after it has failed."""
        if not self._tls_handshake_okay:
            if verb != "QUIT":
                raise Refusal(554, "5.7.0", "Command refused due to lack of security")
        elif verb not in _BEFORE_TLS:
            raise Refusal(530, "5.7.0", "Must issue a STARTTLS command first")

    def _give(self, asked: asyncio.Future[bytes], line: bytes) -> None:
        self._asked = None
        self.update_waits()
        asked.set_result((line if len(line) <= AUTH_LINE else _UNUSABLE).rstrip(b"\r\n"))

    async def next_line(self) -> bytes:
        """Return the next line the client sends, without its end."""
        self._asked = asked = self.service.loop.create_future()
        self.update_waits()
        if self._task is not None:  # else the turn that has brought us here goes on
            self.flush()
            self.service.loop.call_soon(self.turn)
        line: bytes = await asked
        return line


class RestOfLine:
    """Reads up to the end of a line."""

    ended = False
    unread = 0

    def feed(self, buffer: bytes | bytearray, start: int, end: int) -> memoryview:
        """Look for the end."""
        line_end = buffer.find(b"\n", start, end) + 1
        if line_end:
            self.ended, self.unread = True, end - line_end
        return memoryview(buffer)[start : line_end or end]
