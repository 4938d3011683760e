"""The frame of a session: its state, its replies, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from aiosmtpd.smtp import SMTP, Envelope

from mtad.log import event
from mtad.smtp.client import Client, peer_name
from mtad.smtp.connection import Connection
from mtad.smtp.reply import Reply, encode, from_hook, without_status
from mtad.smtp.service import Service
from mtad.smtp.stage import Stage

log = logging.getLogger("mtad.smtp")

# How long a client may take to read our goodbye.
_GOODBYE_SECONDS = 10.0
# Replies that say that the client broke the protocol; others (550) are about its mail.
_PERMANENT = ord("5")
_ERRORS = frozenset({b"500", b"501", b"502", b"503", b"504", b"535", b"538", b"555"})

_TIMEOUT = encode(Reply(421, "4.4.2", "Timeout, closing the connection"))
_ERRORS_EXCEEDED = encode(Reply(421, "4.7.0", "Too many errors, closing the connection"))
_STOPPING = encode(Reply(421, "4.3.2", "This listener is being stopped"))


class MessageReader(Protocol):
    """What takes octets that are no commands, until ``ended``.

    ``unread`` is then how many of the last chunk follow.
    """

    ended: bool
    unread: int

    def feed(self, buffer: bytes | bytearray, start: int, end: int) -> bytes | memoryview:
        """Take the chunk ``buffer[start:end]``; return what of it belongs to the message."""
        ...


class Frame(SMTP):
    """One client's session; the commands are in the classes that build on this one.

    ``on_end(session)`` is called once, when the connection is gone. Each listener has a class of
    its own, made from this one with what aiosmtpd's constructor works out.
    """

    session: Client
    connection: Connection
    connection_class: type[Connection] = Connection
    # What most connections never change.
    transport: asyncio.BaseTransport | None = None
    told_address: tuple[str, int] | None = None  # by XCLIENT
    user = ""  # who has logged in
    notes: tuple[str, ...] = ()
    refused_by = ""  # the limit that is in the way of this session
    _errors = 0
    _is_cut = False
    _greeted = False
    _is_paused = False  # the client does not read
    _tls_protocol: Any = None
    _tls_handshake_okay = True

    def __init__(self, service: Service, on_end: Callable[[Any], None]) -> None:
        # Not the base class's: what that sets for each connection, the listener's class has.
        # What is read for each command is here, for the interpreter finds it sooner than there.
        self.service = service
        self.envelope = None
        self.body: MessageReader | None = None
        self._on_end = on_end
        self._input = b""
        self._at = 0  # so much of it is answered
        self._replies: list[bytes] = []
        self._waits = False  # nothing can be answered now
        self._task: asyncio.Task[None] | None = None
        self._is_owed = False  # an answer, which a callback brings
        self._asked: asyncio.Future[bytes] | None = None  # a command waits for a line
        self._turn_is_due = False
        self._is_guarded = False  # commands wait for TLS
        self._no_more_input = False
        self._ending: bytes | None = None  # the reply to end with, between transactions
        self._ended = False

    def __del__(self) -> None:
        """Leave alone what the base class would look after: there is no stream reader."""

    @property
    def key(self) -> int:
        """The key of what is recorded (mtad.model.ids); 0 for nothing."""
        return 0

    @property
    def is_secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.connection.tls is not None

    @property
    def tls_facts(self) -> tuple[str, str, str]:
        """The version of TLS, its cipher, and the host that the client named; "" for none."""
        tls = self.connection.tls
        if tls is None:
            return "", "", ""
        cipher = tls.cipher()
        return tls.version() or "", cipher[0] if cipher else "", tls.sni

    @property
    def client(self) -> str:
        """The client's address, or what a trusted proxy says it is, for people to read."""
        return peer_name(self.client_address)

    @property
    def client_address(self) -> Any:
        """The same as a socket's address."""
        return self.connected_address if self.told_address is None else self.told_address

    @property
    def connected_address(self) -> Any:
        """Who has connected, to us or to the proxy."""
        header = self.connection.header
        return self.connection.peer if header is None else header.source or self.connection.peer

    def begin_transaction(self) -> Envelope:
        """Return a new envelope, which is the session's from now on."""
        raise NotImplementedError

    def end_transaction(self) -> None:
        """Forget the transaction."""
        raise NotImplementedError

    def stage(self, stage: Stage, detail: str = "") -> None:
        """Take note of what happens besides commands and replies; all of it passes here."""

    def spoke(self, octets: int) -> None:
        """Take note of what is said besides replies."""

    # Output

    def said(self, status: object) -> bytes:
        """Return the octets of a reply that a handler has given. Raises ValueError for none."""
        return from_hook(status, enhanced=self.service.enhanced)

    def reply(self, octets: bytes) -> None:
        """Answer; every reply passes here. It is sent at the end of the turn."""
        if self._ended:
            return
        self._replies.append(octets if self.service.enhanced else without_status(octets))
        if octets[0] == _PERMANENT and octets[:3] in _ERRORS:
            self._errors += 1
            if self._errors == self.service.limits.errors:
                self.goodbye(_ERRORS_EXCEEDED)

    async def push(self, status: str | bytes) -> None:
        """Answer with a line of a handler's; one that ends with more to come is left as it is."""
        octets = status.encode("utf-8", "surrogateescape") if isinstance(status, str) else status
        if octets[3:4] == b"-":
            self._replies.append(octets + b"\r\n")
        else:
            self.reply(self.said(octets))
        if self._task is not None:
            self.flush()

    def flush(self) -> None:
        """Send the replies of this turn, and end the session if that is asked for."""
        replies = self._replies
        if replies:
            octets = replies[0] if len(replies) == 1 else b"".join(replies)
            replies.clear()
            self.connection.write(octets)
        if self._ending is not None and not self._ended and self._may_end():
            self.goodbye(self._ending, Stage.STOPPED)

    def pause_writing(self) -> None:
        """Answer nothing more until the client has read."""
        self._is_paused = True
        self.update_waits()
        self.connection.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_paused = False
        self.update_waits()
        if not self._waits:
            self.turn()

    def update_waits(self) -> None:
        """Find out whether anything can be answered now."""
        # For the client to read, or for a command that does not wait for the client itself.
        self._waits = (
            self._is_paused or self._is_owed or (self._task is not None and self._asked is None)
        )

    def wait_for_answer(self) -> None:
        """Take nothing more until ``answered`` is called: no task is needed to wait."""
        self._is_owed = self._waits = True

    def answered(self) -> None:
        """Go on."""
        self._is_owed = False
        self.update_waits()
        if not self._ended:
            self.connection.last = self.service.loop.time()
            self.turn()

    def turn(self) -> None:
        """Answer what has come, as far as one turn goes."""
        raise NotImplementedError

    # The end

    def drain(self) -> None:
        """End the session as soon as no mail transaction is under way, with 421."""
        self._ending = _STOPPING
        if self._greeted:
            self.flush()

    def cut(self) -> None:
        """Reset the connection now."""
        self._is_cut = True
        self.stage(Stage.CUT)
        self.connection.abort()

    def check(self, now: float) -> None:
        """End what has been silent for too long (RFC 5321 section 4.5.3.2)."""
        connection, limits = self.connection, self.service.profile.timeouts
        if connection.heard or (
            # It is we who owe an answer.
            (self._is_owed or (self._task is not None and self._asked is None)) and not self._ended
        ):
            connection.heard = False
            connection.last = now
            return
        silent = now - connection.last
        if connection.is_closing():
            if silent >= _GOODBYE_SECONDS:
                connection.abort()
        elif connection.is_shaking_hands:
            if silent >= limits.handshake:
                event(log, logging.WARNING, "handshake.timeout", peer=peer_name(connection.peer))
                self.stage(Stage.TIMEOUT, "in the handshake")
                connection.abort()
        elif silent >= (limits.command if self.body is None else limits.data):
            if connection.get_write_buffer_size():
                self.stage(Stage.TIMEOUT, "the client does not read")
                connection.abort()
            else:
                self.goodbye(_TIMEOUT, Stage.TIMEOUT)

    def goodbye(self, octets: bytes, stage: Stage = Stage.REFUSED) -> None:
        """Say the last reply; whatever else the client sends is not looked at."""
        if self._ended:
            return
        self.stage(stage)
        self.reply(octets)
        self.end(linger=True)

    def end(self, *, linger: bool = False) -> None:
        """Close the connection; nothing that is still to come is done."""
        if self._ended:
            return
        self._ended = True
        self.flush()
        if self._task is not None and self._asked is not None:
            self._task.cancel()
        if linger:
            self.connection.linger()
        else:
            self.connection.end()

    def connection_lost(self, error: Exception | None) -> None:
        """Give up what is under way, and tell the owner."""
        self._ended = True
        if self._task is not None:
            self._task.cancel()
        self.end_transaction()
        self._on_end(self)

    @property
    def in_transaction(self) -> bool:
        """Whether MAIL has been accepted, and the message not yet."""
        envelope = self.envelope
        return envelope is not None and envelope.mail_from is not None

    def _may_end(self) -> bool:
        """Whether nothing is under way: no transaction, nor a handshake that hides a goodbye."""
        is_idle = self._task is None and self.body is None and not self.in_transaction
        return is_idle and not self.connection.is_shaking_hands
