"""A client's socket as a transport of asyncio: plain octets in and out, and how it ends.

A socket of ours rather than one of the loop's transports: half the cost of a connection, and its
memory; one buffer serves all. What the octets are wrapped in is in connection.py.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mtad.log import event
from mtad.smtp.client import peer_name
from mtad.smtp.poller import Poller
from mtad.smtp.stage import Stage

if TYPE_CHECKING:
    from mtad.smtp.session import Session

log = logging.getLogger("mtad.smtp")

# What one recv(2) takes at most: of a message, and of commands (a bounded share of each wake-up).
_MESSAGE_SHARE = 262_144
_COMMANDS_SHARE = 16_384
# Filled and used up within one wake-up, so that all connections can share it.
_BUFFER = bytearray(_MESSAGE_SHARE)
# More unsent octets than this, and the session answers no more until the client has read.
_HIGH_WATER = 65_536
# l_onoff 1, l_linger 0: close(2) discards and resets (socket(7)).
_RESET = struct.pack("ii", 1, 0)
# Nobody waits for more than so many others.
_MOST_AT_ONCE = 64
# After a goodbye the client may go on sending for so many octets before it is reset.
_LINGER_OCTETS = 1_048_576
# And for so long, once all is sent: many clients look at a connection only when they need it again.
_LINGER_SECONDS = 2.0
_DONTWAIT = socket.MSG_DONTWAIT

# The states of a stream, in the order in which they may follow each other.
OPEN, CLOSING, LINGERING, LOST = "open", "closing", "lingering", "lost"


class Outbox:
    """What is to be sent when everybody who has said something has been heard.

    A send wakes whoever waits for it, which costs more than most commands. Sent one after the
    other, all replies of one turn of the loop find a client with many connections awake.
    ``before`` is called before each turn's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, before: Callable[[], None]) -> None:
        self._loop = loop
        self._before = before
        self._due: list[Stream] = []

    def add(self, stream: Stream) -> None:
        """Send what ``stream`` has, soon."""
        due = self._due
        due.append(stream)
        if len(due) == 1:
            self._loop.call_soon(self._send)
        elif len(due) == _MOST_AT_ONCE:
            self._send()

    def _send(self) -> None:
        self._before()
        due, self._due = self._due, []
        for stream in due:
            stream.send()


class Stream(asyncio.Transport):
    """One client; ``peer`` is its address as accept(2) gave it, ``session`` the protocol.

    ``last`` is when the client last made progress, in the loop's seconds; ``heard`` that it has
    made some since that was looked at.
    """

    __slots__ = (
        "_discarded",
        "_is_blocked",
        "_is_plain",
        "_loop",
        "_outbox",
        "_poller",
        "_reading",
        "_socket",
        "_state",
        "_unsent",
        "heard",
        "last",
        "peer",
        "session",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: Any,
        session: Session,
        outbox: Outbox,
        poller: Poller,
    ) -> None:
        self._socket = sock
        self._outbox = outbox
        self._poller = poller
        self._loop = loop = poller.loop
        self._state = OPEN
        self._reading = False
        self._is_plain = True
        self._unsent = b""
        self._is_blocked = False  # the client's window is full
        self._discarded = 0
        self.peer: Any = peer
        self.session = session
        self.last = loop.time()
        self.heard = False

    def unwrap(self, octets: bytes) -> None:
        """Take octets that are not the session's as they are."""
        raise NotImplementedError

    def wrap(self, octets: bytes) -> bytes:
        """Return what stands for ``octets`` on the wire."""
        raise NotImplementedError

    def last_octets(self) -> bytes:
        """Return what is to be sent before the end."""
        return b""

    # Input

    def _readable(self) -> None:
        try:
            self._read()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
        except Exception as error:
            # The engine's own fault: this client's session ends, and nobody else's.
            event(log, logging.ERROR, "connection.error", exc_info=error, peer=peer_name(self.peer))
            self.session.stage(Stage.FAULT)
            self.abort()

    def _read(self) -> None:
        session = self.session
        if session.body is not None and self._is_plain and self._state is OPEN:
            # A larger share, without making an object of it.
            length = self._socket.recv_into(_BUFFER, _MESSAGE_SHARE, _DONTWAIT)
            if length:
                self.heard = True
                session.receive(_BUFFER, length)
            else:
                self.end_of_input()
            return
        self._take(self._socket.recv(_COMMANDS_SHARE, _DONTWAIT))

    def _take(self, octets: bytes) -> None:
        """Take what was read; b"": the client has ended its half."""
        if not octets:
            self.end_of_input()
        elif self._state is not OPEN:
            self._discard(len(octets))
        elif self._is_plain:
            self.heard = True
            self.session.data_received(octets)
        else:
            self.unwrap(octets)

    def end_of_input(self) -> None:
        """Let the session answer what has come."""
        self.pause_reading()  # or the loop would wake us again and again
        if self._state is OPEN:
            self.session.eof_received()
        elif not self._unsent:  # else the client may still read it
            self._lose(None)

    def pause_reading(self) -> None:
        """Leave what the client sends in the kernel, whose window then closes."""
        if self._reading and self._state is not LOST:
            self._reading = False
            self._watch()

    def resume_reading(self) -> None:
        """Go on reading."""
        if not self._reading and self._state is not LOST:
            self._reading = True
            self._watch()

    def _watch(self) -> None:
        """Wait for what there is to wait for."""
        self._poller.watch(
            self._socket.fileno(),
            self._readable if self._reading else None,
            self._writable if self._is_blocked else None,
        )

    def is_reading(self) -> bool:
        """Whether the client is listened to."""
        return self._reading

    # Output

    def write(self, data: Any) -> None:
        """Send ``data`` as soon as the client takes it."""
        if self._state is OPEN:
            self.write_raw(data if self._is_plain else self.wrap(data))

    def write_raw(self, octets: bytes) -> None:
        """Send octets as they are, in whatever state."""
        if self._unsent:
            self._unsent += octets
            if self._is_blocked:
                self._block()
        elif octets:
            self._unsent = octets
            self._outbox.add(self)

    def send(self) -> None:
        """Send what the client takes now, and the rest when it takes more."""
        if self._state is LOST:
            return
        try:
            sent = self._socket.send(self._unsent, _DONTWAIT)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lose(error)
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._block()
            return
        if self._is_blocked:
            self._unblock()
        if self._state is not OPEN:
            self.finish()

    def _block(self) -> None:
        if not self._is_blocked:
            self._is_blocked = True
            self._watch()
        if len(self._unsent) > _HIGH_WATER and self._state is OPEN:
            self.session.pause_writing()

    def _unblock(self) -> None:
        self._is_blocked = False
        self._watch()
        if self._state is OPEN:
            self.session.resume_writing()

    def _writable(self) -> None:
        self.heard = True
        self.send()

    def get_write_buffer_size(self) -> int:
        """How many octets the client has not taken yet."""
        return len(self._unsent)

    # The end

    def is_closing(self) -> bool:
        """Whether nothing more is sent than what was written already."""
        return self._state is not OPEN

    def close(self) -> None:
        """End the connection when everything is sent; connection_lost follows from the loop."""
        if self._state is OPEN:
            self._begin_end(CLOSING)
            self._loop.call_soon(self.finish)

    def end(self) -> None:
        """As ``close``, but connection_lost is called now if nothing remains to be sent."""
        if self._state is OPEN:
            self._begin_end(CLOSING)
            self.finish()

    def linger(self) -> None:
        """As ``close``, for a client that is still talking.

        A socket that is closed with input unread is reset, and our last words with it: so say
        that we are done, and throw away what comes until the client closes (RFC 9112 section 9.6
        says the same of HTTP).
        """
        if self._state is OPEN:
            self._begin_end(LINGERING)
            self.resume_reading()
            self.finish()

    def _begin_end(self, state: str) -> None:
        self.last = self._loop.time()
        self._state = state
        self.write_raw(self.last_octets())

    def finish(self) -> None:
        """Take the next step to the end, now that something was sent."""
        if self._unsent or self._state is LOST:
            return
        if self._state is LINGERING and self._reading:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._lose(error)
            else:
                self._loop.call_later(_LINGER_SECONDS, self._lose, None)
        else:
            self._lose(None)

    def fail(self, last_octets: bytes) -> None:
        """End the connection with ``last_octets``, which are not the session's."""
        self._state = CLOSING
        self.write_raw(last_octets)
        self.finish()

    def _discard(self, length: int) -> None:
        self._discarded += length
        if self._discarded > _LINGER_OCTETS:
            self.abort()

    def abort(self) -> None:
        """Reset the connection now (RST, not FIN: the client must not take it for a goodbye)."""
        if self._state is not LOST:
            if self._socket.family != socket.AF_UNIX:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if self._state is LOST:
            return
        if self._reading or self._is_blocked:
            self._reading = self._is_blocked = False
            self._watch()
        self._state = LOST
        self._socket.close()
        self.session.connection_lost(error)
