"""A raw SMTP client, and what the daemon has kept of what it sent."""

from __future__ import annotations

import socket
from base64 import b64decode

from harness.daemon import Daemon


class Sender:
    """One SMTP session that sends octets as they are."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._lines = self._socket.makefile("rb")
        self._expect(b"220")
        self._ask(b"EHLO client.example", b"250")

    def data(self, content: bytes) -> None:
        """Send whole lines by DATA, dot-stuffed (RFC 5321 section 4.5.2)."""
        self._begin()
        self._ask(b"DATA", b"354")
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        if stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        self._socket.sendall(stuffed + b".\r\n")
        self._expect(b"250")

    def bdat(self, *chunks: bytes) -> None:
        """Send anything by BDAT (RFC 3030), a chunk each."""
        self._begin()
        for number, chunk in enumerate(chunks, 1):
            last = b" LAST" if number == len(chunks) else b""
            self._socket.sendall(b"BDAT %d%s\r\n%s" % (len(chunk), last, chunk))
            self._expect(b"250")

    def close(self) -> None:
        """End the session without a word."""
        self._lines.close()
        self._socket.close()

    def _begin(self) -> None:
        self._ask(b"MAIL FROM:<sender@example.org>", b"250")
        self._ask(b"RCPT TO:<rcpt@example.com>", b"250")

    def _ask(self, command: bytes, code: bytes) -> None:
        self._socket.sendall(command + b"\r\n")
        self._expect(code)

    def _expect(self, code: bytes) -> None:
        line = self._lines.readline()
        while line[3:4] == b"-":
            line = self._lines.readline()
        assert line.startswith(code), line


def raw(daemon: Daemon, which: str = "latest") -> bytes:
    """Return a message, piece by piece, as a client of the control socket gets it."""
    answer = daemon.call("message.raw", id=which, length=100_000)
    octets = b64decode(answer["octets"])
    while (at := answer["next"]) is not None:
        answer = daemon.call("message.raw", id=answer["id"], offset=at, length=100_000)
        octets += b64decode(answer["octets"])
    assert len(octets) == answer["size"]
    return octets
