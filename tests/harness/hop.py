"""A next hop, that answers as a test wants it, and remembers what it was told."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO, cast

EVERYTHING = ("SIZE", "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8", "DSN", "REQUIRETLS")
CLOSE = "close"
"""Instead of a reply: the connection ends."""


@dataclass
class Transaction:
    """What the hop was told; ``content`` is None unless all of it came, ``by`` is the command."""

    helo: str
    tls: bool
    mail: str
    rcpts: list[str] = field(default_factory=list)
    content: bytes | None = None
    by: str = ""


Script = Callable[[str], str | None]
"""Returns the reply to a command (``greeting`` and ``.`` are such, too); None: the usual one.

That to ``content`` comes as soon as DATA has been answered.
"""


class Hop(socketserver.ThreadingTCPServer):
    """Listens on a port of its own, each connection in a thread.

    ``offers`` are EHLO's keywords, ``tls`` what STARTTLS is done with.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, script: Script, offers: tuple[str, ...], tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.offers = offers
        self.tls = tls
        self.begun: list[Transaction] = []
        self.lines: list[str] = []
        self.connections = 0

    @property
    def name(self) -> str:
        """The hop as a rule names it."""
        host, port = cast("tuple[str, int]", self.server_address)
        return f"{host}:{port}"

    @property
    def taken(self) -> list[Transaction]:
        """The transactions that it has answered 250."""
        return [one for one in self.begun if one.content is not None]


@contextmanager
def hop(
    script: Script = lambda _: None,
    offers: tuple[str, ...] = EVERYTHING,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Hop]:
    """Have a hop while the block runs."""
    with Hop(script, offers, tls) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _ClosedError(Exception):
    pass


class _Handler(socketserver.BaseRequestHandler):
    server: Hop

    def handle(self) -> None:
        self.server.connections += 1
        self.file: BinaryIO = self.request.makefile("rb")
        self.present: Transaction | None = None
        self.helo, self.secure = "", False
        try:
            self.say("greeting", "220 hop.example ESMTP")
            while line := self.file.readline():
                self.command(line)
        except (_ClosedError, OSError):
            pass
        finally:
            self.file.close()

    def say(self, command: str, usual: str, good: str = "23") -> bool:
        """Answer; return whether the reply begins with one of ``good``."""
        reply = self.server.script(command)
        if reply == CLOSE:
            raise _ClosedError
        reply = usual if reply is None else reply
        octets = reply.replace("\n", "\r\n").encode("utf-8", "surrogateescape")
        self.request.sendall(octets + b"\r\n")
        return reply[:1] in good

    def command(self, octets: bytes) -> None:
        line = octets.decode("utf-8", "surrogateescape").rstrip("\r\n")
        self.server.lines.append(line)
        verb = line.split(" ")[0].upper()
        getattr(self, f"do_{verb.lower()}", self.do_other)(line)

    def do_other(self, line: str) -> None:
        self.say(line, "502 What?")

    def do_ehlo(self, line: str) -> None:
        self.helo = line.partition(" ")[2]
        offers = self.server.offers + (("STARTTLS",) if self.offers_tls() else ())
        lines = ["hop.example", *offers]
        reply = "\n".join(f"250-{word}" for word in lines[:-1]) + f"\n250 {lines[-1]}"
        self.say(line, reply.strip("\n"))

    do_helo = do_ehlo

    def offers_tls(self) -> bool:
        return self.server.tls is not None and not self.secure

    def do_starttls(self, line: str) -> None:
        if self.server.tls is None or not self.say(line, "220 Go on"):
            return
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        self.file = self.request.makefile("rb")
        self.secure = True

    def do_mail(self, line: str) -> None:
        if self.say(line, "250 Ok"):
            self.present = Transaction(self.helo, self.secure, line[5:])
            self.server.begun.append(self.present)

    def do_rcpt(self, line: str) -> None:
        if self.say(line, "250 Ok") and self.present:
            self.present.rcpts.append(line[5:])

    def do_data(self, line: str) -> None:
        if not self.say(line, "354 Go on"):
            return
        content = bytearray()
        if self.server.script("content"):
            self.say("content", "")
        while (octets := self.file.readline()) != b".\r\n":
            if not octets:
                raise _ClosedError
            content += octets[1:] if octets[:1] == b"." else octets
        self.end(bytes(content), "DATA")

    def do_bdat(self, line: str) -> None:
        length = int(line.split(" ")[1])
        content = bytearray()
        while len(content) < length:
            octets = self.file.read(min(65_536, length - len(content)))
            if not octets:
                raise _ClosedError
            content += octets
        self.end(bytes(content), "BDAT")

    def end(self, content: bytes, by: str) -> None:
        present, self.present = self.present, None
        if present and self.say(".", "250 Taken", "2"):
            at = next(n for n, one in enumerate(self.server.begun) if one is present)
            self.server.begun[at] = replace(present, content=content, by=by)

    def do_quit(self, line: str) -> None:
        self.say(line, "221 Bye")
        raise _ClosedError
