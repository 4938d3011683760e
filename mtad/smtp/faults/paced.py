"""A connection that is slow, or whose session speaks at length."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mtad.smtp.faults.alarm import Alarm
from mtad.smtp.faults.connection import FaultyConnection
from mtad.smtp.poller import Poller
from mtad.smtp.stream import OPEN, Outbox

if TYPE_CHECKING:
    from mtad.smtp.session import Session

# A slow connection sends or reads at once what this many seconds allow, and one octet at least.
_STEP = 0.02
# What is given to the stream at once, and how much it holds then at most.
_PIECE = 16_384
_AHEAD = 65_536
# More that waits to be sent slowly than this, and the session answers no more until it is sent.
_HIGH_WATER = 65_536


class PacedConnection(FaultyConnection):
    """A connection that sends and reads as slowly as a rule says, from when it says so.

    What a rate limits is the octets of the session on their way out (each piece is a TLS record of
    its own), and those of the wire on their way in. There is one timer for each way that is slow.
    """

    __slots__ = (
        "_at_last",
        "_held",
        "_is_wanted",
        "_pieces",
        "_read_rate",
        "_read_timer",
        "_rest",
        "_send_rate",
        "_send_timer",
        "_then",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: Any,
        session: Session,
        outbox: Outbox,
        poller: Poller,
    ) -> None:
        super().__init__(sock, peer, session, outbox, poller)
        self._send_rate = self._read_rate = 0.0
        self._send_timer: Alarm | None = None
        self._read_timer: Alarm | None = None
        self._pieces: deque[Iterator[bytes]] = deque()  # what is to be given to the stream
        self._rest = b""  # of the piece that is being given
        self._held = 0  # octets of the session that wait among them
        self._then: Callable[[], None] | None = None  # when all is given
        self._at_last: Callable[[], None] | None = None  # how it ends, then
        self._is_wanted = False  # the session wants to read when that may be

    @property
    def is_slow(self) -> bool:
        """Whether the client waits because we take our time."""
        return self._read_timer is not None or self._send_timer is not None

    # Slowly out

    def send_slowly(self, rate: float) -> None:
        """Send ``rate`` octets a second from now on."""
        self._send_rate = rate

    def write(self, data: Any) -> None:
        """Send ``data`` when it is its turn."""
        if not (self._send_rate or self._pieces):
            super().write(data)
            return
        self._pieces.append(iter((bytes(data),)))
        self._held += len(data)
        self._pump()
        if self._held > _HIGH_WATER:
            self.session.pause_writing()

    def stream(self, pieces: Iterator[bytes], then: Callable[[], None]) -> None:
        """Send pieces, made as the client reads; ``then`` is called when all are given."""
        self._pieces.append(pieces)
        self._then = then
        self._pump()

    def _pump(self) -> None:
        """Give the stream what it may send now."""
        while (
            self._pieces
            and self._send_timer is None
            and len(self._unsent) < _AHEAD
            and self._state is OPEN
        ):
            piece = self._next_piece()
            super().write(piece)
            if self._send_rate and piece:
                seconds = len(piece) / self._send_rate
                self._send_timer = Alarm(self._loop, seconds, self._send_more)
        if not self._pieces:
            self._all_is_given()

    def _next_piece(self) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces[0], b"")
            if not self._rest:
                self._pieces.popleft()
        size = max(int(self._send_rate * _STEP), 1) if self._send_rate else _PIECE
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def _send_more(self) -> None:
        self._send_timer = None
        self._pump()

    def _all_is_given(self) -> None:
        if self._held > _HIGH_WATER:
            self._loop.call_soon(self.session.resume_writing)
        self._held = 0
        if self._then is not None:
            self._loop.call_soon(self._then)
            self._then = None
        if self._at_last is not None:
            at_last, self._at_last = self._at_last, None
            at_last()

    def send(self) -> None:
        """Send what the client takes now; then there may be room for more."""
        super().send()
        if self._pieces:
            self._pump()

    # Slowly in

    def read_slowly(self, rate: float) -> None:
        """Read ``rate`` octets a second from now on; the kernel holds little of what is unread."""
        self._read_rate = rate
        self.narrow()

    def _read(self) -> None:
        if not self._read_rate or self._state is not OPEN:
            super()._read()
            return
        octets = self._socket.recv(max(int(self._read_rate * _STEP), 1), socket.MSG_DONTWAIT)
        super().pause_reading()
        self._is_wanted = True
        self._read_timer = Alarm(self._loop, len(octets) / self._read_rate, self._read_more)
        self._take(octets)

    def _read_more(self) -> None:
        self._read_timer = None
        if self._is_wanted:
            self.resume_reading()

    def pause_reading(self) -> None:
        """Leave what the client sends in the kernel."""
        self._is_wanted = False
        super().pause_reading()

    def resume_reading(self) -> None:
        """Go on reading, as soon as that may be."""
        self._is_wanted = True
        if self._read_timer is None:
            super().resume_reading()

    def is_reading(self) -> bool:
        """Whether the client is listened to."""
        return self._reading or (self._read_timer is not None and self._is_wanted)

    # The end

    def is_closing(self) -> bool:
        """Whether nothing more is sent than what was written already."""
        return self._at_last is not None or super().is_closing()

    def close(self) -> None:
        """End the connection when everything is sent."""
        self._finally(super().close)

    def end(self) -> None:
        """End the connection, now if nothing remains to be sent."""
        self._finally(super().end)

    def linger(self) -> None:
        """End the connection of a client that is still talking: FIN, and no RST for a while."""
        self._finally(self._linger)

    def _linger(self) -> None:
        self._read_rate = 0.0  # what comes now is thrown away
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        super().linger()

    def reset(self) -> None:
        """Reset the connection, once the client's kernel has what was sent."""
        self._finally(super().reset)

    def shut(self) -> None:
        """End our half of the connection, once everything is sent."""
        self._finally(super().shut)

    def _finally(self, at_last: Callable[[], None]) -> None:
        if self._pieces:
            self._at_last = at_last
        else:
            at_last()

    def _lose(self, error: Exception | None) -> None:
        for timer in (self._send_timer, self._read_timer):
            if timer is not None:
                timer.cancel()
        self._send_timer = self._read_timer = None
        self._pieces.clear()
        super()._lose(error)
