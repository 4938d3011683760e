"""A client that says what it is told, and tells what it sees: replies, the end, the time."""

from __future__ import annotations

import socket
import time
from types import TracebackType

ENDS = ("fin", "rst")
"""What stands for a reply where the connection has ended; "silence" is where there is none."""

# What is said for each command of a session; "." ends a message.
_LINES = {
    "HELO": "HELO client.example",
    "EHLO": "EHLO client.example",
    "LHLO": "LHLO client.example",
    "XCLIENT": "XCLIENT ADDR=192.0.2.7",
    "AUTH": "AUTH PLAIN AHRlc3RlcgBvcGVuLXNlc2FtZQ==",  # tester, open-sesame
    "MAIL": "MAIL FROM:<sender@example.org>",
    "RCPT": "RCPT TO:<rcpt@example.com>",
    "VRFY": "VRFY rcpt",
    ".": "Subject: test\r\n\r\nhello\r\n.",
}
_TRANSACTION = ["MAIL", "RCPT", "DATA", "."]


class Talk:
    """One connection; ``seconds`` is how long the last answer took."""

    def __init__(self, port: int, *, source: str = "127.0.0.1", patience: float = 15.0) -> None:
        self.seconds = 0.0
        self._asked = time.monotonic()
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout=patience, source_address=(source, 0)
        )
        self._left = b""

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def say(self, line: str) -> str:
        """Send a line, or what stands for a command by its name; return the answer."""
        self._asked = time.monotonic()
        try:
            self.socket.sendall(_LINES.get(line, line).encode() + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return "rst"
        return self.answer()

    def answer(self) -> str:
        """Return a reply, its lines joined by newlines; or what there is instead of one."""
        lines = [self._line()]
        while lines[-1][3:4] == "-":
            lines.append(self._line())
        if lines[-1] in (*ENDS, "silence"):
            lines = lines[-1:]
        self.seconds = time.monotonic() - self._asked
        return "\n".join(lines)

    def reach(self, command: str) -> str:
        """Go as far as ``command``; return the answer to it. CONNECT is answered by a greeting.

        What comes before has to go well.
        """
        hello = command if command in ("HELO", "LHLO") else "EHLO"
        way = ["CONNECT", hello, *_TRANSACTION]
        way = way[: way.index(command)] if command in way else way[:2]
        for step in way:
            answer = self.answer() if step == "CONNECT" else self.say(step)
            assert answer[0] in "23", f"{step}: {answer}"
        return self.say(command) if way else self.answer()

    def rest(self, line: str) -> bytes:
        """Send a line; return all that comes until the end, or until nothing more does."""
        self.socket.sendall(_LINES.get(line, line).encode() + b"\r\n")
        try:
            while octets := self.socket.recv(65_536):
                self._left += octets
        except (ConnectionResetError, TimeoutError):
            pass
        return self._left

    def _line(self) -> str:
        try:
            while b"\r\n" not in self._left:
                octets = self.socket.recv(65_536)
                if not octets:
                    return "fin"
                self._left += octets
        except ConnectionResetError:
            return "rst"
        except TimeoutError:
            return "silence"
        line, _, self._left = self._left.partition(b"\r\n")
        return line.decode("latin-1")
