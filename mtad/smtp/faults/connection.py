"""A connection that is deaf, or ends as a rule says."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from mtad.smtp.connection import Connection
from mtad.smtp.faults.tls_records import is_whole
from mtad.smtp.poller import Poller
from mtad.smtp.stream import CLOSING, LOST, OPEN, Outbox

if TYPE_CHECKING:
    from mtad.smtp.faults.acting import Acting
    from mtad.smtp.session import Session

# What is on its way when a connection is reset is lost: the client's kernel is waited for, so long.
_DELIVERY_SECONDS = 10.0
_LOOK_SECONDS = 0.002
_COUNT = struct.Struct("i")


class FaultyConnection(Connection):
    """A connection of a session that has rules."""

    __slots__ = ("_hello", "_on_hello", "_resets", "_tell")

    def __init__(
        self,
        sock: socket.socket,
        peer: Any,
        session: Session,
        outbox: Outbox,
        poller: Poller,
    ) -> None:
        super().__init__(sock, peer, session, outbox, poller)
        # Before the end, by which a client can see that a rule has fired.
        self._tell = cast("Acting", session).judge.tell
        self._resets = False
        self._hello = b""
        self._on_hello: Callable[[bytes], None] | None = None  # when a ClientHello has come

    @property
    def is_slow(self) -> bool:
        """Whether the client waits because we take our time."""
        return False

    def has_hung_up(self) -> bool:
        """Whether the client has ended its half, or all of it; what it has said may be unread."""
        if self._state is LOST:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    def deafen(self) -> None:
        """Read nothing any more; the session does not ask for it."""
        self.pause_reading()
        self.narrow()

    def narrow(self) -> None:
        """Have the kernel hold as little as can be of what is unread.

        What it has promised the client already, 64 KiB at the beginning of a connection, it takes
        all the same.
        """
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # its least (socket(7))

    # Before a handshake

    def await_hello(self, then: Callable[[bytes], None]) -> None:
        """Call ``then`` with the ClientHello, or what comes instead; what follows is in clear."""
        self._on_hello, self._is_plain = then, False
        self.last = self._loop.time()

    def unwrap(self, octets: bytes) -> None:
        """Take part of a ClientHello, or what else is wrapped."""
        then = self._on_hello
        if then is None:
            super().unwrap(octets)
            return
        self._hello += octets
        if is_whole(self._hello):
            self._on_hello, self._is_plain = None, True
            hello, self._hello = self._hello, b""
            then(hello)

    @property
    def is_shaking_hands(self) -> bool:
        """Whether the client still owes a PROXY header or a TLS handshake."""
        return self._on_hello is not None or super().is_shaking_hands

    # The end

    def reset(self) -> None:
        """Reset the connection, once the client's kernel has what was sent."""
        if self._state is OPEN:
            self._state, self._resets = CLOSING, True
            self.last = self._loop.time()
            self.finish()

    def finish(self) -> None:
        """Take the next step to the end, now that something was sent."""
        self._tell()
        if not self._resets:
            super().finish()
        elif not self._unsent and self._state is not LOST:
            if self._is_on_its_way() and self._loop.time() < self.last + _DELIVERY_SECONDS:
                self._loop.call_later(_LOOK_SECONDS, self.finish)
            else:
                self.abort()

    def _is_on_its_way(self) -> bool:
        """Whether the client's kernel has still to say that it has what was sent (tcp(7))."""
        return any(_COUNT.unpack(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(_COUNT.size))))

    def shut(self) -> None:
        """End our half of the connection, once everything is sent."""
        if self._state is OPEN:
            self.write_raw(self.last_octets())
            self._shut_down()

    def _shut_down(self) -> None:
        if self._state is not OPEN:
            return
        if self._unsent:
            self._loop.call_later(_LOOK_SECONDS, self._shut_down)
            return
        self._tell()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        self._tell()
        super()._lose(error)
