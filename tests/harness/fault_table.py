"""The table of faults (tests/integration/faults/table.txt): its rows, and a client that sees them.

Natural replies are learned from a listener without rules: ``ok`` in a row stands for these.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import time
from ast import literal_eval
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from harness.daemon import Daemon, config, home

_PATIENCE = 20.0
# So long nothing comes from who is silent.
_SILENCE = 0.06
# A server that has ended only its half takes more than one that will close soon.
_MUCH = 1_100_000
_LATE = 5.0
# The state of a connection that was reset; one that has only read FIN waits for close(2).
_TCP_CLOSE = 7

_CONTENT = b"0123456789abcdefghij\r\nline two\r\nline three\r\n"
_AUTH = b"AUTH PLAIN " + b64encode(b"\0tim\0tanstaaf")
_REPLY = re.compile(rb"(?:...-.*\r\n)*... .*\r\n")
_KEPT = re.compile(rb"kept as \w+")
_ID = b"kept as ID"


class Row(NamedTuple):
    """A row; ``way`` is the section it is in."""

    number: int
    way: str
    at: str
    do: str
    seen: str
    then: str
    after: float
    lasts: float
    kept: bool | None

    @property
    def name(self) -> str:
        """The listener's, and the rule's."""
        return f"r{self.number}"

    @property
    def rule(self) -> str:
        """What the rule says, besides its listener."""
        tls = ", tls: yes" if self.way == "starttls" else ""
        return f"at: {self.at}, do: {self.do}, where: {{listener: {self.name}{tls}}}"

    @property
    def protocol(self) -> str:
        """The listener's."""
        return "smtp" if self.way == "starttls" else self.way

    def __str__(self) -> str:
        return f"{self.way} {self.at}: {self.do}"


def rows(file: Path) -> list[Row]:
    """Return the rows of a table."""
    return list(_rows(file.read_text().splitlines()))


def _rows(lines: list[str]) -> Iterator[Row]:
    way = ""
    for number, line in enumerate(lines, 1):
        if line.startswith("=="):
            way = line.removeprefix("==").strip()
        elif line and not line.startswith("#"):
            at, do, seen, then, when, kept = (cell.strip() for cell in line.split("|"))
            lasts = when.startswith("lasts ")
            seconds = float(when.removeprefix("lasts ") or 0)
            yield Row(
                number, way, at, do, seen, then, 0.0 if lasts else seconds,
                seconds if lasts else 0.0, {"yes": True, "no": False, "": None}[kept],
            )  # fmt: skip


def _connected(port: int) -> socket.socket:
    """Return a connected socket; one that was reset meanwhile still has what came before that.

    A connect(2) that waits would say so, and throw that away.
    """
    connected = socket.socket()
    connected.setblocking(False)
    connected.connect_ex(("127.0.0.1", port))
    _, writable, _ = select.select([], [connected], [], _PATIENCE)
    assert writable
    connected.settimeout(_PATIENCE)
    return connected


class Peer:
    """A client of one listener."""

    def __init__(self, port: int, context: ssl.SSLContext, row: Row) -> None:
        self._context = context
        self._row = row
        self.received = b""
        self.socket = _connected(port)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

    def shake_hands(self) -> None:
        """Have TLS from now on; an end without close_notify is an error then."""
        self.socket = self._context.wrap_socket(
            self.socket, server_hostname="mx.example", suppress_ragged_eofs=False
        )

    def read(self) -> bool:
        """Take what comes; return whether it was the end."""
        octets = self.socket.recv(65536)
        self.received += octets
        return not octets

    def say(self, octets: bytes) -> None:
        """Send."""
        self.socket.sendall(octets)

    def read_reply(self) -> bytes:
        """Return one whole reply."""
        while not (reply := _REPLY.match(self.received)):
            assert not self.read(), self.received
        self.received = self.received[reply.end() :]
        return reply[0]

    def ask(self, line: bytes) -> bytes:
        """Send a line and return its reply."""
        self.say(line + b"\r\n")
        return self.read_reply()

    # What comes before a moment, and what brings it about

    def lead(self) -> bytes:
        """Say what comes before the moment; return what brings it about."""
        at, way = self._row.at, self._row.way
        if at == "connect" or (at in ("tls", "banner") and way == "smtps"):
            return self._lead_to_the_beginning()
        if way == "smtps":
            self.shake_hands()
        if at == "banner":
            return b""
        self.read_reply()
        hello = b"LHLO c" if way == "lmtp" else b"EHLO c"
        if way == "starttls":
            self.ask(hello)
            self.ask(b"STARTTLS")
            self.shake_hands()
        if at in ("helo", "ehlo"):
            return (b"HELO c" if at == "helo" else hello) + b"\r\n"
        self.ask(hello)
        if at == "tls":
            self.ask(b"STARTTLS")
            return self._client_hello()
        if at in _TRIGGERS:
            return _TRIGGERS[at] + b"\r\n"
        return self._lead_to_mail()

    def _lead_to_the_beginning(self) -> bytes:
        if self._row.at == "banner":
            self.shake_hands()
        return self._client_hello() if self._row.at == "tls" else b""

    def _client_hello(self) -> bytes:
        outgoing = ssl.MemoryBIO()
        client = self._context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="mx.example")
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        return outgoing.read()

    def _lead_to_mail(self) -> bytes:
        name, at = self._row.name.encode(), self._row.at
        if at == "mail":
            return b"MAIL FROM:<s@example.org>\r\n"
        self.ask(b"MAIL FROM:<s@example.org>")
        recipient = b"RCPT TO:<%b@example.com>" % name
        if at == "rcpt":
            return recipient + b"\r\n"
        self.ask(recipient)
        if self._row.way == "lmtp":
            self.ask(b"RCPT TO:<%b-2@example.com>" % name)
        if at == "bdat":
            return b"BDAT 9 LAST\r\nabcdefg\r\n"
        if at in ("data", "body"):
            return b"DATA\r\n"
        self.ask(b"DATA")
        is_within = at.startswith(("byte", "line"))
        return _CONTENT if is_within else _CONTENT + b".\r\n"


_TRIGGERS = {
    "starttls": b"STARTTLS",
    "auth": _AUTH,
    "xclient": b"XCLIENT HELO=x",
    "rset": b"RSET",
    "noop": b"NOOP",
    "vrfy": b"VRFY me",
    "expn": b"EXPN us",
    "help": b"HELP",
    "etrn": b"ETRN example.com",
    "quit": b"QUIT",
}


class Natural:
    """What a listener without rules says."""

    def __init__(self, port: Callable[[str], int], context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context
        self._known: dict[tuple[str, str], bytes] = {}

    def at(self, way: str, at: str) -> bytes:
        """Return what is said at a moment without rules."""
        at = {"kept": "message", "answered": "message", "body": "data"}.get(at, at)
        if (way, at) not in self._known:
            self._known[way, at] = self._learned(way, at)
        return self._known[way, at]

    def _learned(self, way: str, at: str) -> bytes:
        row = Row(0, way, at, "", "", "", 0.0, 0.0, None)
        peer = Peer(self._port(row.protocol), self._context, row)
        with peer.socket:
            octets = peer.lead()
            if at == "connect" and way == "smtps":
                return b""
            peer.say(octets)
            said = peer.read_reply()
            if way == "lmtp" and at == "message":
                said += peer.read_reply()
            peer.socket.close()
        return _KEPT.sub(_ID, said)


def play(row: Row, port: int, context: ssl.SSLContext, natural: Natural) -> None:
    """Be the client of a row; AssertionError where something else is seen."""
    began = time.monotonic()
    peer = Peer(port, context, row)
    try:
        trigger = peer.lead()
        if trigger:
            began = time.monotonic()
            peer.say(trigger)
        _see(row, peer, natural, began)
    finally:
        peer.socket.close()


def _see(row: Row, peer: Peer, natural: Natural, began: float) -> None:
    expected = _octets(row, natural.at(row.way, row.at) if "ok" in row.seen else b"")
    first = last = 0.0
    while len(_masked(peer)) < len(expected):
        assert not peer.read(), f"{row}: ended after {peer.received!r}"
        last = time.monotonic()
        first = first or last
    assert _masked(peer) == expected, row
    peer.received = b""
    _THEN[row.then](row, peer, natural)
    if not first:
        first = last = time.monotonic()
    assert row.after <= first - began < row.after + _LATE, (row, first - began)
    assert row.lasts <= last - began < row.lasts + _LATE, (row, last - began)


def _masked(peer: Peer) -> bytes:
    return _KEPT.sub(_ID, peer.received)


def _octets(row: Row, ok: bytes) -> bytes:
    """Return what a cell says is seen."""
    seen = b""
    for part in filter(None, row.seen.split(" / ")):
        if part == "ok":
            seen += ok
        elif part.startswith('"'):
            seen += literal_eval(f"b{part}")
        else:
            seen += part.encode() + b"\r\n"
    return seen


# What follows


def _answers(peer: Peer, said: bytes, answer: bytes) -> None:
    peer.say(said)
    while len(_masked(peer)) < len(answer):
        assert not peer.read(), peer.received
    assert _masked(peer) == answer


def _open(row: Row, peer: Peer, natural: Natural) -> None:
    _answers(peer, b"NOOP\r\n", natural.at(row.way, "noop"))


def _again(row: Row, peer: Peer, natural: Natural) -> None:
    _answers(peer, b"RSET\r\n", natural.at(row.way, "rset"))


def _refused(row: Row, peer: Peer, _: Natural) -> None:
    peer.say(b"NOOP\r\n")
    assert peer.read_reply().startswith(b"503 5.5.1"), row
    assert peer.ask(b"QUIT").startswith(b"221"), row


def _body(row: Row, peer: Peer, natural: Natural) -> None:
    _answers(peer, _CONTENT + b".\r\n", natural.at(row.way, "message"))


def _said(row: Row, peer: Peer, natural: Natural) -> None:
    _answers(peer, _CONTENT + b".\r\nNOOP\r\n", natural.at(row.way, "noop"))


def _fin(row: Row, peer: Peer, _: Natural) -> None:
    assert peer.read(), f"{row}: {peer.received!r}"


def _rst(row: Row, peer: Peer, _: Natural) -> None:
    try:
        ended = peer.read()
    except (ConnectionResetError, ssl.SSLEOFError):  # Python takes the one for the other
        assert peer.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE, row
    else:
        raise AssertionError(f"{row}: {'FIN' if ended else peer.received!r}")


def _silent(row: Row, peer: Peer, _: Natural) -> None:
    peer.say(b"NOOP\r\n.\r\nNOOP\r\n")
    _nothing_comes(row, peer)


def _nothing_comes(row: Row, peer: Peer) -> None:
    peer.socket.settimeout(_SILENCE)
    try:
        peer.read()
    except TimeoutError:
        return
    raise AssertionError(f"{row}: {peer.received!r}")


def _half(row: Row, peer: Peer, _: Natural) -> None:
    assert peer.read(), f"{row}: {peer.received!r}"
    peer.say(bytes(_MUCH))


def _deaf(row: Row, peer: Peer, _: Natural) -> None:
    peer.socket.settimeout(_SILENCE)
    sent = 0
    try:
        while sent < _MUCH:
            sent += peer.socket.send(bytes(4096))
    except TimeoutError:
        return
    raise AssertionError(f"{row}: took {sent} octets")


_THEN: dict[str, Callable[[Row, Peer, Natural], None]] = {
    "open": _open,
    "again": _again,
    "refused": _refused,
    "body": _body,
    "said": _said,
    "fin": _fin,
    "rst": _rst,
    "half": _half,
    "silent": _silent,
    "deaf": _deaf,
}


# The daemon

_PLAIN = {protocol: protocol for protocol in ("smtp", "smtps", "lmtp")}
_PROFILE = """
profiles:
  default:
    hostname: mx.example
    auth: {before_tls: true}
    xclient_from: [127.0.0.0/8]
"""


class Served(NamedTuple):
    """A daemon with a listener for each row, and one without rules for each protocol."""

    daemon: Daemon
    ports: dict[str, int]
    context: ssl.SSLContext
    natural: Natural

    def play(self, row: Row) -> None:
        """Be the client of a row."""
        play(row, self.ports[row.name], self.context, self.natural)


@contextmanager
def serving(rows: Sequence[Row]) -> Iterator[Served]:
    """Serve all of them while the block runs."""
    with home() as directory, Daemon(directory, _config(directory, rows)) as daemon:
        daemon.wait_ready()
        listeners = daemon.call("listener.list")["listeners"]
        ports = {one["name"]: int(one["bound"].rpartition(":")[2]) for one in listeners}
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        yield Served(daemon, ports, context, Natural(ports.__getitem__, context))


def _config(directory: Path, rows: Sequence[Row]) -> str:
    protocols = _PLAIN | {row.name: row.protocol for row in rows}
    listeners = "".join(
        f"  {name}: {{listen: '127.0.0.1:0', protocol: {protocol}}}\n"
        for name, protocol in protocols.items()
    )
    rules = "".join(f"  {row.name}: {{{row.rule}}}\n" for row in rows)
    text = config(directory, extra=f"{_PROFILE}rules:\n{rules}")
    return text.replace("  mx:\n    listen: '127.0.0.1:0'\n", listeners)
