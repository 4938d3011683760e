"""A TLS client in memory, and files with certificates of a CA made for the tests."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

from mtad.model.profile import KeyPair
from mtad.smtp.tls import TlsLayer, TlsProtocolError

CA = trustme.CA()
VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
WHOLE = 1 << 30


def key_pair(folder: Path, *names: str) -> KeyPair:
    issued = CA.issue_cert(*names)
    stem = names[0].replace("*", "any")
    certificate, key = folder / f"{stem}.pem", folder / f"{stem}.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    return KeyPair(str(certificate), str(key))


def client_context(version: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    if version:
        context.minimum_version = context.maximum_version = VERSIONS[version]
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


class Peers:
    """A client and a layer, and the wire between them, which carries ``size`` octets at a time."""

    def __init__(
        self,
        server: ssl.SSLContext,
        client: ssl.SSLContext | None = None,
        name: str | None = "mx.example",
        *,
        size: int = WHOLE,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.layer = TlsLayer(server)
        self.size = size
        self.received = b""
        self._incoming, self.wire = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = client or client_context()
        self.client = context.wrap_bio(
            self._incoming, self.wire, server_hostname=name, session=session
        )

    def carry(self) -> None:
        """Carry what both have written."""
        octets = self.wire.read()
        for at in range(0, len(octets), self.size):
            self.received += self.layer.receive(octets[at : at + self.size])
        self._incoming.write(self.layer.outgoing())

    def shake_hands(self) -> Peers:
        for _ in range(4):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                self.carry()
        self.carry()  # the client's last flight, which may be all that is left
        return self

    def read(self) -> bytes:
        """Return what the client can read now; b"" also after close_notify."""
        octets = b""
        try:
            while piece := self.client.read(1 << 20):
                octets += piece
        except ssl.SSLWantReadError:
            pass
        return octets

    def fault(self) -> str:
        """Shake hands, and return what the layer finds wrong with it; "" for nothing."""
        try:
            self.shake_hands()
        except TlsProtocolError as error:
            return str(error)
        return ""
