"""A client's connection: the octets of the session, whatever they are wrapped in.

::

    connect ─► PROXY header ─► TLS handshake ─► session ──STARTTLS──► TLS handshake ─► session …
               (if expected)   (smtps)

The session sees plain octets only.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mtad.log import event
from mtad.smtp import proxy
from mtad.smtp.client import peer_name
from mtad.smtp.poller import Poller
from mtad.smtp.stage import Stage
from mtad.smtp.stream import LOST, OPEN, Outbox, Stream, log
from mtad.smtp.tls import TlsLayer, TlsProtocolError

if TYPE_CHECKING:
    from mtad.smtp.session import Session
    from mtad.tls.contexts import ServerObject


class Connection(Stream):
    """A stream that may begin with a PROXY header (``header``), and be encrypted."""

    __slots__ = ("_awaits_header", "_context", "_early", "_tls", "header")

    def __init__(
        self,
        sock: socket.socket,
        peer: Any,
        session: Session,
        outbox: Outbox,
        poller: Poller,
    ) -> None:
        super().__init__(sock, peer, session, outbox, poller)
        self._awaits_header = False
        self._tls: TlsLayer | None = None
        self._context: ssl.SSLContext | None = None
        self.header: proxy.Header | None = None

    def begin(self, *, header: bool, context: ssl.SSLContext | None) -> None:
        """Read a PROXY header if there has to be one, shake hands if ``context``, then greet."""
        self._context = context
        self.resume_reading()
        if header:
            self._awaits_header, self._is_plain, self._early = True, False, b""
        else:
            self._after_header()

    def _after_header(self) -> None:
        if self._context is None:
            self.session.connection_made(self)
        else:
            self.session.secure(self._context)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands next; connection_made follows when that is done (RFC 3207 section 4.2)."""
        self._tls, self._is_plain = TlsLayer(context), False
        self.last = self._loop.time()

    @property
    def is_shaking_hands(self) -> bool:
        """Whether the client still owes a PROXY header or a TLS handshake."""
        return self._awaits_header or (self._tls is not None and not self._tls.established)

    @property
    def tls(self) -> ServerObject | None:
        """What the TLS layer knows, once the handshake is complete."""
        return self._tls.object if self._tls is not None and self._tls.established else None

    def unwrap(self, octets: bytes) -> None:
        """Take part of a header or of the TLS protocol."""
        if self._tls is not None:
            self._decrypt(self._tls, octets)
        else:
            self._read_header(octets)

    def _read_header(self, octets: bytes) -> None:
        self._early += octets
        try:
            found = proxy.parse(self._early)
        except proxy.ProxyError as error:
            self._warn("proxy.refused", str(error))
            self.session.stage(Stage.NO_PROXY, str(error))
            self.abort()
            return
        if found is not None:
            self.header, end = found
            rest, self._early = self._early[end:], b""
            self._awaits_header, self._is_plain = False, True
            self.session.stage(Stage.PROXIED)
            self._after_header()
            if rest and self._state is OPEN:
                if self._is_plain:
                    self.session.data_received(rest)
                else:
                    self.unwrap(rest)

    def _decrypt(self, tls: TlsLayer, octets: bytes) -> None:
        was_established = tls.established
        try:
            plain = tls.receive(octets)
        except TlsProtocolError as error:
            self._warn("tls.failed", str(error))
            self.session.stage(Stage.NO_TLS, str(error))
            self.fail(tls.outgoing())
            return
        self.write_raw(tls.outgoing())
        if tls.established:
            self.heard = True
            if not was_established:
                self.session.stage(Stage.SECURED)
                self.session.connection_made(self)
            if plain and self._state is OPEN:
                self.session.data_received(plain)
        if tls.closed and self._state is not LOST:
            self.end_of_input()

    def _warn(self, name: str, reason: str) -> None:
        listener, peer = self.session.service.name, peer_name(self.peer)
        event(log, logging.WARNING, name, listener=listener, peer=peer, reason=reason)

    def end_of_input(self) -> None:
        """Let the session answer what has come; one that has not begun is gone."""
        if self._state is OPEN and self.is_shaking_hands:
            self._lose(None)
        else:
            super().end_of_input()

    def wrap(self, octets: bytes) -> bytes:
        """Return the ciphertext of ``octets``. Raises RuntimeError before the handshake is over."""
        if self._tls is None:
            raise RuntimeError("a reply before the PROXY header")
        self._tls.send(octets)
        return self._tls.outgoing()

    def last_octets(self) -> bytes:
        """Return close_notify, where there is TLS."""
        if self._tls is None:
            return b""
        self._tls.close()
        return self._tls.outgoing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what asyncio's transports tell under ``name``."""
        find = _EXTRA.get(name)
        found = find(self) if find is not None else None
        return default if found is None else found


_EXTRA: dict[str, Callable[[Connection], Any]] = {
    "peername": lambda connection: connection.peer,
    "sockname": lambda connection: connection._socket.getsockname(),  # noqa: SLF001
    "socket": lambda connection: connection._socket,  # noqa: SLF001
    "ssl_object": lambda connection: connection.tls,
    "sslcontext": lambda connection: connection.tls and connection.tls.context,
    "cipher": lambda connection: connection.tls and connection.tls.cipher(),
    "compression": lambda connection: connection.tls and connection.tls.compression(),
    "peercert": lambda connection: connection.tls and connection.tls.getpeercert(),
}
