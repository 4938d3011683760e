"""What rules do to a TLS handshake, for a client whose ClientHello comes octet by octet, too."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from harness.recorded import ended, transcript
from harness.serving import Client, Serving, serving
from harness.tls_peers import client_context, key_pair

from mtad.ipc.messages import Weigh, Weighed
from mtad.model.listener import Protocol
from mtad.model.profile import KeyPair, Timeouts, Tls
from mtad.model.rules.values import At, Chance, Close, Do, Flawed, Moment, Rule, TlsFault, When
from mtad.smtp.faults.tls_records import alert

BOTH = pytest.mark.parametrize("protocol", [Protocol.SMTP, Protocol.SMTPS])
HANDSHAKE_FAILURE = alert(40)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return key_pair(tmp_path_factory.mktemp("pair"), "mx.example")


@asynccontextmanager
async def ruled(
    pair: KeyPair, protocol: Protocol, *rules: Rule, **profile: Any
) -> AsyncIterator[Serving]:
    async with serving(
        protocol=protocol, tls=Tls((pair,)), hostname="mx.example", **profile
    ) as served:
        served.rules.replace(rules)
        yield served


def rule(**do: Any) -> Rule:
    return Rule("oops", (At(Moment.TLS),), Do(**do))


def hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client_context().wrap_bio(incoming, outgoing, server_hostname="mx.example")
    with pytest.raises(ssl.SSLWantReadError):
        peer.do_handshake()
    return outgoing.read()


async def before_the_handshake(served: Serving, protocol: Protocol) -> Client:
    """Return a client that has to say its ClientHello next."""
    if protocol is Protocol.SMTPS:
        return await served.client()
    client = await served.greeted()
    assert await client.ask("STARTTLS") == "220 2.0.0 Ready to start TLS"
    return client


async def says_hello(client: Client, size: int) -> None:
    octets = hello()
    for at in range(0, len(octets), size):
        client.writer.write(octets[at : at + size])
        await asyncio.sleep(0)


async def secured(client: Client) -> Client:
    await client.writer.start_tls(client_context(), server_hostname="mx.example")
    return client


@BOTH
@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize(
    ("do", "seen"),
    [
        ({"tls": TlsFault(alert=40)}, HANDSHAKE_FAILURE),
        ({"tls": TlsFault(alert=40), "close": Close.FIN}, HANDSHAKE_FAILURE),
        ({"tls": TlsFault(alert=40), "delay": 0.01}, HANDSHAKE_FAILURE),
        ({"tls": TlsFault(alert=40), "send_rate": 1000.0}, HANDSHAKE_FAILURE),
        ({"close": Close.FIN}, b""),
        ({"close": Close.HALF}, b""),
        (
            {"raw": b"HTTP/1.1 400 Bad Request\r\n", "close": Close.FIN},
            b"HTTP/1.1 400 Bad Request\r\n",
        ),
        ({"raw": b"250 ok\r\n", "repeat": 2, "close": Close.FIN}, b"250 ok\r\n250 ok\r\n"),
    ],
)
async def test_octets_and_fin_instead_of_a_server_hello(
    pair: KeyPair, protocol: Protocol, size: int, do: dict[str, Any], seen: bytes
) -> None:
    async with ruled(pair, protocol, rule(**do)) as served:
        client = await before_the_handshake(served, protocol)
        await says_hello(client, size)
        assert await client.rest() == seen


@BOTH
@pytest.mark.parametrize("do", [{}, {"tls": TlsFault(alert=40)}, {"raw": b"\x16"}])
async def test_a_reset(pair: KeyPair, protocol: Protocol, do: dict[str, Any]) -> None:
    async with ruled(pair, protocol, rule(close=Close.RST, **do)) as served:
        client = await before_the_handshake(served, protocol)
        client.writer.write(hello())
        with pytest.raises(ConnectionResetError):
            await client.rest()


@BOTH
@pytest.mark.parametrize(
    ("do", "seen"),
    [
        ({"silent": True}, b""),
        ({"deaf": True}, b""),
        ({"raw": b"\x16\3\3"}, b"\x16\3\3"),
        ({"tls": TlsFault(alert=40), "silent": True}, HANDSHAKE_FAILURE),
    ],
)
async def test_a_handshake_that_stalls_until_the_client_gives_up(
    pair: KeyPair, protocol: Protocol, do: dict[str, Any], seen: bytes
) -> None:
    timeouts = Timeouts(handshake=5, command=5)
    async with ruled(pair, protocol, rule(**do), timeouts=timeouts) as served:
        client = await before_the_handshake(served, protocol)
        client.writer.write(hello())
        assert await client.reader.readexactly(len(seen)) == seen
        await served.until(lambda: bool(served.told))
        (session,) = served.acceptor._sessions
        for seconds in (1_000, 2_000):
            session.check(asyncio.get_running_loop().time() + seconds)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        client.writer.close()
        await served.until(lambda: served.counts.active == 0)


@BOTH
async def test_a_client_that_says_nothing_is_no_hit(pair: KeyPair, protocol: Protocol) -> None:
    timeouts = Timeouts(handshake=0.05)
    async with ruled(pair, protocol, rule(close=Close.FIN), timeouts=timeouts) as served:
        client = await before_the_handshake(served, protocol)
        client.writer.write(hello()[:-1])
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert (await transcript(served))[-1] == "- timeout: in the handshake"
        assert served.told == []


@BOTH
async def test_a_client_that_goes_instead(pair: KeyPair, protocol: Protocol) -> None:
    async with ruled(pair, protocol, rule(close=Close.RST)) as served:
        client = await before_the_handshake(served, protocol)
        client.writer.write_eof()
        assert await client.rest() == b""
        assert (await transcript(served))[-1] == "- client closed"


@BOTH
@pytest.mark.parametrize(
    "do", [{}, {"delay": 0.05}, {"tls": TlsFault(maximum_version="1.2")}, {"read_rate": 1e5}]
)
async def test_a_handshake_that_goes_on(
    pair: KeyPair, protocol: Protocol, do: dict[str, Any]
) -> None:
    async with ruled(pair, protocol, rule(**do)) as served:
        client = await secured(await before_the_handshake(served, protocol))
        if protocol is Protocol.SMTPS:
            assert await client.reply() == "220 mx.example ESMTP mtad"
        assert (await client.ask("EHLO client.example")).startswith("250")
        tls = client.writer.get_extra_info("ssl_object")
        assert tls.version() == ("TLSv1.2" if "tls" in do else "TLSv1.3")
        await client.begin()
        assert (await client.send(b"x\r\n")).startswith("250")
        assert (await client.ask("QUIT")).startswith("221")


@BOTH
@pytest.mark.parametrize(("name", "version"), [("oops", "TLSv1.2"), ("", "TLSv1.3")])
async def test_what_is_counted_is_asked_with_the_hello(
    pair: KeyPair, protocol: Protocol, name: str, version: str
) -> None:
    fault = Do(tls=TlsFault(maximum_version="1.2"))
    counted = Rule("oops", (At(Moment.TLS),), fault, when=When(Chance(0.5)))
    async with ruled(pair, protocol, counted) as served:
        client = await before_the_handshake(served, protocol)
        shaking = asyncio.create_task(secured(client))
        await served.until(lambda: bool(served.told))
        (asked,) = served.told
        assert isinstance(asked, Weigh)
        served.questions.answered(Weighed(asked.ticket, name, 0.0))
        await shaking
        assert client.writer.get_extra_info("ssl_object").version() == version


@pytest.mark.parametrize("size", [1, 100_000])
async def test_a_hello_right_behind_a_proxy_header(pair: KeyPair, size: int) -> None:
    fault = rule(tls=TlsFault(alert=40))
    async with ruled(pair, Protocol.SMTPS, fault, proxy_from=("127.0.0.0/8",)) as served:
        client = await served.client()
        octets = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n" + hello()
        for at in range(0, len(octets), size):
            client.writer.write(octets[at : at + size])
            await asyncio.sleep(0)
        assert await client.rest() == HANDSHAKE_FAILURE
        assert (await ended(served)).peer == "192.0.2.1:1"


@BOTH
async def test_no_certificate_is_no_good_certificate(
    pair: KeyPair, protocol: Protocol, caplog: pytest.LogCaptureFixture
) -> None:
    async with ruled(pair, protocol, rule(tls=TlsFault(Flawed.EXPIRED))) as served:
        client = await before_the_handshake(served, protocol)
        client.writer.write(hello())
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert (await transcript(served))[-2:] == [
            "- rule: oops, tls: tls expired",
            "- internal error: there is no /nowhere/expired.pem, a certificate with a flaw",
        ]
        assert "rule.failed" in caplog.messages


async def test_the_transcript_of_an_alert(pair: KeyPair) -> None:
    async with ruled(pair, Protocol.SMTP, rule(tls=TlsFault(alert=40))) as served:
        client = await before_the_handshake(served, Protocol.SMTP)
        client.writer.write(hello())
        await client.rest()
        assert (await transcript(served))[-5:] == [
            "C STARTTLS",
            "S 220 2.0.0 Ready to start TLS",
            "- rule: oops, tls: tls alert 40",
            "S \x15\3\3\0\2\2\x28",
            "- broken off by a rule: fin",
        ]
        summary = await ended(served)
        assert (summary.tls_version, summary.failed) == ("", True)


@BOTH
async def test_a_rule_for_another_moment_leaves_the_handshake_alone(
    pair: KeyPair, protocol: Protocol
) -> None:
    async with ruled(pair, protocol, Rule("r", (At(Moment.QUIT),), Do(close=Close.RST))) as served:
        client = await secured(await before_the_handshake(served, protocol))
        assert client.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
