"""TLS for a server: the protocol itself, without I/O."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import cast

from mtad.tls.contexts import ServerObject, reason

# The most that one record holds (RFC 8446 section 5.1), and that one SSL_read returns.
_RECORD = 16_384

# A memory BIO grows with what is written to it at once, and never shrinks.
_SHARE = 32_768


class TlsProtocolError(Exception):
    """The peer broke off, or broke, the TLS protocol. The text is for the log only."""


class TlsLayer:
    """The server's side of one TLS connection, between octets in and octets out.

    Whatever is called, ``outgoing`` may have something to write afterwards. No call keeps more
    than one record: ``receive`` returns at most one record (16 KiB) more than it was given.

    ``object`` tells the version, cipher, SNI and peer certificate; ``established`` is True once the
    handshake is complete; ``closed`` once the peer has sent close_notify, after which it sends
    nothing more but may still be written to.
    """

    __slots__ = ("_incoming", "_outgoing", "closed", "established", "object")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.object = cast(
            "ServerObject", context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        )
        self.established = False
        self.closed = False

    def receive(self, octets: bytes | bytearray | memoryview) -> bytes:
        """Take ciphertext and return the plaintext that it completes; b"" for none yet.

        What follows close_notify is ignored (RFC 8446 section 6.1).

        Raises:
            TlsProtocolError: the connection is of no further use; ``outgoing`` has the alert.
        """
        plaintext: list[bytes] = []
        view = memoryview(octets)
        for at in range(0, len(view), _SHARE):
            if self.closed:
                break
            self._incoming.write(view[at : at + _SHARE])
            self._advance(plaintext)
        return b"".join(plaintext)

    def _advance(self, plaintext: list[bytes]) -> None:
        """Go on with the handshake, then append to ``plaintext`` whatever has become readable."""
        try:
            if not self.established:
                self.object.do_handshake()
                self.established = True
            # Asking before reading saves an SSLWantReadError for each chunk of whole records.
            while self._incoming.pending or self.object.pending():
                octets = self.object.read(_RECORD)
                if not octets:
                    self.closed = True
                    break
                plaintext.append(octets)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # instead of b"", where close() was called before
            self.closed = True
        except ssl.SSLError as error:
            raise TlsProtocolError(reason(error)) from error

    def send(self, plaintext: bytes) -> None:
        """Encrypt ``plaintext``, once the handshake is complete.

        Raises:
            TlsProtocolError: the connection failed or was closed before.
        """
        if not self.established:
            raise RuntimeError("plaintext before the end of the handshake")
        try:
            self.object.write(plaintext)  # whole: a memory BIO takes everything
        except ssl.SSLError as error:
            raise TlsProtocolError(reason(error)) from error

    def outgoing(self) -> bytes:
        """Return, once, the ciphertext to write; b"" for none."""
        return self._outgoing.read()

    def close(self) -> None:
        """Encrypt a close_notify, if the connection can still carry one; never fails."""
        # The peer's own close_notify is not waited for; before the end of the handshake, and after
        # a failure, there is nothing to close.
        with suppress(ssl.SSLError):
            self.object.unwrap()
