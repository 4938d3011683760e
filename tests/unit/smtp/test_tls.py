"""The TLS layer against an ssl client in memory: whole flights, and octet by octet."""

from __future__ import annotations

import random
import ssl
from contextlib import suppress

import pytest
from harness.tls_peers import WHOLE, Peers, client_context, key_pair
from hypothesis import given
from hypothesis import strategies as st

from mtad.model.profile import KeyPair, Tls
from mtad.smtp.tls import TlsLayer, TlsProtocolError
from mtad.tls.contexts import server_context

ALERT = b"\x15\x03"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return key_pair(tmp_path_factory.mktemp("pair"), "mx.example")


@pytest.fixture(scope="module")
def context(pair: KeyPair) -> ssl.SSLContext:
    return server_context(Tls((pair,)))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("size", [1, 7, WHOLE])
def test_a_handshake_and_octets_both_ways(context: ssl.SSLContext, version: str, size: int) -> None:
    peers = Peers(context, client_context(version), size=size)
    assert not peers.layer.established
    peers.shake_hands()
    assert peers.layer.established
    assert peers.layer.object.version() == peers.client.version() == f"TLSv{version}"
    assert peers.layer.object.cipher() == peers.client.cipher()
    assert peers.layer.object.getpeercert() is None
    for octets in (b"EHLO client.example\r\n", b"\0", random.randbytes(50_000)):
        peers.received = b""
        peers.client.write(octets)
        peers.carry()
        assert peers.received == octets
        peers.layer.send(octets)
        peers.layer.send(b"")
        peers.carry()
        assert peers.read() == octets
    assert peers.layer.outgoing() == b""


@pytest.mark.parametrize("size", [1000, 16_384, 65_536, WHOLE])
def test_a_mebibyte(context: ssl.SSLContext, size: int) -> None:
    body = random.randbytes(1 << 20)
    peers = Peers(context, size=size).shake_hands()
    sent = memoryview(body)
    while sent:
        sent = sent[peers.client.write(sent) :]
    peers.carry()
    assert peers.received == body
    peers.layer.send(body)
    peers.carry()
    assert peers.read() == body


def test_no_more_comes_out_than_went_in_and_one_record(context: ssl.SSLContext) -> None:
    peers = Peers(context).shake_hands()
    for _ in range(8):
        peers.client.write(random.randbytes(16_384))
    octets = peers.wire.read()
    for at in range(0, len(octets), 1000):
        assert len(peers.layer.receive(octets[at : at + 1000])) <= 1000 + 16_384


def test_what_follows_the_handshake_in_the_same_octets_is_read(context: ssl.SSLContext) -> None:
    peers = Peers(context)
    with pytest.raises(ssl.SSLWantReadError):
        peers.client.do_handshake()
    peers.carry()
    peers.client.do_handshake()
    peers.client.write(b"EHLO x\r\n")
    peers.client.write(b"NOOP\r\n")
    assert not peers.layer.established
    assert peers.layer.receive(bytearray(peers.wire.read())) == b"EHLO x\r\nNOOP\r\n"
    assert peers.layer.established


# Closing


@pytest.mark.parametrize("size", [1, WHOLE])
def test_close_notify_of_the_client(context: ssl.SSLContext, size: int) -> None:
    peers = Peers(context, size=size).shake_hands()
    peers.client.write(b"QUIT\r\n")
    with pytest.raises(ssl.SSLWantReadError):
        peers.client.unwrap()
    assert not peers.layer.closed
    peers.carry()
    assert (peers.received, peers.layer.closed) == (b"QUIT\r\n", True)
    for _ in range(3):
        assert peers.layer.receive(b"ignored") == b""
    assert peers.layer._incoming.pending == 0  # nor is it kept
    peers.layer.send(b"221 Bye\r\n")
    assert peers.layer.outgoing() != b""


def test_close_notify_of_the_server(context: ssl.SSLContext) -> None:
    peers = Peers(context).shake_hands()
    peers.layer.send(b"221 Bye\r\n")
    peers.layer.close()
    with pytest.raises(TlsProtocolError):
        peers.layer.send(b"more")
    peers.carry()
    assert peers.read() == b"221 Bye\r\n"
    assert peers.client.read(1) == b""  # not an EOF without close_notify, which raises
    assert not peers.layer.closed
    peers.client.unwrap()
    peers.carry()
    assert peers.layer.closed
    peers.layer.close()
    assert peers.layer.outgoing() == b""


def test_closing_when_the_client_has_sent_what_is_not_read_yet(context: ssl.SSLContext) -> None:
    peers = Peers(context).shake_hands()
    peers.client.write(b"NOOP\r\n")
    first, rest = (octets := peers.wire.read())[:9], octets[9:]
    assert peers.layer.receive(first) == b""
    peers.layer.close()
    peers.carry()
    assert peers.client.read(1) == b""
    assert peers.layer.receive(rest) == b"NOOP\r\n"


def test_nothing_is_sent_before_the_end_of_the_handshake(context: ssl.SSLContext) -> None:
    layer = TlsLayer(context)
    with pytest.raises(RuntimeError, match="before the end of the handshake"):
        layer.send(b"220 ready\r\n")
    assert layer.outgoing() == b""


# What is no TLS


def hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    client = client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="mx.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLO = hello()


def test_closing_before_the_handshake_is_silent(context: ssl.SSLContext) -> None:
    for octets in (b"", b"\x16\x03\x01", HELLO):
        layer = TlsLayer(context)
        layer.receive(octets)
        assert bool(layer.outgoing()) is (len(octets) > 3)  # ServerHello
        layer.close()
        assert layer.outgoing() == b""


def test_a_handshake_that_stops_anywhere_is_waited_for(context: ssl.SSLContext) -> None:
    layer = TlsLayer(context)
    for at in range(len(HELLO) - 1):
        assert layer.receive(HELLO[at : at + 1]) == b""
        assert not layer.outgoing()
        assert not layer.established
    layer.receive(HELLO[-1:])
    assert layer.outgoing().startswith(b"\x16\x03\x03")  # ServerHello
    assert not layer.established


def feed(layer: TlsLayer, octets: bytes, size: int) -> None:
    for at in range(0, len(octets), size):
        layer.receive(octets[at : at + size])


@pytest.mark.parametrize(
    "octets",
    [b"EHLO client.example\r\n", b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x80\x2e\x01\0\2" * 20],
)
@pytest.mark.parametrize("size", [1, WHOLE])
def test_what_is_no_tls_is_answered_by_an_alert_or_nothing(
    context: ssl.SSLContext, octets: bytes, size: int
) -> None:
    layer = TlsLayer(context)
    with pytest.raises(TlsProtocolError):
        feed(layer, octets, size)
    answer = layer.outgoing()
    assert answer == b"" or answer.startswith(ALERT)
    layer.close()
    assert layer.outgoing() == b""
    assert not layer.established


# A name that is not ASCII: the ssl module tells sys.unraisablehook, which a worker logs.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(
    st.lists(
        st.tuples(st.integers(0, len(HELLO) - 1), st.integers(0, 255)), min_size=1, max_size=4
    ),
    st.binary(max_size=20),
)
def test_a_hello_with_anything_wrong_makes_one_kind_of_error(
    context: ssl.SSLContext, changes: list[tuple[int, int]], rest: bytes
) -> None:
    octets = bytearray(HELLO + rest)
    for at, octet in changes:
        octets[at] = octet
    layer = TlsLayer(context)
    with suppress(TlsProtocolError):
        assert layer.receive(octets) == b""
    # An alert or a handshake record; an alert may answer with the version it was asked for.
    assert layer.outgoing()[:1] in (b"", ALERT[:1], b"\x16")
    assert not layer.established


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_changed_record_ends_the_connection_with_an_alert(
    context: ssl.SSLContext, version: str
) -> None:
    peers = Peers(context, client_context(version)).shake_hands()
    peers.client.write(b"MAIL FROM:<secret@example>\r\n")
    octets = bytearray(peers.wire.read())
    octets[-1] ^= 1
    with pytest.raises(TlsProtocolError) as raised:
        peers.layer.receive(octets)
    assert str(raised.value) == "decryption failed or bad record mac"
    assert peers.layer.outgoing().startswith(ALERT if version == "1.2" else b"\x17\x03\x03")
    peers.layer.close()
    with pytest.raises(TlsProtocolError):
        peers.layer.send(b"more")


def test_an_alert_of_the_client_is_an_error(context: ssl.SSLContext) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    peers = Peers(context, stranger)
    with pytest.raises(ssl.SSLCertVerificationError):
        peers.shake_hands()
    with pytest.raises(TlsProtocolError, match="unknown ca"):
        peers.carry()
