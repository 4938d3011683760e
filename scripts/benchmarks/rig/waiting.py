"""How long after the 250 `message wait` answers."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from mtad.control import wire
from mtad.control.client import ControlClient

_ENVELOPE = b"MAIL FROM:<sender@example.org>\r\nRCPT TO:<user@example.net>\r\nDATA\r\n"
_CONTENT = b"From: <sender@example.org>\r\nSubject: wait %d\r\n\r\nhello\r\n.\r\n"
_LIMIT_SECONDS = 10


def milliseconds(port: int, control: Path, rounds: int) -> list[float]:
    """Return how long after the receipt of each 250 the answer was there; 0 or less: before it.

    Both connections are open; the machine has nothing else to do.
    """
    took = []
    with (
        ControlClient(control, timeout=_LIMIT_SECONDS) as other,
        _Lines(socket.create_connection(("127.0.0.1", port), _LIMIT_SECONDS)) as sender,
        _Lines(_unix(control)) as waiter,
    ):
        sender.reply()
        sender.say(b"EHLO wait.example\r\n")
        for number in range(rounds):
            params = {"after": other.call("message.cursor")["cursor"], "timeout": _LIMIT_SECONDS}
            waiter.put(wire.request_line(number, "message.wait", params))
            other.call("message.cursor")  # it goes the same way: behind it, the other one waits
            sender.put(_ENVELOPE)
            for _ in range(3):
                sender.reply()
            sender.put(_CONTENT % number)
            if not sender.reply().startswith(b"250"):
                raise RuntimeError("a message was refused")
            answered = time.perf_counter()
            if b'"messages"' not in (answer := waiter.line()):
                raise RuntimeError(f"the wait was refused: {answer!r}")
            took.append((time.perf_counter() - answered) * 1_000)
    return took


class _Lines:
    """A connection of lines."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = connection.makefile("rb")

    def put(self, octets: bytes) -> None:
        self._connection.sendall(octets)

    def line(self) -> bytes:
        if not (line := self._file.readline()):
            raise RuntimeError("the connection was closed")
        return line

    def reply(self) -> bytes:
        """Return the last line of an SMTP reply."""
        while (line := self.line())[3:4] == b"-":
            pass
        return line

    def say(self, octets: bytes) -> bytes:
        self.put(octets)
        return self.reply()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._connection.close()


def _unix(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_LIMIT_SECONDS)
    connection.connect(str(path))
    return connection
