"""When a ClientHello is whole, and what ssl makes of an alert."""

from __future__ import annotations

import ssl

import pytest

from mtad.model.rules.alerts import ALERTS
from mtad.smtp.faults.tls_records import alert, is_whole

SAID = {
    "close_notify": "has_been_closed",  # RFC 8446 section 6.1: nobody's fault
    "user_canceled": "did_not_complete",  # nor is this, and another alert follows
}
"""What ssl says that does not name the alert."""


def client(version: ssl.TLSVersion) -> tuple[ssl.SSLObject, ssl.MemoryBIO, bytes]:
    """Return a client that has said hello, where it reads, and what it said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = context.wrap_bio(incoming, outgoing, server_hostname="mx.example")
    with pytest.raises(ssl.SSLWantReadError):
        peer.do_handshake()
    return peer, incoming, outgoing.read()


HELLO = client(ssl.TLSVersion.TLSv1_3)[2]


def in_records(message: bytes, size: int) -> bytes:
    """Return a handshake message in records of ``size`` octets."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\3\1" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("octets", [HELLO, *(in_records(HELLO[5:], size) for size in (1, 3, 100))])
def test_a_hello_is_whole_with_its_last_octet(octets: bytes) -> None:
    assert not any(is_whole(octets[:end]) for end in range(len(octets)))
    assert is_whole(octets)
    assert is_whole(octets + b"more")


@pytest.mark.parametrize(
    "octets",
    [
        b"E",
        b"EHLO client.example\r\n",
        b"\x15\3\1\0\2\2\x28",  # an alert
        b"\x80\x2e\1\0\2",  # SSL 2
        b"\x16\3\1\0\4\2\0\0\0",  # a ServerHello
        b"\x16\3\1\0\0" * 4000,  # never anything
    ],
)
def test_what_is_no_hello_is_not_waited_for(octets: bytes) -> None:
    assert is_whole(octets)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("name", "number"), ALERTS.items())
def test_a_client_reads_each_alert_by_its_name(
    name: str, number: int, version: ssl.TLSVersion
) -> None:
    peer, incoming, _ = client(version)
    incoming.write(alert(number))
    with pytest.raises(ssl.SSLError) as raised:
        peer.do_handshake()
    assert SAID.get(name, name) in str(raised.value).lower().replace(" ", "_")
