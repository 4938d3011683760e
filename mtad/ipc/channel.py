"""A channel of typed messages, with descriptors, over a unix SOCK_SEQPACKET socketpair.

SOCK_SEQPACKET keeps the borders of messages and says when the other side is gone. Descriptors
travel with a message by SCM_RIGHTS (unix(7)). What is too long for one, a profile with thousands of
users say, is put in a file in memory, and its descriptor is what travels.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import sys
import termios
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from mtad.errors import ChannelError

MAX_DESCRIPTORS = 250
"""How many descriptors one message can carry (the kernel's SCM_MAX_FD is 253)."""

MAX_WAITING = 10_000
"""How many messages wait for the other side; one that is further behind hangs."""

_MAX_MESSAGE = 131_072
# MessagePack's nil: the message is in the file whose descriptor comes first.
_IN_FILE = b"\xc0"
_RETRY_SECONDS = 0.01
# More than the kernel holds for one side: the other may go on writing meanwhile.
_MOST_AT_ONCE = 300

M = TypeVar("M")


def pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a new channel, non-blocking and close-on-exec."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


class Channel(Generic[M]):
    """One end of a channel on the running event loop.

    An end that takes no ``descriptors`` takes no message over 128 KiB.

    ``on_message(message, descriptors)`` is called for each message, and owns the descriptors: at
    most ``descriptors`` of them, and fewer where this process may have no more open (the kernel
    closes the rest). ``on_close()`` is called once, when the other end is gone, says what cannot
    be understood, or does not read.
    """

    def __init__(
        self,
        sock: socket.socket,
        receives: Any,
        on_message: Callable[[M, list[int]], None],
        on_close: Callable[[], None],
        *,
        descriptors: int = 0,
    ) -> None:
        self._sock = sock
        self._decode: Callable[[bytes], M] = msgspec.msgpack.Decoder(receives).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._on_message = on_message
        self._on_close = on_close
        self._descriptors = descriptors
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._has_room = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._take)

    def send(self, message: msgspec.Struct, descriptors: Sequence[int] = ()) -> None:
        """Send ``message``; it waits in memory while the other side is busy, in order.

        The descriptors may be closed as soon as this returns. Nothing is sent on a closed
        channel: ``on_close`` has told of it.
        """
        if self._sock.fileno() < 0:
            return
        if len(descriptors) > MAX_DESCRIPTORS:
            raise ChannelError(f"message with {len(descriptors)} descriptors")
        data = self._encode(message)
        if len(data) <= _MAX_MESSAGE:
            self._send(data, descriptors)
        else:
            file = _file_of(data)
            try:
                self._send(_IN_FILE, [file, *descriptors])
            finally:
                os.close(file)

    def is_unread(self) -> bool:
        """Whether the other side has not read all that it was sent (SIOCOUTQ: TIOCOUTQ)."""
        if self._waiting or self._sock.fileno() < 0:
            return True
        unread = fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(unread, sys.byteorder) > 0

    async def room(self) -> None:
        """Return when nothing waits: who sends much keeps it out of memory by this."""
        while self._waiting:
            await self._has_room.wait()

    def _send(self, data: bytes, descriptors: Sequence[int]) -> None:
        if self._waiting:
            self._wait(data, descriptors)
        elif obstacle := self._try(data, descriptors):
            self._wait(data, descriptors)
            self._resume(obstacle)

    def close(self) -> None:
        """Close this end; ``on_close`` is not called."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
        while self._waiting:
            _close_all(self._waiting.popleft()[1])
        self._has_room.set()

    def _wait(self, data: bytes, descriptors: Sequence[int]) -> None:
        copies: list[int] = []
        self._has_room.clear()
        self._waiting.append((data, copies))
        try:
            # The caller may close its descriptors meanwhile; these copies stay open.
            copies.extend(map(os.dup, descriptors))
        except OSError:
            full = True  # EMFILE, with so much unread: the other side hangs
        else:
            full = len(self._waiting) > MAX_WAITING
        if full:
            self.close()
            self._loop.call_soon(self._on_close)

    def _try(self, data: bytes, descriptors: Sequence[int]) -> int:
        """Send; return 0, or the errno of what is in the way now."""
        try:
            if descriptors:
                socket.send_fds(self._sock, [data], list(descriptors), socket.MSG_NOSIGNAL)
            else:  # half the time
                self._sock.send(data, socket.MSG_NOSIGNAL)
        except OSError as error:
            # ETOOMANYREFS: too many descriptors are under way, unread (unix(7)).
            if error.errno in (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS):
                return error.errno
            # Whatever else it is, the reader sees it as the end of the channel.
        return 0

    def _resume(self, obstacle: int) -> None:
        """Go on when the other side has read."""
        if not self._waiting:
            return  # it has just been closed
        if obstacle == errno.EAGAIN:
            self._loop.add_writer(self._sock, self._flush)
        else:  # the socket is ready all the while: nothing tells when
            self._loop.call_later(_RETRY_SECONDS, self._flush)

    def _flush(self) -> None:
        if not self._waiting:
            return  # it is closed
        self._loop.remove_writer(self._sock)
        while self._waiting:
            data, descriptors = self._waiting[0]
            if obstacle := self._try(data, descriptors):
                self._resume(obstacle)
                return
            self._waiting.popleft()
            _close_all(descriptors)
        self._has_room.set()

    def catch_up(self) -> None:
        """Take what has come so far, without waiting for the loop's next turn."""
        for _ in range(_MOST_AT_ONCE):
            if not self._take():
                return

    def _take(self) -> bool:
        """Take a message, if there is one; return whether there may be more."""
        if self._sock.fileno() < 0:
            return False
        try:
            data, descriptors = self._receive()
        except BlockingIOError:
            return False
        except OSError:
            data, descriptors = b"", []  # gone, as at its end
        if data == _IN_FILE and descriptors:
            data = _content(descriptors.pop(0))
        try:
            message = self._decode(data)
        except (msgspec.MsgspecError, RecursionError):
            _close_all(descriptors)
            self.close()
            self._on_close()
            return False
        self._on_message(message, descriptors)
        return True

    def _receive(self) -> tuple[bytes, list[int]]:
        # socket.recv_fds leaves out its flags (Python 3.11).
        most = self._descriptors and self._descriptors + 1  # one more for _IN_FILE
        room = socket.CMSG_LEN(most * array("i").itemsize)
        data, ancillary, _, _ = self._sock.recvmsg(_MAX_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
        descriptors = array("i")
        for _, _, rights in ancillary:  # a unix socket brings nothing else unless asked to
            descriptors.frombytes(rights[: len(rights) - len(rights) % descriptors.itemsize])
        return data, list(descriptors)


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _file_of(data: bytes) -> int:
    """Return a descriptor of a new file in memory that holds ``data``."""
    descriptor = os.memfd_create("mtad-message", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _content(descriptor: int) -> bytes:
    """Return what is in the file, and close it."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
